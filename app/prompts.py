"""Ready prompts (`resources/prompts/*.toml`) and presets: titles, kinds, texts."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

KINDS = ("prose", "code", "chat")
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
    folder = resources.files("resources") / "prompts"
    out: list[ReadyPrompt] = []
    for kind in KINDS:
        try:
            raw: dict[str, Any] = tomllib.loads((folder / f"{kind}.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError):
            continue
        for entry in raw.get("prompt", []):
            text = str(entry.get("text", ""))
            if text:
                out.append(ReadyPrompt(kind, str(entry.get("title") or _title_of(text)), text))
    return tuple(out)


def greeting() -> str:
    """The text that stands in the prompt editor at the first start: one that the default model has much to say on."""
    prose = [p for p in ready_prompts() if p.kind == "prose"]
    chosen = next((p for p in prose if p.title == GREETING), prose[0] if prose else None)
    return chosen.text if chosen is not None else FALLBACK


def _title_of(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 48 else words[:47].rsplit(" ", 1)[0] + "…"
