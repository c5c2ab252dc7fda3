"""Text from outside, made well-formed: arguments, files and other programs may hand over broken Unicode."""

from __future__ import annotations

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class NotText(ValueError):
    """The bytes are no text; the message says why."""


def well_formed(text: str) -> str:
    """The same text with U+FFFD for every lone surrogate; pairs of surrogates become their character.

    Bytes of arguments that are no UTF-8 arrive as lone surrogates, and so do halves of characters in JSON.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def encoding_of(beginning: bytes) -> str:
    """The codec that a file's first four bytes ask for; it drops the byte-order mark. UTF-8 without one."""
    named = next((encoding for mark, encoding in _MARKS if beginning.startswith(mark)), "utf-8")
    return "utf-8-sig" if named == "utf-8" else named


def decode(data: bytes) -> str:
    """Text of a file: UTF-8, or UTF-16 and UTF-32 by their byte-order mark; U+FFFD for single broken bytes.

    Raises:
        NotText: there is no mark and there are zero bytes, or more than one byte in ten is no UTF-8.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = data.decode(encoding, "replace").removeprefix("\ufeff")
            _require_few_broken(text, len(text))
            return text
    if b"\0" in data:
        raise NotText("it holds zero bytes, so it is binary, or text in an encoding without a mark")
    text = data.decode("utf-8", "replace")
    _require_few_broken(text, len(data))
    return text


def _require_few_broken(text: str, size: int) -> None:
    broken = text.count("\ufffd")
    if broken > max(3, size // 10):
        raise NotText(f"{broken} of its {size} bytes are no UTF-8, so it is binary, or text in another encoding")
