"""Compile the C++ source once per machine with the system's compiler, and load it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
from pathlib import Path

from pass_core.files import cache_folder

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "csrc" / "api.cpp"
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread", "-Wno-psabi")
_TIMEOUT = 120.0
log = logging.getLogger(__name__)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None where this machine cannot build it (the caller falls back to PyTorch).

    Set PASS_NO_NATIVE=1 to do without it.
    """
    compiler = _compiler()
    if compiler is None or os.environ.get("PASS_NO_NATIVE"):
        return None
    try:
        target = _target(compiler)
        if not target.exists():
            _compile(compiler, target)
        return ctypes.CDLL(str(target))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the native runtime could not be built, using PyTorch instead: %s", error)
        return None


def _compiler() -> str | None:
    if os.name != "posix":
        return None
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if name and shutil.which(name):
            return name
    return None


def _target(compiler: str) -> Path:
    """Where the library of this source, compiler and processor is kept."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=_TIMEOUT, check=True).stdout
    digest = hashlib.sha256()
    folder = _SOURCE.parent
    sources = [path.read_bytes() for path in sorted((*folder.glob("*.cpp"), *folder.glob("*.h")))]
    for part in (*sources, version, " ".join(_FLAGS).encode(), _processor().encode()):
        digest.update(hashlib.sha256(part).digest())
    return cache_folder() / "native" / f"native-{digest.hexdigest()[:16]}.so"


def _processor() -> str:
    """The processor's features: -march=native code of one machine may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    except OSError:
        return platform.platform() + platform.processor()


def _compile(compiler: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        subprocess.run(
            [compiler, *_FLAGS, str(_SOURCE), "-o", str(temporary)], capture_output=True, timeout=_TIMEOUT, check=True
        )
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
