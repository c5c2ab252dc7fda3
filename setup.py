"""Compile the CPU libraries when the program is installed; everything else is in pyproject.toml.

Without a compiler the installation succeeds, too: PyTorch then computes.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
PLACE = Path("pass_core", "runtime", "native", "lib")
NO_BUILD = "PASS_NO_BUILD"
"""Set it to install without compiling."""


def _compiler() -> Any:
    """pass_core's compiler module by its path: the package itself needs more than an installation has."""
    path = ROOT / "pass_core" / "runtime" / "native" / "compiler.py"
    spec = importlib.util.spec_from_file_location("pass_native_compiler", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class BuildLibraries(build_ext):
    """Libraries for ctypes instead of extension modules: one build serves every Python."""

    def run(self) -> None:
        in_place = bool(self.inplace or getattr(self, "editable_mode", False))
        compiler = _compiler()
        folder = ROOT / PLACE if in_place else Path(self.build_lib) / PLACE
        self.built: list[str] = []
        ready = None if in_place else ROOT / PLACE
        if os.environ.get(NO_BUILD):
            return
        try:
            # In place for this processor; a wheel goes to others, too.
            built = compiler.build(folder, everything=not in_place, ready=ready, say=self._say)
        except (compiler.BuildError, OSError) as error:
            self._say(f"The compiled CPU library was left out: {error} PyTorch computes without it, slower.")
            return
        if not in_place:
            self.built = [str(path) for path in built]

    def _say(self, line: str) -> None:
        print(f"pass-playground: {line}", flush=True)

    def get_outputs(self) -> list[str]:
        return list(getattr(self, "built", ()))

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return []


class PlatformWheel(bdist_wheel):
    """A wheel for one platform and every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("pass_core.runtime.native.lib", sources=[])],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
)
