"""The log of this session, for reading and copying."""

from __future__ import annotations

import logging
from collections import deque

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.theme.apply import mono
from app.widgets.basic import row

KEPT_LINES = 2000


class LogKeeper(QObject, logging.Handler):
    """Keeps the last lines of all loggers; safe from any thread.

    Signals:
        line_added(str).
    """

    line_added = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        QObject.__init__(self, parent)
        logging.Handler.__init__(self, logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)

    def emit(self, record: logging.LogRecord) -> None:  # type: ignore[override]
        line = self.format(record)
        self.lines.append(line)
        self.line_added.emit(line)


class LogDialog(QDialog):
    """Shows a LogKeeper's lines as they come."""

    def __init__(self, keeper: LogKeeper, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Log")
        self.resize(760, 420)
        self._text = QPlainTextEdit()
        self._text.setReadOnly(True)
        self._text.setFont(mono(9))
        self._text.setMaximumBlockCount(KEPT_LINES)
        self._text.setPlainText("\n".join(keeper.lines))
        keeper.line_added.connect(self._text.appendPlainText)
        copy, close = QPushButton("Copy"), QPushButton("Close")
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._text.toPlainText()))
        close.clicked.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(self._text)
        layout.addLayout(row(1, copy, close))
