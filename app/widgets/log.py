"""The log of this session, for reading, copying and saving."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QComboBox, QDialog, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.theme.scale import sized
from app.widgets.basic import label, row
from app.widgets.save_dialog import ask_save
from pass_core.files import WriteError, write_atomically

KEPT_LINES = 2000
LEVELS = (("Everything", logging.INFO), ("Warnings and errors", logging.WARNING), ("Errors", logging.ERROR))


class LogKeeper(QObject, logging.Handler):
    """Keeps the last lines of all loggers with their levels; safe from any thread.

    Signals:
        line_added(int, str): level and text.
    """

    line_added = Signal(int, str)

    def __init__(self, parent: QObject | None = None) -> None:
        QObject.__init__(self, parent)
        logging.Handler.__init__(self, logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S"))
        self.lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)

    def emit(self, record: logging.LogRecord) -> None:  # type: ignore[override]
        line = self.format(record)
        self.lines.append((record.levelno, line))
        self.line_added.emit(record.levelno, line)

    def text(self, least: int = logging.INFO) -> str:
        """The lines of at least this level."""
        return "\n".join(line for level, line in list(self.lines) if level >= least)


class LogDialog(QDialog):
    """Shows a LogKeeper's lines as they come.

    Attributes:
        text, level: the lines shown, and from which level on.
    """

    def __init__(self, keeper: LogKeeper, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._keeper = keeper
        self.setWindowTitle("Log")
        self.resize(760, 420)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        sized(self.text, mono=9)
        self.text.setMaximumBlockCount(KEPT_LINES)
        self.text.setAccessibleName("Log")
        self.level = QComboBox()
        for title, value in LEVELS:
            self.level.addItem(title, value)
        self.level.setAccessibleName("Level")
        self._said: QLabel = label("", "hint")
        copy, save, close = QPushButton("Copy"), QPushButton("Save…"), QPushButton("Close")
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.text.toPlainText()))
        save.clicked.connect(self._ask_path)
        close.clicked.connect(self.close)
        self.level.currentIndexChanged.connect(self._fill)
        keeper.line_added.connect(self._add)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addLayout(row(self.level, self._said, 1, copy, save, close))
        self._fill()

    def save(self, path: Path) -> None:
        """Write the lines shown."""
        try:
            write_atomically(path, self.text.toPlainText() + "\n")
        except WriteError as error:
            self._said.setText(str(error))
        else:
            self._said.setText(f"Saved {path.name}.")

    def _least(self) -> int:
        return int(self.level.currentData())

    def _fill(self) -> None:
        self.text.setPlainText(self._keeper.text(self._least()))

    def _add(self, level: int, line: str) -> None:
        if level >= self._least():
            self.text.appendPlainText(line)

    def _ask_path(self) -> None:
        ask_save(self, "Save the log", Path.home() / "pass-playground.log", "Log (*.log *.txt)", self.save)
