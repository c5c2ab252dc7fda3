"""The curves of a run, folded from its step events: windowed and overall rates, and marks where settings changed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.widgets.draft_counts import DraftCounts
from pass_core.decoding.events import DraftSource, DraftStatus, StepEvent
from pass_core.decoding.summary import SummaryBuilder
from pass_core.settings import RunSettings
from pass_core.strategy_names import short_title

WINDOW_TOKENS = 32


@dataclass(slots=True)
class Mark:
    """A change of settings: `tokens` were there before the first step under them; `text` says what changed."""

    tokens: int
    text: str
    before: RunSettings


@dataclass(slots=True)
class RunSeries:
    """Grows with `add`; every list has one entry a step. NaN stands where nothing was counted.

    Attributes:
        tokens: new tokens after the step (the x axis).
        speed, speed_overall: tokens per second of decoding, over the last `WINDOW_TOKENS` tokens and from the start.
        acceptance, acceptance_overall: accepted / proposed drafts, likewise.
        per_call, per_call_overall: tokens per forward pass, likewise.
        copied_by_position: accepted drafts by depth that prompt lookup copied (the rest are look-ahead drafts).
        marks: where settings changed; changes of consecutive steps (a dragged slider) are one mark.
        totals: the figures of the whole run.
        drafts: what became of its drafts.
    """

    tokens: list[int] = field(default_factory=list[int])
    speed: list[float] = field(default_factory=list[float])
    speed_overall: list[float] = field(default_factory=list[float])
    acceptance: list[float] = field(default_factory=list[float])
    acceptance_overall: list[float] = field(default_factory=list[float])
    per_call: list[float] = field(default_factory=list[float])
    per_call_overall: list[float] = field(default_factory=list[float])
    copied_by_position: list[int] = field(default_factory=list[int])
    marks: list[Mark] = field(default_factory=list[Mark])
    totals: SummaryBuilder = field(default_factory=SummaryBuilder)
    drafts: DraftCounts = field(default_factory=DraftCounts)
    _window: deque[StepEvent] = field(default_factory=deque[StepEvent])
    _window_tokens: int = 0
    _last: RunSettings | None = None
    _changed_last_step: bool = False

    def add(self, step: StepEvent) -> None:
        """Fold one step."""
        self._note_settings(step)
        self.totals.add(step)
        self.drafts.add(step)
        self._count_copied(step)
        if not step.tokens:
            return
        self._window.append(step)
        self._window_tokens += len(step.tokens)
        while self._window_tokens - len(self._window[0].tokens) >= WINDOW_TOKENS:
            self._window_tokens -= len(self._window.popleft().tokens)
        t, w = self.totals, self._window
        self.tokens.append(t.new_tokens)
        self.speed.append(_ratio(self._window_tokens, sum(s.seconds for s in w)))
        self.speed_overall.append(_ratio(t.new_tokens, t.decode_seconds))
        self.acceptance.append(_ratio(sum(s.accepted for s in w), sum(s.proposed for s in w)))
        self.acceptance_overall.append(_ratio(t.accepted, t.proposed))
        self.per_call.append(_ratio(self._window_tokens, sum(s.calls for s in w)))
        self.per_call_overall.append(_ratio(t.new_tokens, t.calls))

    def _count_copied(self, step: StepEvent) -> None:
        for draft in step.drafts:
            if draft.status is DraftStatus.ACCEPTED and draft.source is DraftSource.LOOKUP:
                self.copied_by_position += [0] * (draft.depth - len(self.copied_by_position))
                self.copied_by_position[draft.depth - 1] += 1

    def _note_settings(self, step: StepEvent) -> None:
        changed = self._last is not None and step.settings != self._last
        if changed and self._last is not None:
            if self._changed_last_step and self.marks:
                mark = self.marks[-1]
                mark.text = describe_change(mark.before, step.settings)
            else:
                text = describe_change(self._last, step.settings)
                self.marks.append(Mark(self.totals.new_tokens, text, self._last))
        self._changed_last_step = changed
        self._last = step.settings


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def settings_changes(steps: Iterable[StepEvent]) -> int:
    """How often settings changed; changes of consecutive steps (a dragged slider) count once."""
    times, last, changed = 0, None, False
    for step in steps:
        before, changed = changed, last is not None and step.settings != last
        times += changed and not before
        last = step.settings
    return times


def _or_off(value: float, off: float) -> str:
    return "off" if value == off else f"{value:g}"


def describe_change(before: RunSettings, after: RunSettings) -> str:
    """What differs between two settings, short: "k 5→3, temperature 0.8→0"."""
    parts: list[str] = []
    if before.strategy is not after.strategy:
        parts.append(f"{short_title(before.strategy)}→{short_title(after.strategy)}")
    if before.auto != after.auto:
        parts.append("auto on" if after.auto else "auto off")
    if before.k != after.k:
        parts.append(f"k {before.k}→{after.k}")
    if before.sampling.top_k != after.sampling.top_k:
        parts.append(f"top-k {before.sampling.top_k or 'off'}→{after.sampling.top_k or 'off'}")
    if before.sampling.temperature != after.sampling.temperature:
        parts.append(f"temperature {before.sampling.temperature:g}→{after.sampling.temperature:g}")
    if before.sampling.top_p != after.sampling.top_p:
        parts.append(f"top-p {_or_off(before.sampling.top_p, 1.0)}→{_or_off(after.sampling.top_p, 1.0)}")
    if before.sampling.min_p != after.sampling.min_p:
        parts.append(f"min-p {_or_off(before.sampling.min_p, 0.0)}→{_or_off(after.sampling.min_p, 0.0)}")
    if before.verification is not after.verification:
        parts.append(f"{before.verification.value}→{after.verification.value}")
    if before.prompt_lookup != after.prompt_lookup:
        parts.append("prompt lookup on" if after.prompt_lookup else "prompt lookup off")
    if before.disabled_parts != after.disabled_parts:
        off = ", ".join(sorted(p.value for p in after.disabled_parts))
        parts.append(f"without {off}" if off else "all parts on")
    return ", ".join(parts)
