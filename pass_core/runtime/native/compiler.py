"""Compile the C++ sources: one library for each instruction set, and one that says what the processor has.

Setup runs this file when the program is installed, and `python -m pass_core build` later. It imports the standard
library alone, for an installation has nothing else yet.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
LIBRARIES = Path(__file__).parent / "lib"
"""Where libraries are built to, and looked for first."""
EXTRA = 'pip install "pass-playground[compiler]"'
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-pthread", "-Wno-psabi")
_MSVC_FLAGS = ("/nologo", "/O2", "/std:c++17", "/EHsc")
UNITS = ("api.cpp", "algorithm_api.cpp", "products_dense.cpp", "products_blocks.cpp", "version.cpp")
"""What is compiled, side by side where there are cores; the two of products take longest."""
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_TIMEOUT = 900.0
Say = Callable[[str], None]


class BuildError(RuntimeError):
    """Nothing was built; the message is a plain sentence with the way out."""


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """A line of csrc/isa.txt.

    Attributes:
        name: what `pass_isa()` of its library says.
        machine: the architecture, "x86_64" or "aarch64".
        flags: the compiler's, for GCC and Clang.
    """

    name: str
    machine: str
    flags: tuple[str, ...]

    @property
    def needs(self) -> frozenset[str]:
        """What the processor must have, in the words of `processor_features`."""
        words: list[str] = []
        for flag in self.flags:
            if flag.startswith("-march="):
                words += flag.split("+")[1:]
            elif flag.startswith("-m"):
                words.append(flag.removeprefix("-m"))
        return frozenset(words)

    @property
    def path(self) -> str:
        """The file name of its library."""
        return f"pass_{self.name}" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")

    @property
    def units(self) -> list[Path]:
        """The sources that are compiled for it."""
        if self == PROCESSOR:
            return [SOURCES / "processor" / "processor.cpp", SOURCES / "version.cpp"]
        return [SOURCES / name for name in UNITS]

    @property
    def version(self) -> str:
        """What `pass_abi_version()` of a library says that was made from these sources with these flags.

        v and 16 hex digits: with a letter first, so that the compiler reads it as a name.
        """
        digest = hashlib.sha256(" ".join((self.name, *_FLAGS, *self.flags)).encode())
        parts = self.units if self == PROCESSOR else [*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]
        for path in sorted(parts):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return "v" + digest.hexdigest()[:16]

    def is_current(self, folder: Path) -> bool:
        """Whether the folder has its library, made from these sources."""
        try:
            return self.version.encode() in (folder / self.path).read_bytes()
        except OSError:
            return False


PROCESSOR = InstructionSet("processor", "", ())
"""The library that says what the processor has; it runs on every one."""


def instruction_sets(machine: str | None = None) -> tuple[InstructionSet, ...]:
    """The sets of an architecture (by default this one), the least first."""
    wanted = machine or this_machine()
    found: list[InstructionSet] = []
    for line in (SOURCES / "isa.txt").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words and not line.startswith("#") and words[1] == wanted:
            found.append(InstructionSet(words[0], words[1], tuple(words[2:])))
    return tuple(found)


def this_machine() -> str:
    """The architecture that this Python runs on, as isa.txt names it."""
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


def processor_features(folder: Path) -> frozenset[str]:
    """What the processor has, in GCC's words ("avx2", "dotprod").

    Raises:
        OSError: the library that reads it is not in the folder, or cannot be loaded.
    """
    ask = ctypes.CDLL(str(folder / PROCESSOR.path)).pass_processor
    ask.restype = ctypes.c_char_p
    return frozenset(ask().decode().split())


def find_compiler() -> tuple[str, ...] | None:
    """The command of a C++ compiler: $CXX, the system's, or the `ziglang` package; None where there is none."""
    named = shlex.split(os.environ.get("CXX", ""))
    system = ("clang-cl", "clang++", "g++") if os.name == "nt" else ("g++", "clang++", "c++")
    for command in (named, *([name] for name in system)):
        if command and shutil.which(command[0]):
            return tuple(command)
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "c++")
    return None


def build(
    folder: Path = LIBRARIES,
    *,
    names: Iterable[str] = (),
    everything: bool = False,
    ready: Path | None = None,
    say: Say = print,
) -> list[Path]:
    """Compile what is missing or older than the sources, into `folder`.

    A compiler that does not know an instruction set leaves that one out.

    Args:
        names: instruction sets; by default the best one that this processor has and the compiler knows.
        everything: all sets of the architecture, as a wheel for other machines needs them.
        ready: a folder whose libraries are taken where they are of these sources.
        say: gets each line of progress.

    Returns:
        the libraries, the processor's among them.

    Raises:
        BuildError: no compiler, no sources for this machine, an unknown name, or nothing could be compiled.
    """
    names, sets = frozenset(names), instruction_sets()
    if not sets:
        raise BuildError(f"There is no compiled code for {this_machine()} processors: PyTorch computes there.")
    if names - {s.name for s in sets}:
        raise BuildError(f"“{min(names)}” is no instruction set here. Choose {', '.join(s.name for s in sets)}.")
    folder.mkdir(parents=True, exist_ok=True)
    _make([PROCESSOR], folder, ready, say)
    here = processor_features(folder)
    if everything:
        names = frozenset(s.name for s in sets)
    if names:
        return _make([PROCESSOR, *(s for s in sets if s.name in names)], folder, ready, say)
    failed: list[BuildError] = []
    for one in reversed([s for s in sets if s.needs <= here]):
        try:
            return _make([PROCESSOR, one], folder, ready, say)
        except BuildError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    raise BuildError("This processor has none of the instruction sets that there is code for: PyTorch computes.")


def _make(chosen: Sequence[InstructionSet], folder: Path, ready: Path | None, say: Say) -> list[Path]:
    """Libraries of these sets in `folder`: those that are current, copied, or compiled."""
    missing: list[InstructionSet] = []
    for one in chosen:
        if one.is_current(folder):
            if one != PROCESSOR:
                say(f"{one.name}: up to date")
        elif ready is not None and one.is_current(ready):
            shutil.copy2(ready / one.path, folder / one.path)
            say(f"{one.name}: copied")
        else:
            missing.append(one)
    if missing:
        _compile(missing, folder, say)
    return [folder / one.path for one in chosen if one.is_current(folder)]


def _compile(missing: Sequence[InstructionSet], folder: Path, say: Say) -> None:
    compiler = find_compiler()
    if compiler is None:
        raise BuildError(f"There is no C++ compiler. Install g++ or clang, or run {EXTRA}, then build again.")
    failed: list[BuildError] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        command = _Command(compiler, Path(work))
        jobs = [(one, [pool.submit(command.unit, unit, one) for unit in one.units]) for one in reversed(missing)]
        for one, objects in jobs:
            try:
                command.library(folder / one.path, [job.result() for job in objects])
            except BuildError as error:
                say(f"{one.name}: left out. {error}")
                failed.append(error)
                continue
            if one != PROCESSOR:
                say(f"{one.name}: compiled ({time.monotonic() - started:.0f} s)")
    if len(failed) == len(missing):
        raise failed[0]


class _Command:
    """One compiler at work in a temporary folder."""

    def __init__(self, compiler: Sequence[str], work: Path) -> None:
        self._compiler, self._work = compiler, work
        # clang-cl and cl take these. Nobody has tried Windows, and cl does not know the sources' vector types.
        self._msvc = Path(compiler[0]).stem.lower() in ("cl", "clang-cl")
        # zig compiles for the processor that it runs on by default.
        self._common = (*_FLAGS, "-mcpu=baseline") if "ziglang" in compiler else _FLAGS

    def unit(self, source: Path, chosen: InstructionSet) -> Path:
        """Compile one source to an object file."""
        target = self._work / f"{chosen.name}-{source.stem}.o"
        definitions = (f"PASS_ISA={chosen.name}", f"PASS_SOURCES={chosen.version}")
        if self._msvc:
            wide = "/arch:AVX512" if "avx512f" in chosen.needs else "/arch:AVX2"
            arguments = [*_MSVC_FLAGS, *([wide] if chosen.flags else []), *(f"/D{d}" for d in definitions), "/c"]
            arguments += [source.name, f"/Fo{target}"]
        else:
            arguments = [*self._common, *chosen.flags, *(f"-D{d}" for d in definitions)]
            arguments += ["-c", source.name, "-o", str(target)]
        self._run(arguments, source.parent)
        return target

    def library(self, target: Path, objects: Sequence[Path]) -> None:
        """Link object files, and put the library in its place in one step."""
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        paths = [str(o) for o in objects]
        link = ["/nologo", "/LD", *paths, f"/Fe{temporary}"] if self._msvc else None
        try:
            self._run(link or ["-shared", "-pthread", *paths, "-o", str(temporary)], self._work)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def _run(self, arguments: Sequence[str], folder: Path) -> None:
        try:
            done = subprocess.run(
                [*self._compiler, *arguments], cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildError(f"The compiler {self._compiler[0]} failed: {error}") from error
        if done.returncode:
            said = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
            reason = said[0].strip() if said else f"it ended with {done.returncode}"
            raise BuildError(f"The compiler {self._compiler[0]} failed: {reason}")
