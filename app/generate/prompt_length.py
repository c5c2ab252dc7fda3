"""How many tokens a prompt has, and a prompt that is too long without its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pass_core.prompt import Prompt, PromptError

if TYPE_CHECKING:
    from pass_core.engine import Engine

COUNTED_CHARACTERS = 40_000


def prompt_tokens(engine: Engine | None, text: str, *, chat: bool) -> int | None:
    """Tokens that the model reads for `text`; None where that is not known, or would take long to count."""
    if engine is None or engine.model.tokenizer is None or len(text) > COUNTED_CHARACTERS:
        return None
    if not text:
        return 0
    try:
        return len(engine.encode(Prompt(text, chat=chat)))
    except PromptError:
        return None


def without_start(engine: Engine, text: str, *, chat: bool, new_tokens: int) -> str:
    """The end of `text` that leaves room for `new_tokens` (at most half of the context), from a word's beginning.

    "" where nothing of it fits.
    """
    limit = engine.model.capabilities.context_length
    room = limit - min(new_tokens, limit // 2)

    def fits(start: int) -> bool:
        return len(engine.encode(Prompt(text[start:], chat=chat))) <= room

    low, high = 0, len(text)  # the least start that fits lies between them: each character adds tokens or none
    while low < high:
        middle = (low + high) // 2
        if text[middle:] and not fits(middle):
            low = middle + 1
        else:
            high = middle
    start = low
    if 0 < start < len(text) and not text[start - 1].isspace():
        start = next((i for i in range(start, len(text)) if text[i].isspace()), start)
    return text[start:].lstrip() if start else text
