"""Exact bytes of single tokens, and text from a stream of them."""

from __future__ import annotations

import codecs
import contextlib
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

_LETTER = "x"  # plays the text around a piece
_AS_HEX = "pass.hex"


def _hex(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"<0x{b:02X}>" for b in error.object[error.start : error.end]), error.end


codecs.register_error(_AS_HEX, _hex)


@lru_cache(maxsize=1)
def _byte_level_alphabet() -> dict[str, int]:
    """The byte behind each character of byte-level BPE vocabularies (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(b): b for b in printable}
    extra = 0
    for byte in range(256):
        if byte not in printable:
            table[chr(256 + extra)] = byte
            extra += 1
    return table


class TokenBytes:
    """The bytes that each token id adds inside a text; special tokens add nothing.

    Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and the byte tokens of SentencePiece (Llama 2, Mistral, Gemma) give
    their exact bytes, also parts of characters. All other pieces go through the tokenizer's own decoder, between two
    letters: so a WordPiece, a `</w>` or a word of a WordLevel vocabulary brings its space along.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special: set[int] = set()
        self._added: dict[int, str] = {}
        self._kind = "other"
        self._decoder: Any = None
        self._tail = ""
        self._cache: dict[int, bytes] = {}
        self._shown: dict[int, str] = {}
        if tokenizer is None:
            self._kind = "ids"
            return
        self._special = set(tokenizer.all_special_ids)
        for token_id, added in getattr(tokenizer, "added_tokens_decoder", {}).items():
            self._added[int(token_id)] = str(getattr(added, "content", added))
            if getattr(added, "special", False):
                self._special.add(int(token_id))
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None:
            self._decoder = backend.decoder
            kinds = json.dumps(json.loads(backend.to_str()).get("decoder") or {})
            self._kind = "byte-level" if '"ByteLevel"' in kinds else "pieces"
            self._tail = self._decoded([_LETTER, _LETTER])[len(_LETTER) :]

    def special(self, texts: Sequence[str]) -> frozenset[int]:
        """Ids of the special tokens that are one of these texts: they add nothing that could be searched."""
        return frozenset(i for i, text in self._added.items() if i in self._special and text in texts)

    def __call__(self, token_id: int) -> bytes:
        """The exact bytes that the token adds to the text."""
        found = self._cache.get(token_id)
        if found is None:
            found = self._cache[token_id] = self._bytes(token_id)
        return found

    def whole(self, token_ids: Sequence[int]) -> bytes:
        """The bytes of a text that begins and ends with these tokens: what `tokenizer.decode` gives as characters.

        At the very start or end a decoder may leave out a space that the token has inside a text.
        """
        ids = [i for i in token_ids if i not in self._special]
        out = [self(i) for i in ids]
        if ids and self._kind == "pieces":
            first, last = self._plain(ids[0]), self._plain(ids[-1])
            if len(ids) == 1 and first is not None:
                return self._decoded([first]).encode()
            if first is not None:
                out[0] = self._decoded([first, _LETTER]).removesuffix(self._tail).encode()
            if last is not None:
                out[-1] = self._decoded([_LETTER, last]).removeprefix(_LETTER).encode()
        return b"".join(out)

    def display(self, token_id: int) -> str:
        """The token alone, for a person: special tokens by name, bytes that are no whole character as `<0xD7>`."""
        found = self._shown.get(token_id)
        if found is None:
            if token_id in self._special:
                found = self._added.get(token_id) or str(self._tokenizer.convert_ids_to_tokens(token_id))
            else:
                found = self(token_id).decode("utf-8", errors=_AS_HEX)
            self._shown[token_id] = found
        return found

    def _bytes(self, token_id: int) -> bytes:
        if self._kind == "ids":
            return f"⟨{token_id}⟩".encode()
        if token_id in self._special:
            return b""
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        if piece is None:  # ids beyond the tokenizer's vocabulary (padded embedding tables)
            return b""
        if self._kind == "byte-level":
            if token_id in self._added:
                return self._added[token_id].encode()
            alphabet = _byte_level_alphabet()
            if all(c in alphabet for c in piece):
                return bytes(alphabet[c] for c in piece)
        elif self._kind == "pieces":
            byte = _byte_of(piece) if self._falls_back else None
            if byte is not None:
                return bytes([byte])
            between = self._decoded([_LETTER, piece, _LETTER])
            if between.startswith(_LETTER) and between.endswith(self._tail):
                return between[len(_LETTER) : len(between) - len(self._tail)].encode()
        return str(self._tokenizer.decode([token_id])).encode()

    @cached_property
    def _falls_back(self) -> bool:
        """Whether `<0xNN>` means a byte."""
        return self._decoder is not None and self._decoder.decode(["<0x41>"]) == "A"

    def _plain(self, token_id: int) -> str | None:
        """The token's piece; None for bytes and for ids without one."""
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        return None if piece is None or (self._falls_back and _byte_of(piece) is not None) else str(piece)

    def _decoded(self, pieces: list[str]) -> str:
        """What the tokenizer makes of pieces; without a decoder it puts spaces between them."""
        text = " ".join(pieces) if self._decoder is None else str(self._decoder.decode(pieces))
        clean = getattr(self._tokenizer, "clean_up_tokenization_spaces", False)
        return str(self._tokenizer.clean_up_tokenization(text)) if clean else text


def _byte_of(piece: str) -> int | None:
    """The byte that SentencePiece writes as `<0xNN>`."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        with contextlib.suppress(ValueError):
            return int(piece[3:5], 16)
    return None


class TextStream:
    """Characters from a stream of token bytes: each is given out with the token that completes it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, data: bytes, *, last: bool = False) -> str:
        """The characters that become complete with `data`; with `last`, a broken rest becomes U+FFFD."""
        return self._decoder.decode(data, final=last)
