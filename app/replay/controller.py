"""Plays a timeline: one clock, one position; everything that shows the run follows `moved`."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal

from app.replay.player import Player
from app.replay.timeline import Granularity, Timeline
from pass_core.decoding.events import StepEvent


class ReplayController(Player):
    """Attributes:
        timeline: what is played.
        shown: tokens shown now.
        granularity: of `step`, and of the places at which playing stops to show.

    Signals:
        moved(int): tokens shown now.
    """

    moved = Signal(int)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.timeline = Timeline.of(())
        self.shown = 0
        self.granularity = Granularity.TOKEN
        self._clock = 0.0

    def load(self, steps: Sequence[StepEvent], at: int | None = None) -> None:
        """Take another run; `at` tokens shown, all of them by default."""
        self.pause()
        self.timeline = Timeline.of(steps)
        self.shown = self.timeline.tokens if at is None else min(at, self.timeline.tokens)
        self._clock = self._clock_at(self.shown)
        self.loaded.emit()
        self.moved.emit(self.shown)

    def extend(self, steps: Sequence[StepEvent]) -> None:
        """The run has grown; the end stays in sight when it was."""
        follow = self.shown == self.timeline.tokens and not self.playing
        self.timeline = Timeline.of(steps)
        self.loaded.emit()
        if follow:
            self.seek(self.timeline.tokens)

    def seek(self, shown: int) -> None:
        """Show the first tokens of the run."""
        shown = min(self.timeline.tokens, max(0, shown))
        self._clock = self._clock_at(shown)
        if shown != self.shown:
            self.shown = shown
            self.moved.emit(shown)

    def step(self, by: int) -> None:
        """One move forward (1) or back (-1); playing stops."""
        self.pause()
        self.seek(self.timeline.moved(self.shown, by, self.granularity))

    def ready(self) -> bool:
        if not self.timeline.tokens:
            return False
        if self.shown >= self.timeline.tokens:
            self.seek(0)
        self._clock = self._clock_at(self.shown)
        return True

    def advance(self, seconds: float) -> None:
        self._clock += seconds
        t = self.timeline
        shown = t.shown_at(self._clock)
        if self.granularity is Granularity.TOKEN and shown < t.tokens:
            # Within a call its tokens are spread over its time, so that each can be seen.
            step = t.step_of(shown)
            begin = t.times[shown - 1] if shown else 0.0
            length = t.times[shown] - begin
            if length > 0:
                shown += int((self._clock - begin) / length * len(t.steps[step].tokens))
        shown = max(shown, self.shown)
        if shown != self.shown:
            self.shown = shown
            self.moved.emit(shown)
        if shown >= t.tokens:
            self.pause()

    def _clock_at(self, shown: int) -> float:
        """The clock at this position; the tokens of a step share its time."""
        t = self.timeline
        if shown == 0:
            return 0.0
        step = t.step_of(shown - 1)
        if shown == t.ends[step]:
            return t.times[shown - 1]
        first = t.ends[step] - len(t.steps[step].tokens)
        begin = t.times[first - 1] if first else 0.0
        return begin + (t.times[first] - begin) * (shown - first) / len(t.steps[step].tokens)
