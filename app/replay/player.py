"""A clock that plays what was recorded: for the replay of a run, and for the race of two."""

from __future__ import annotations

from PySide6.QtCore import QElapsedTimer, QObject, QTimer, Signal

from app.theme.apply import ThemeManager
from app.widgets.choice import Choice

TICK_MS = 33
SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


class Player(QObject):
    """Lets recorded time pass while it plays; what passes is up to `advance`.

    Attributes:
        speed: recorded seconds per second.

    Signals:
        loaded(): another recording (or more of it) is there.
        playing_changed(bool).
    """

    loaded = Signal()
    playing_changed = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.speed = 1.0
        self._elapsed = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)

    @property
    def playing(self) -> bool:
        return self._timer.isActive()

    def ready(self) -> bool:
        """Called before it plays: go to where it begins; False when there is nothing to play."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Let recorded time pass (the clock's tick; tests call it with times of their own)."""
        raise NotImplementedError

    def play(self) -> None:
        """Continue from here; from the start when the end is shown."""
        if not self.playing and self.ready():
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

    def _tick(self) -> None:
        self.advance(self._elapsed.restart() / 1000 * self.speed)


class SpeedChoice(Choice):
    """How fast a player plays."""

    def __init__(self, player: Player, theme: ThemeManager) -> None:
        super().__init__(theme)
        for speed in SPEEDS:
            self.addItem(f"{speed:g}×", speed)
        self.setCurrentIndex(SPEEDS.index(1.0))
        self.setToolTip("Speed against the recorded time")
        self.setAccessibleName("Speed")
        self.currentIndexChanged.connect(lambda: setattr(player, "speed", float(self.currentData())))
