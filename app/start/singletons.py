"""Keeps None, True and False alive on Python 3.11.

PySide6 6.12 gives back one reference too many to True with every `Signal.emit`, and to None with some calls (such as
`QPainter.drawPolyline` of a list). Since Python 3.12 these objects are immortal and nothing happens; on 3.11 the count
reaches zero after some minutes of streaming, and the interpreter ends with “deallocating True or False”. A head start
that no session uses up makes them as good as immortal there, too.
"""

from __future__ import annotations

import ctypes
import sys

HEAD_START = 1 << 40


def protect_singletons() -> None:
    """Raise the reference counts; does nothing on interpreters where these objects are immortal. Idempotent."""
    if sys.version_info >= (3, 12) or sys.implementation.name != "cpython":
        return
    for singleton in (None, True, False):
        if sys.getrefcount(singleton) < HEAD_START // 2:
            # The reference count is the first field of every object.
            ctypes.c_ssize_t.from_address(id(singleton)).value += HEAD_START
