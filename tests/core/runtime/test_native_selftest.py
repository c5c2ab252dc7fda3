"""The kernels' own test program (csrc/selftest.cpp): for each library that is built, and for ARM under an emulator."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pass_core.runtime.native.build import find, folders
from pass_core.runtime.native.compiler import SOURCES, InstructionSet, find_compiler, instruction_sets

ARM = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
KERNELS = ("products_dense.cpp", "products_blocks.cpp")


def ran(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=SOURCES)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("one", instruction_sets(), ids=lambda one: one.name)
def test_products_of_the_built_library(one: InstructionSet, tmp_path: Path) -> None:
    found, compiler = find(one.name, folders()), find_compiler()
    if found.path is None or compiler is None:
        pytest.skip(found.reason or "there is no C++ compiler")
    program = str(tmp_path / "selftest")
    flags = [*one.flags, f"-DPASS_ISA={one.name}", "-O1", "-std=c++17", "-Wno-psabi", "-pthread"]
    link = [str(found.path), f"-Wl,-rpath,{found.path.parent}"]
    ran([*compiler, *flags, "selftest.cpp", *link, "-o", program])
    assert "all right" in ran([program])


@pytest.mark.skipif(None in ARM, reason="g++-aarch64-linux-gnu and qemu-user are not installed")
@pytest.mark.parametrize("one", instruction_sets("aarch64"), ids=lambda one: one.name)
def test_products_on_arm(one: InstructionSet, tmp_path: Path) -> None:
    compiler, emulator = ARM
    assert compiler
    assert emulator
    program = str(tmp_path / "selftest")
    flags = [*one.flags, f"-DPASS_ISA={one.name}", "-O1", "-std=c++17", "-Wno-psabi", "-static"]
    ran([compiler, *flags, "selftest.cpp", *KERNELS, "-o", program])
    assert "all right" in ran([emulator, program])
