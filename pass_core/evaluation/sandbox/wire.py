"""What passes between judge and program: length-prefixed frames of JSON, and plain Python values in them.

A value of any other type arrives as `Opaque`, which equals nothing: a program cannot hand the tests an object of its
own (one whose `__eq__` always says yes).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any, cast

MAX_FRAME = 4 * 2**20
"""Bytes of one message. A longer one ends the program."""
MAX_ITEMS = 100_000
"""Items that are taken from an iterator."""
_LENGTH = struct.Struct(">I")


class WireError(Exception):
    """The other side sent what is no message: too long, cut short, or not JSON of the agreed form."""


class Opaque:
    """Stands for a value that is no plain data. It equals nothing, itself included."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"<{self.name}: no plain data>"


def send(pipe: IO[bytes], message: dict[str, Any]) -> None:
    """Write one frame.

    Raises:
        WireError: the message is longer than a frame may be.
        OSError: the other side is gone.
    """
    body = json.dumps(message).encode()
    if len(body) > MAX_FRAME:
        raise WireError(f"a value of more than {MAX_FRAME >> 20} MB")
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, Any] | None:
    """Read one frame; None at the end of the pipe. Never reads more than `MAX_FRAME` bytes.

    Raises:
        WireError: no frame of the agreed form.
    """
    head = pipe.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise WireError("a message that was cut short")
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME:
        raise WireError(f"an answer of more than {MAX_FRAME >> 20} MB")
    body = pipe.read(length)
    if len(body) < length:
        raise WireError("a message that was cut short")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise WireError("an answer that is no message") from None
    if not isinstance(message, dict):
        raise WireError("an answer that is no message")
    return message


def pack(value: object) -> Any:
    """A value as JSON that `unpack` turns into an equal one; subclasses become the plain type that they extend.

    Raises:
        RecursionError: nested too deeply, or in itself.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        return ["int", hex(int(value))]  # decimal digits of long integers are limited (CVE-2020-10735)
    if isinstance(value, float):
        return ["float", float(value)]
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, str):
        return ["str", str.__str__(value)]
    if isinstance(value, (bytes, bytearray)):
        return ["bytearray" if isinstance(value, bytearray) else "bytes", bytes(value).hex()]
    if isinstance(value, dict):
        return ["dict", [[pack(k), pack(v)] for k, v in dict.items(value)]]
    if isinstance(value, (list, tuple, set, frozenset)):
        name = next(name for name, kind in _COLLECTIONS.items() if isinstance(value, kind))
        return [name, [pack(item) for item in cast("Collection[object]", value)]]
    if isinstance(value, range):
        return ["range", *(hex(end) for end in (value.start, value.stop, value.step))]
    if isinstance(value, Iterator):
        items = [pack(item) for item, _ in zip(value, range(MAX_ITEMS + 1), strict=False)]
        if len(items) <= MAX_ITEMS:
            return ["iterator", items]
    return ["opaque", type(value).__name__[:100]]


_COLLECTIONS: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_UNPACK: dict[str, Callable[..., Any]] = {
    "int": lambda digits: int(digits, 16),
    "float": float,
    "complex": complex,
    "str": str,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda *ends: range(*(int(end, 16) for end in ends)),
    "dict": lambda pairs: {unpack(k): unpack(v) for k, v in pairs},
    "iterator": lambda items: iter([unpack(item) for item in items]),
    "opaque": lambda name: Opaque(str(name)),
    **{name: (lambda items, kind=kind: kind([unpack(i) for i in items])) for name, kind in _COLLECTIONS.items()},
}


def unpack(raw: Any) -> Any:
    """The value that was packed: built from plain types only.

    Raises:
        WireError: not what `pack` makes.
    """
    if raw is None or isinstance(raw, bool):
        return raw
    try:
        name, *parts = raw
        return _UNPACK[name](*parts)
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError, MemoryError):
        raise WireError("an answer that is no plain value") from None
