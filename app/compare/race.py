"""The race: both recorded streams against one clock, each at its true time."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QSlider, QWidget

from app.replay.player import Player, SpeedChoice
from app.replay.timeline import Timeline
from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import label, row, tool_button
from pass_core.decoding.events import StepEvent


class Race(Player):
    """One clock over several timelines.

    Attributes:
        clock: recorded seconds since the start of both.

    Signals:
        moved(float): the clock.
    """

    moved = Signal(float)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.timelines: list[Timeline] = []
        self.clock = 0.0

    @property
    def duration(self) -> float:
        """When the slowest is there."""
        return max((t.duration for t in self.timelines), default=0.0)

    def load(self, runs: Sequence[Sequence[StepEvent]]) -> None:
        """Take other runs; the clock is at their end."""
        self.pause()
        self.timelines = [Timeline.of(steps) for steps in runs]
        self.clock = self.duration
        self.loaded.emit()

    def shown(self) -> list[int]:
        """Tokens of each run that are there now."""
        return [t.shown_at(self.clock) for t in self.timelines]

    def ready(self) -> bool:
        if self.duration <= 0:
            return False
        if self.clock >= self.duration:
            self.seek(0.0)
        return True

    def seek(self, seconds: float) -> None:
        """Set the clock."""
        self.clock = min(self.duration, max(0.0, seconds))
        self.moved.emit(self.clock)

    def advance(self, seconds: float) -> None:
        self.seek(self.clock + seconds)
        if self.clock >= self.duration:
            self.pause()


class RaceBar(QWidget):
    """Play, scrub and speed of a race."""

    def __init__(self, race: Race, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._race, self._theme = race, theme
        self.play = tool_button("ph.flag-banner", "Race both runs against their recorded time", theme)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Time of the race")
        self.time = label("", "hint")
        sized(self.time, min_width=110)
        self.speed = SpeedChoice(race, theme)
        layout = row(self.play, label("Race", "hint"), self.slider, self.time, self.speed, spacing=6)
        layout.setStretch(2, 1)
        self.setLayout(layout)
        race.loaded.connect(self._loaded)
        race.moved.connect(self._moved)
        race.playing_changed.connect(self._playing)
        self.play.clicked.connect(race.toggle)
        self.slider.valueChanged.connect(self._scrubbed)
        self._loaded()

    def _loaded(self) -> None:
        self.slider.setRange(0, round(1000 * self._race.duration))
        self.setEnabled(self._race.duration > 0)
        self._moved(self._race.clock)

    def _moved(self, clock: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round(1000 * clock))
        self.slider.blockSignals(False)
        self.time.setText(f"{clock:.1f} of {self._race.duration:.1f} s" if self._race.duration else "")

    def _scrubbed(self, value: int) -> None:
        self._race.pause()
        self._race.seek(value / 1000)

    def _playing(self, playing: bool) -> None:
        set_icon(self.play, "ph.pause" if playing else "ph.flag-banner", self._theme)
