"""Errors that nobody caught: logged, shown once with details to copy, never a silent end."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QMessageBox, QWidget

from app.start.about import versions

log = logging.getLogger(__name__)


class CrashReporter(QObject):
    """Installs the exception hooks of Python and of its threads.

    Args:
        show: called in the GUI thread with the report's text; equal reports are shown once.
    """

    _caught = Signal(str)

    def __init__(self, show: Callable[[str], None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._show = show
        self._seen: set[str] = set()
        self._caught.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        sys.excepthook = self._hook
        threading.excepthook = lambda a: self._hook(a.exc_type, a.exc_value, a.exc_traceback)

    def _hook(self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, /) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        text = "".join(traceback.format_exception(kind, error, trace))
        log.error("unexpected error\n%s", text)
        self._caught.emit(text)

    def _deliver(self, text: str) -> None:
        if text not in self._seen:
            self._seen.add(text)
            self._show(text)


def crash_box(parent: QWidget | None, text: str) -> QMessageBox:
    """The dialog of an unexpected error, opened with `open()`."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Critical)
    box.setWindowTitle("Unexpected error")
    box.setText("Something went wrong that the program did not expect.")
    box.setInformativeText("You may continue, but please copy the details and report them.")
    report = f"{text}\n{versions()}"
    box.setDetailedText(report)
    copy = box.addButton("Copy details", QMessageBox.ButtonRole.ActionRole)
    copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(report))
    box.addButton("Continue", QMessageBox.ButtonRole.AcceptRole)
    return box
