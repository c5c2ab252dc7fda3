"""The race: both recorded streams against one clock, each at its true time."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QElapsedTimer, QObject, Qt, QTimer, Signal
from PySide6.QtWidgets import QSlider, QWidget

from app.replay.bar import SPEEDS
from app.replay.timeline import Timeline
from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.widgets.basic import label, row, tool_button
from app.widgets.choice import Choice
from pass_core.decoding.events import StepEvent

TICK_MS = 33


class Race(QObject):
    """One clock over several timelines.

    Attributes:
        clock: recorded seconds since the start of both.

    Signals:
        moved(float): the clock; loaded(); playing_changed(bool).
    """

    moved = Signal(float)
    loaded = Signal()
    playing_changed = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.timelines: list[Timeline] = []
        self.clock = 0.0
        self.speed = 1.0
        self._elapsed = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(lambda: self.advance(self._elapsed.restart() / 1000 * self.speed))

    @property
    def playing(self) -> bool:
        return self._timer.isActive()

    @property
    def duration(self) -> float:
        """When the slowest is there."""
        return max((t.duration for t in self.timelines), default=0.0)

    def load(self, runs: Sequence[Sequence[StepEvent]]) -> None:
        """Take other runs; the clock stands at the end."""
        self.pause()
        self.timelines = [Timeline.of(steps) for steps in runs]
        self.clock = self.duration
        self.loaded.emit()

    def shown(self) -> list[int]:
        """Tokens of each run that are there now."""
        return [t.shown_at(self.clock) for t in self.timelines]

    def play(self) -> None:
        """Go on; from the start when all are there."""
        if self.playing or self.duration <= 0:
            return
        if self.clock >= self.duration:
            self.seek(0.0)
        self._elapsed.start()
        self._timer.start()
        self.playing_changed.emit(True)

    def pause(self) -> None:
        """Stop the clock."""
        if self.playing:
            self._timer.stop()
            self.playing_changed.emit(False)

    def toggle(self) -> None:
        """Play or pause."""
        if self.playing:
            self.pause()
        else:
            self.play()

    def seek(self, seconds: float) -> None:
        """Set the clock."""
        self.clock = min(self.duration, max(0.0, seconds))
        self.moved.emit(self.clock)

    def advance(self, seconds: float) -> None:
        """Let recorded time pass."""
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
        self.time.setMinimumWidth(110)
        self.speed = Choice(theme)
        for speed in SPEEDS:
            self.speed.addItem(f"{speed:g}×", speed)
        self.speed.setCurrentIndex(SPEEDS.index(1.0))
        self.speed.setToolTip("Speed against the recorded time")
        layout = row(self.play, label("Race", "hint"), self.slider, self.time, self.speed, spacing=6)
        layout.setStretch(2, 1)
        self.setLayout(layout)
        race.loaded.connect(self._loaded)
        race.moved.connect(self._moved)
        race.playing_changed.connect(self._playing)
        self.play.clicked.connect(race.toggle)
        self.slider.valueChanged.connect(self._scrubbed)
        self.speed.currentIndexChanged.connect(lambda: setattr(race, "speed", float(self.speed.currentData())))
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
