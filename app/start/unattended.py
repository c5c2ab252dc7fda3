"""Drives the real window without a hand: run, take the picture, leave."""

from __future__ import annotations

import sys

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QPixmap

from app.engine.run import Run
from app.start.arguments import Arguments
from app.state.context import AppContext, ErrorReport
from app.window import MainWindow
from pass_core.files import WriteError, write_atomically


class Driver(QObject):
    """Follows the context's signals as a user would follow the window.

    Signals:
        finished(int): exit code.
    """

    finished = Signal(int)

    def __init__(self, arguments: Arguments, context: AppContext, window: MainWindow) -> None:
        super().__init__(window)
        self._arguments, self._context, self._window = arguments, context, window
        self._generate = window.generate
        self._pictured = False
        self._ended = False
        context.error_raised.connect(self._failed)
        context.lookahead_changed.connect(self._ready)
        context.session.steps_arrived.connect(self._steps)
        context.session.run_finished.connect(self._finished)

    def _ready(self, lookahead: object) -> None:
        if lookahead is None:
            return
        self._context.lookahead_changed.disconnect(self._ready)
        if self._arguments.run or self._arguments.exit_after_run:
            self._generate.run()
        else:
            QTimer.singleShot(0, self._picture_and_leave)

    def _steps(self, run: Run, steps: list[object]) -> None:
        wanted = self._arguments.screenshot_after
        if wanted is not None and not self._pictured and run.totals.new_tokens >= wanted:
            self._generate.plots.redraw()
            self._picture()

    def _finished(self, run: Run) -> None:
        if run.error is None:
            QTimer.singleShot(0, self._picture_and_leave)

    def _picture_and_leave(self) -> None:
        self._window.show_page(self._arguments.page)
        self._generate.plots.redraw()
        if not self._pictured:
            self._picture()
        if not self._ended:
            self._end(0)

    def _picture(self) -> None:
        self._pictured = True
        path = self._arguments.screenshot
        if path is None:
            return
        if self._arguments.hover is not None:
            self._generate.text.show_card_for(self._arguments.hover)
        from app.export.pictures import png

        try:
            write_atomically(path, png(self.grab()))
        except WriteError as error:
            self._failed(ErrorReport(str(error)))

    def grab(self) -> QPixmap:
        """The window as it is."""
        return self._window.grab()

    def _failed(self, report: ErrorReport) -> None:
        print(report.sentence, file=sys.stderr)
        if report.details:
            print(report.details, file=sys.stderr)
        self._end(1)

    def _end(self, code: int) -> None:
        if not self._ended:
            self._ended = True
            self.finished.emit(code)
