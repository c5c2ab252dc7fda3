"""Numbers and tokens as a person reads them."""

from __future__ import annotations

import unicodedata

from pass_core.decoding.events import Candidate, DraftNode, TokenEvent
from pass_core.settings import RunSettings, Strategy
from pass_core.strategy_names import strategy_text

_VISIBLE = {"\n": "⏎", "\r": "␍", "\t": "⇥", " ": "·", "\u00a0": "⍽", "\u200b": "[ZWSP]", "\ufeff": "[BOM]"}


_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_ISOLATE, _END_ISOLATE = "\u2068", "\u2069"


def visible(text: str) -> str:
    """`text` with every invisible character made visible (space ·, newline ⏎, tab ⇥, others by code point).

    Text with letters that run from right to left is isolated, so that figures beside it keep their places.
    """
    out: list[str] = []
    for character in text:
        if character in _VISIBLE:
            out.append(_VISIBLE[character])
        elif unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp"):
            out.append(f"[U+{ord(character):04X}]")
        else:
            out.append(character)
    if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text):
        return _ISOLATE + "".join(out) + _END_ISOLATE
    return "".join(out)


def token_text(token: TokenEvent | DraftNode | Candidate) -> str:
    """A token's own text made visible; the bytes of a character that later tokens complete as `<0xD7>`."""
    if not token.text and isinstance(token, TokenEvent):
        return "".join(f"<0x{b:02X}>" for b in token.bytes) or "(no text)"
    return visible(token.text)


def count_of(count: int, word: str) -> str:
    """1, "call" -> "1 call"; 2, "call" -> "2 calls"."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def sentence_case(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def bytes_text(count: float) -> str:
    """1234567 -> "1.2 MB" (decimal units, as file managers show them)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def count_text(count: float) -> str:
    """134515008 -> "134.5 M"."""
    for unit in ("", " k", " M", " B"):
        if count < 1000 or unit == " B":
            return f"{count:.0f}{unit}" if unit == "" or count >= 1000 else f"{count:.1f}{unit}"
        count /= 1000
    raise AssertionError


def seconds_text(seconds: float) -> str:
    """Time as a person says it: 0.0123 -> "12 ms", 75 -> "1 min 15 s"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    return f"{minutes // 60} h {minutes % 60} min"


def probability_text(p: float) -> str:
    """0.1234 -> "12.3 %", tiny ones as "< 0.1 %"."""
    if 0 < p < 0.001:
        return "< 0.1 %"
    return f"{100 * p:.1f} %"


def changes_text(times: int) -> str:
    """0 -> "", 2 -> "changed twice"."""
    return {0: "", 1: "changed once", 2: "changed twice"}.get(times, f"changed {times} times")


def settings_text(settings: RunSettings) -> str:
    """Settings in one line: "PASS fused, k 5 auto, temperature 0.8, top-k 10, coupled"."""
    auto = " auto" if settings.auto and settings.strategy is Strategy.FUSED else ""
    parts = [strategy_text(settings.strategy, settings.k) + auto]
    parts += settings.sampling.described
    if settings.strategy.uses_lookahead:
        parts.append(settings.verification.value)
    if settings.prompt_lookup:
        parts.append("prompt lookup")
    if settings.disabled_parts:
        parts.append("without " + ", ".join(sorted(p.value for p in settings.disabled_parts)))
    return ", ".join(parts)
