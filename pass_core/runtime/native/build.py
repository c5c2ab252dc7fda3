"""The compiled library: found, checked against its sources, chosen by what the processor has; never compiled here."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from pass_core.files import cache_folder
from pass_core.runtime.native import compiler

OFF_VARIABLE = "PASS_NO_NATIVE"
ISA_VARIABLE = "PASS_ISA"
_SLOWER = "PyTorch computes instead, slower."
_HOW = "Run “python -m pass_core build” to get it."
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search for the library found.

    Attributes:
        library: None where there is none to use.
        isa: the instruction set that it was compiled for, "" without a library.
        path: where it lies.
        reason: a plain sentence that says why there is none, and the way out; "" with a library.
    """

    library: ctypes.CDLL | None = None
    isa: str = ""
    path: Path | None = None
    reason: str = ""


def library() -> ctypes.CDLL | None:
    """The compiled library, or None where there is none to use (the caller falls back to PyTorch).

    Set PASS_NO_NATIVE=1 to do without it, PASS_ISA to a name of csrc/isa.txt to use that one.
    """
    return found().library


def reason_missing() -> str:
    """Why the library is not in use and how to get it, in a sentence or two; "" where it is in use."""
    return found().reason


@functools.cache
def found() -> Found:
    """Look for the library once a process."""
    if os.environ.get(OFF_VARIABLE):
        return Found(reason=f"The compiled library is switched off ({OFF_VARIABLE} is set). {_SLOWER}")
    answer = find(os.environ.get(ISA_VARIABLE, ""), folders())
    if answer.reason:
        log.info(answer.reason)
    return answer


def folders() -> tuple[Path, ...]:
    """Where libraries may lie: beside the program, then in the user's cache, where the program cannot be written."""
    return compiler.LIBRARIES, cache_folder() / "native"


def find(wanted: str, places: tuple[Path, ...]) -> Found:
    """The best library of these folders.

    Args:
        wanted: the only instruction set that may be used, "" for the best that the processor has.
    """
    sets = compiler.instruction_sets()
    if not sets:
        return Found(reason=f"There is no compiled code for {compiler.this_machine()} processors. {_SLOWER}")
    if wanted and wanted not in {s.name for s in sets}:
        names = ", ".join(s.name for s in sets)
        return Found(reason=f"{ISA_VARIABLE} is “{wanted}”, which is none of {names}. {_SLOWER}")
    here = _features(places)
    if here is None:
        return Found(reason=f"The compiled library is not on this machine. {_SLOWER} {_HOW}")
    fitting = [s for s in reversed(sets) if s.needs <= here and wanted in ("", s.name)]
    if not fitting:
        least = wanted or sets[0].name
        return Found(reason=f"The compiled library needs a processor with {least}, which this one has not. {_SLOWER}")
    stale: list[Path] = []
    for one in fitting:
        for folder in places:
            path = folder / one.path
            if not path.exists():
                continue
            # A stale one is not even loaded: the system would keep it under this name for the process's life.
            loaded = _load(path, one) if one.is_current(folder) else None
            if loaded is not None:
                return Found(loaded, one.name, path)
            stale.append(path)
    if stale:
        return Found(
            reason=f"The compiled library {stale[0].name} was made from other sources or is damaged. {_SLOWER} {_HOW}"
        )
    return Found(reason=f"The compiled library is not on this machine. {_SLOWER} {_HOW}")


def _features(places: tuple[Path, ...]) -> frozenset[str] | None:
    for folder in places:
        try:
            return compiler.processor_features(folder)
        except (OSError, AttributeError):
            continue
    return None


def _load(path: Path, one: compiler.InstructionSet) -> ctypes.CDLL | None:
    """The library, or None where it is damaged or was made from other sources than these."""
    try:
        loaded = ctypes.CDLL(str(path))
        for name in ("pass_abi_version", "pass_isa"):
            getattr(loaded, name).restype = ctypes.c_char_p
        made_from, isa = loaded.pass_abi_version().decode(), loaded.pass_isa().decode()
    except (OSError, AttributeError) as error:
        log.warning("%s cannot be loaded: %s", path, error)
        return None
    return loaded if made_from == one.version and isa == one.name else None
