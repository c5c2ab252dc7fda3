"""A timer for drawing that takes a small part of the machine: where cores are few, the engine computes on them all."""

from __future__ import annotations

import os
import time

from PySide6.QtCore import QObject, Qt, QTimer, Signal

FOLLOW = 0.3  # weight of the newest cost


class PacedTimer(QObject):
    """Says when to draw, at most every `least_ms`, and less often where drawing is dear.

    The cost is what the GUI thread computes from `due` until everything that it set off is painted.

    Args:
        least_ms, most_ms: bounds of the interval.
        share: of all cores, what drawing may take.
        once: fire one time for each `request`, instead of from `start` to `stop`.

    Signals:
        due(): draw now.
    """

    due = Signal()

    def __init__(
        self, parent: QObject | None, least_ms: int, most_ms: int, share: float, *, once: bool = False
    ) -> None:
        super().__init__(parent)
        self._least, self._most, self._share = least_ms, most_ms, share * (os.cpu_count() or 1)
        self._cost = 0.0
        self._began: float | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(once)
        self._timer.setInterval(least_ms)
        self._timer.timeout.connect(self._fire)
        self._after = QTimer(
            self
        )  # of 0 ms: its turn comes when posted events, layouts and paints among them, are done
        self._after.setSingleShot(True)
        self._after.setTimerType(Qt.TimerType.PreciseTimer)
        self._after.timeout.connect(self._drawn)

    @property
    def interval_ms(self) -> int:
        """How long it waits now."""
        return self._timer.interval()

    def start(self) -> None:
        """Fire again and again."""
        self._timer.start()

    def stop(self) -> None:
        """Fire no more."""
        self._timer.stop()

    def request(self) -> None:
        """Fire once, soon; further requests until then are one with this."""
        if not self._timer.isActive():
            self._timer.start()

    def _fire(self) -> None:
        self._began = time.thread_time()
        self._after.start()
        self.due.emit()

    def _drawn(self) -> None:
        if self._began is None:
            return
        cost = time.thread_time() - self._began
        self._began = None
        self._cost += (FOLLOW if self._cost else 1.0) * (cost - self._cost)
        wanted = round(min(self._most, max(self._least, 1e3 * self._cost / self._share)))
        if abs(wanted - self._timer.interval()) > 0.2 * self._timer.interval():
            self._timer.setInterval(wanted)
