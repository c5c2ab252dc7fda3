"""Exact bytes of single tokens, and text from a stream of them."""

from __future__ import annotations

import codecs
import json
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _byte_level_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level BPE vocabularies (GPT-2's table), reversed."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(b): b for b in printable}
    extra = 0
    for byte in range(256):
        if byte not in printable:
            table[chr(256 + extra)] = byte
            extra += 1
    return table


class TokenBytes:
    """What each token id adds to the text, as bytes; special tokens add nothing.

    Works for byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM), for SentencePiece with byte fallback (Llama 2, Mistral,
    Gemma) and, by decoding single tokens, for anything else.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special: set[int] = set()
        self._added: dict[int, str] = {}
        self._kind = "other"
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
            decoder = json.dumps(json.loads(backend.to_str()).get("decoder") or {})
            if '"ByteLevel"' in decoder:
                self._kind = "byte-level"
            elif '"ByteFallback"' in decoder or '"Metaspace"' in decoder:
                self._kind = "sentencepiece"

    def __call__(self, token_id: int) -> bytes:
        """The exact bytes that the token adds to the text."""
        found = self._cache.get(token_id)
        if found is None:
            found = self._cache[token_id] = self._bytes(token_id)
        return found

    def display(self, token_id: int) -> str:
        """The token alone, for a person: special tokens by name, incomplete characters as U+FFFD."""
        found = self._shown.get(token_id)
        if found is None:
            if token_id in self._special:
                found = self._added.get(token_id) or str(self._tokenizer.convert_ids_to_tokens(token_id))
            else:
                found = self(token_id).decode("utf-8", errors="replace")
            self._shown[token_id] = found
        return found

    def _bytes(self, token_id: int) -> bytes:
        if self._kind == "ids":
            return f"⟨{token_id}⟩".encode()
        if token_id in self._special:
            return b""
        if token_id in self._added:
            return self._added[token_id].encode()
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        if piece is None:  # ids beyond the tokenizer's vocabulary (padded embedding tables)
            return b""
        if self._kind == "byte-level":
            alphabet = _byte_level_alphabet()
            if all(c in alphabet for c in piece):
                return bytes(alphabet[c] for c in piece)
        elif self._kind == "sentencepiece":
            if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
                return bytes([int(piece[3:5], 16)])
            return str(piece).replace("▁", " ").encode()
        return str(self._tokenizer.decode([token_id])).encode()


class TextStream:
    """Characters from a stream of token bytes: each is given out with the token that completes it."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, data: bytes, *, last: bool = False) -> str:
        """The characters that become complete with `data`; with `last`, a broken rest becomes U+FFFD."""
        return self._decoder.decode(data, final=last)
