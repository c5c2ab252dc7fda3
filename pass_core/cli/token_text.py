"""Streaming text from step events: plain for pipes, coloured and underlined by provenance for terminals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from pass_core.decoding.events import DraftSource, Provenance, StepEvent, TokenEvent

if TYPE_CHECKING:
    from rich.console import Console

# Middle tones that read on dark and light terminals; underline and weight differ as well.
STYLES: dict[str, str] = {
    "model": "none",
    "accepted": "color(36) underline",
    "prompt lookup": "color(136) italic underline",
    "corrected": "color(167) underline2",
    "bonus": "color(62) bold underline",
}
_MEANINGS = {
    "model": "the model's own sample",
    "accepted": "draft kept",
    "prompt lookup": "draft from the text, kept",
    "corrected": "draft rejected, the model's token instead",
    "bonus": "one more after all drafts were kept",
}
# Control characters but tab and line feed: a model must not command the terminal.
_CONTROLS = {n: chr(0x2400 + n) for n in range(32) if n not in (9, 10)} | dict.fromkeys(range(127, 160), "␛")


def without_controls(text: str) -> str:
    """The text with a visible character for every control character."""
    return text.translate(_CONTROLS)


def kind_of(token: TokenEvent) -> str:
    """Key into `STYLES`."""
    if token.provenance is Provenance.ACCEPTED and token.source is DraftSource.LOOKUP:
        return "prompt lookup"
    return token.provenance.value


class Holdback:
    """Delays the end of the text while it might be the beginning of a stop string."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stops = tuple(stop_strings)
        self._waiting: list[tuple[str, str]] = []

    def add(self, step: StepEvent) -> list[tuple[str, str]]:
        """Pieces (text, kind) that can be shown now."""
        self._waiting += [(t.text, kind_of(t)) for t in step.tokens if t.text]
        if step.stop_reason is not None:
            return self._release(step.stop_overlap)[0]
        ready, self._waiting = self._release(self._suspicious())
        return ready

    def _suspicious(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        text = "".join(piece for piece, _ in self._waiting)
        longest = min(len(text), max((len(s) - 1 for s in self._stops), default=0))
        return next((n for n in range(longest, 0, -1) if any(s.startswith(text[-n:]) for s in self._stops)), 0)

    def _release(self, keep: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        ready, kept = list(self._waiting), list[tuple[str, str]]()
        while keep > 0 and ready:
            text, kind = ready.pop()
            cut = max(0, len(text) - keep)
            kept.insert(0, (text[cut:], kind))
            keep -= len(text) - cut
            if cut:
                ready.append((text[:cut], kind))
        return ready, kept


class PlainText:
    """The text alone, as it comes."""

    def __init__(self, stream: TextIO, stop_strings: Sequence[str] = ()) -> None:
        self._stream, self._hold = stream, Holdback(stop_strings)

    def add(self, step: StepEvent) -> None:
        self._stream.write("".join(text for text, _ in self._hold.add(step)))
        self._stream.flush()

    def finish(self) -> None:
        self._stream.write("\n")
        self._stream.flush()


class StyledText:
    """Every token in the style of its provenance."""

    def __init__(self, console: Console, stop_strings: Sequence[str] = ()) -> None:
        self._console, self._hold = console, Holdback(stop_strings)

    def add(self, step: StepEvent) -> None:
        from rich.text import Text

        pieces = [(without_controls(text), STYLES[kind]) for text, kind in self._hold.add(step)]
        self._console.print(Text.assemble(*pieces), end="")

    def finish(self) -> None:
        self._console.print()

    def legend(self, provenance: Mapping[str, int], sources: Mapping[str, int]) -> None:
        """What the styles mean, with counts."""
        from rich.text import Text

        lookup = sources.get(DraftSource.LOOKUP.value, 0)
        counts = dict(provenance) | {"prompt lookup": lookup, "accepted": provenance.get("accepted", 0) - lookup}
        line = Text("\n")
        for kind, style in STYLES.items():
            if counts.get(kind):
                line.append(f"{kind} {counts[kind]}", style=style).append(f" {_MEANINGS[kind]}   ", style="dim")
        self._console.print(line)
