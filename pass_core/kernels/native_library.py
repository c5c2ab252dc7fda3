"""The signatures of the compiled library's algorithms, in one table, and the check that they are the library's.

The loader refuses a library of other sources (`pass_abi_version`). This module compares names, order, types and sizes
of fields, in which the sources could differ from this table.
"""

from __future__ import annotations

import ctypes
from typing import Any

from pass_core.kernels.interface import GrowRequest, PlanRequest, WalkRequest
from pass_core.kernels.layout import Block, block, request_block

TopRequest = block(
    "TopRequest",
    (
        ("stride", "int64_t"),
        ("rows", "int32_t"),
        ("vocabulary", "int32_t"),
        ("count", "int32_t"),
        ("reserved", "int32_t"),
    ),
)
TopArrays = block(
    "TopArrays", (("logits", "const float*"), ("which", "const int32_t*"), ("ids", "int64_t*"), ("values", "float*"))
)
WalkBlock = request_block(WalkRequest)
WalkArrays = block(
    "WalkArrays",
    (
        ("stride", "int64_t"),
        ("vocabulary", "int32_t"),
        ("drafts", "int32_t"),
        ("logits", "const float*"),
        ("tokens", "const int64_t*"),
        ("parents", "const int32_t*"),
        ("rows", "int32_t*"),
        ("samples", "int64_t*"),
        ("ids", "int64_t*"),
        ("values", "float*"),
        ("kept", "int32_t*"),
    ),
)
GrowBlock = request_block(GrowRequest)
GrowArrays = block(
    "GrowArrays",
    (
        ("stride", "int64_t"),
        ("text_length", "int64_t"),
        ("depth", "int64_t"),
        ("vocabulary", "int64_t"),
        ("plain", "int64_t"),
        ("states", "const float*"),
        ("logits", "const float*"),
        ("at", "const int32_t*"),
        ("steps", "const int32_t*"),
        ("shares", "const double*"),
        ("text", "const int64_t*"),
        ("columns", "const int64_t*"),
        ("table", "const uint16_t*"),
        ("head", "const uint16_t*"),
        ("tokens", "int64_t*"),
        ("parents", "int32_t*"),
        ("depths", "int32_t*"),
        ("source", "int32_t*"),
        ("reaches", "double*"),
        ("ids", "int64_t*"),
        ("log_p", "double*"),
    ),
)
PlanBlock = request_block(PlanRequest)
PlanArrays = block(
    "PlanArrays",
    (
        ("drafts", "int32_t"),
        ("steps", "int32_t"),
        ("tried", "int32_t"),
        ("reserved", "int32_t"),
        ("reaches", "const double*"),
        ("parents", "const int32_t*"),
        ("hits", "const double*"),
        ("seconds", "const double*"),
        ("counts", "const int32_t*"),
        ("chains", "int32_t*"),
        ("value", "double*"),
    ),
)
BLOCKS = (TopRequest, TopArrays, WalkBlock, WalkArrays, GrowBlock, GrowArrays, PlanBlock, PlanArrays)

_ADDRESS, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


def _blocks(*kinds: type[Block]) -> tuple[Any, ...]:
    return tuple(ctypes.POINTER(kind) for kind in kinds)


SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    # name: (result, parameters)
    "pass_layout": (ctypes.c_char_p, (_INT,)),
    "pass_top_block": (_INT, ()),
    "pass_small_block": (_INT, ()),
    "pass_top": (_INT, _blocks(TopRequest, TopArrays)),
    "pass_walk": (_INT, _blocks(WalkBlock, WalkArrays)),
    "pass_grow": (_INT, (_ADDRESS, _ADDRESS, *_blocks(GrowBlock, GrowArrays))),
    "pass_plan": (_INT, _blocks(PlanBlock, PlanArrays)),
    # hidden, inner, steps, epsilon, from_hidden, from_token, out, step
    "pass_sampler_new": (_ADDRESS, (_INT, _INT, _INT, ctypes.c_float, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS)),
    "pass_bigrams_new": (_ADDRESS, (_INT, _LONG, _ADDRESS)),  # hidden, known, shifts
    "pass_head_free": (None, (_ADDRESS,)),
    # model, head, shortlist, table, state, token, depth, out, logits
    "pass_guess_start": (_ADDRESS, (*[_ADDRESS] * 5, _LONG, _INT, _ADDRESS, _ADDRESS)),
    "pass_guess_finish": (None, (_ADDRESS, _ADDRESS)),  # model, guess
}


class LibraryMismatch(RuntimeError):
    """The compiled library is another version's; the message says so."""


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the table's signatures.

    Raises:
        LibraryMismatch: it was built from other sources.
    """
    try:
        for name, (result, parameters) in SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, parameters
    except AttributeError as error:
        raise LibraryMismatch("The compiled library is older than this program: install again.") from error
    for index, kind in enumerate(BLOCKS):
        theirs = (library.pass_layout(index) or b"").decode()
        if theirs != kind.described:
            raise LibraryMismatch(f"The compiled library and this program differ in {kind.__name__}: install again.")
    return library
