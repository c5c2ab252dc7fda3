"""Ready prompts (`resources/prompts/*.toml`) and presets: titles, kinds, texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pass_core.evaluation.prompts import BUILT_IN, PromptFileError, built_in

KINDS = BUILT_IN
GREETING = "Roman roads"
FALLBACK = "The Romans built their roads to last. A road began with a trench, and in the trench"


@dataclass(frozen=True, slots=True)
class ReadyPrompt:
    """A prompt to pick.

    Attributes:
        kind: prose, code or chat (chat prompts go through the model's chat template).
        title: short name; text: the prompt.
    """

    kind: str
    title: str
    text: str


@lru_cache(maxsize=1)
def ready_prompts() -> tuple[ReadyPrompt, ...]:
    """All ready prompts, by kind; files that are missing or not understood are left out."""
    out: list[ReadyPrompt] = []
    for kind in KINDS:
        try:
            prompts = built_in(kind)
        except (OSError, PromptFileError):
            continue
        out += [ReadyPrompt(kind, prompt.title, prompt.text) for prompt in prompts]
    return tuple(out)


def greeting() -> str:
    """The prompt editor's text at the first start: one that the default model continues at length."""
    prose = [p for p in ready_prompts() if p.kind == "prose"]
    chosen = next((p for p in prose if p.title == GREETING), prose[0] if prose else None)
    return chosen.text if chosen is not None else FALLBACK
