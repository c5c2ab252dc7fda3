"""Says that long work has ended, to a person who looks elsewhere: by the desktop where it can, else by the task bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from app.engine.jobs import Job
from app.engine.run import Run
from app.state.context import AppContext
from app.widgets.text_format import seconds_text, sentence_case

log = logging.getLogger("app.notice")

NOTICE = "notice/long_work"
LONG_SECONDS = 30.0
SHOWN_MS = 10_000


class LongWorkNotice(QObject):
    """Follows the activity of the window for the life of it. Never takes the focus.

    Args:
        clock: seconds; how long work took is read from it.

    Signals:
        given(str): a notice was given, with these words.
    """

    given = Signal(str)

    def __init__(self, window: QWidget, context: AppContext, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(window)
        self._window, self._context, self._clock = window, context, clock
        self._title, self._since, self._outcome = "", 0.0, ""
        self._icon: QSystemTrayIcon | None = None
        self._away = QTimer(self)
        self._away.setSingleShot(True)
        self._away.timeout.connect(self._take_icon_away)
        context.activity.changed.connect(self._look)
        context.jobs.started.connect(self._job_started)
        context.session.run_finished.connect(self._run_finished)

    def _look(self) -> None:
        doing = self._context.activity.now
        title = doing.title if doing is not None else ""
        if doing is not None and doing.stopping:
            self._outcome = "was stopped"
        if title == self._title:
            return
        ended, seconds, outcome = self._title, self._clock() - self._since, self._outcome or "has ended"
        self._title, self._since, self._outcome = title, self._clock(), ""
        if ended and seconds >= LONG_SECONDS:
            self._ended(f"{sentence_case(ended)} {outcome} after {seconds_text(seconds)}.")

    def _job_started(self, job: Job) -> None:
        job.failed.connect(lambda _: self._failed())

    def _run_finished(self, run: Run) -> None:
        if run.error is not None:
            self._failed()

    def _failed(self) -> None:
        self._outcome = "failed"

    def _ended(self, sentence: str) -> None:
        log.info("%s", sentence)
        wanted = self._context.preferences.get(NOTICE, True)
        if wanted and QApplication.activeWindow() is None and self._window.isVisible():
            self._tell(sentence)

    def _tell(self, sentence: str) -> None:
        if QSystemTrayIcon.isSystemTrayAvailable() and QSystemTrayIcon.supportsMessages():
            if self._icon is None:
                self._icon = QSystemTrayIcon(self._window.windowIcon(), self)
                self._icon.messageClicked.connect(self._window.activateWindow)
                self._icon.activated.connect(lambda _: self._window.activateWindow())
            self._icon.show()
            self._icon.showMessage("PASS Playground", sentence, QSystemTrayIcon.MessageIcon.Information, SHOWN_MS)
            self._away.start(SHOWN_MS)
        else:
            QApplication.alert(self._window)
        self.given.emit(sentence)

    def _take_icon_away(self) -> None:
        if self._icon is not None:
            self._icon.hide()
