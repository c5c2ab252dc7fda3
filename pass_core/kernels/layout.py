"""Parameter blocks as the compiled library has them: built from one list of fields, and compared with the library's."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Any

_TYPES: dict[str, Any] = {
    "uint64_t": ctypes.c_uint64,
    "int64_t": ctypes.c_int64,
    "int32_t": ctypes.c_int32,
    "double": ctypes.c_double,
    "float": ctypes.c_float,
}


class Block(ctypes.Structure):
    """A parameter block; `described` says what the library must say of its own."""

    described: str


def block(name: str, fields: tuple[tuple[str, str], ...]) -> type[Block]:
    """A block of (name, type in C) fields; pointers are addresses."""
    kinds = tuple((field, ctypes.c_void_p if kind.endswith("*") else _TYPES[kind]) for field, kind in fields)
    made: type[Block] = type(name, (Block,), {"_fields_": kinds})
    listed = "".join(f"{kind} {field};" for field, kind in fields)
    made.described = f"{name}:{ctypes.sizeof(made)}:{listed}"
    return made


def request_block(request: type[Any]) -> type[Block]:
    """The block of a request's scalars (`pass_core.kernels.interface`)."""
    scalars = tuple((f.name, f.metadata["c"]) for f in dataclasses.fields(request) if "c" in f.metadata)
    return block(request.__name__, scalars)


def image(kind: type[Block], request: Any) -> Block:
    """A request's scalars in a block of this kind."""
    return kind(*(getattr(request, name) for name, *_ in kind._fields_))
