"""Work that waits for disks and networks, in a thread of its own beside the engine's; torch computes nothing in it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal

from pass_core.progress import Cancelled, CancelToken, Progress, ProgressCallback

log = logging.getLogger(__name__)
Work = Callable[[ProgressCallback, CancelToken], Any]


class Aside(QObject):
    """One piece of work at a time; a new one gives up the one before.

    Signals (delivered in the GUI thread, of the newest work only):
        progress(Progress); then one of succeeded(object), failed(Exception), cancelled().
    """

    progress = Signal(object)
    succeeded = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    _said = Signal(int, str, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._number = 0
        self._token = CancelToken()
        self._thread: threading.Thread | None = None
        self.busy = False
        self._said.connect(self._deliver)

    def start(self, work: Work) -> None:
        """Do `work(progress, cancel)`."""
        self._token.cancel()
        self._number, self._token, self.busy = self._number + 1, CancelToken(), True
        arguments = (self._number, work, self._token)
        self._thread = threading.Thread(target=self._carry_out, args=arguments, daemon=True, name="aside")
        self._thread.start()

    def cancel(self) -> None:
        """Ask the work to end; `cancelled` follows when it has."""
        self._token.cancel()

    def shut_down(self) -> None:
        """Nobody waits any more."""
        self._token.cancel()
        self._number, self.busy = self._number + 1, False
        if self._thread is not None:
            self._thread.join(1.0)

    def _carry_out(self, number: int, work: Work, token: CancelToken) -> None:
        def report(progress: Progress) -> None:
            self._say(number, "progress", progress)

        try:
            result = work(report, token)
        except Cancelled:
            self._say(number, "cancelled", None)
        except Exception as error:
            log.info("work beside the engine failed: %s", error)
            self._say(number, "failed", error)
        else:
            self._say(number, "succeeded", result)

    def _say(self, number: int, what: str, value: object) -> None:
        try:
            self._said.emit(number, what, value)
        except RuntimeError:  # the window, and this object with it, is gone already
            log.debug("work ended after its window")

    def _deliver(self, number: int, what: str, value: object) -> None:
        if number != self._number:
            return
        if what == "progress":
            self.progress.emit(value)
            return
        self.busy = False
        if what == "cancelled":
            self.cancelled.emit()
        else:
            (self.succeeded if what == "succeeded" else self.failed).emit(value)
