"""Help: what the colours mean, and every key, read from the menus themselves so that the list is always right."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QAbstractButton,
    QDialog,
    QHeaderView,
    QMainWindow,
    QMenu,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from app.widgets.basic import label

READING = (
    "The model drafts tokens ahead and checks them itself. The colour of a token says how it came to be: sampled by "
    "the model, drafted and accepted, corrected where a draft was wrong, or won as a bonus after a chain of right "
    "drafts. Whatever is drafted, the text is exactly the model's own; right drafts only make it sooner. Click a "
    "token to see the step that wrote it."
)
KEYS_OF_PAGES = (
    ("Inspect", "Play or pause", "Space"),
    ("Inspect", "One step back, forward", "Left, Right"),
    ("Inspect", "To the start, to the end", "Home, End"),
)


class HelpDialog(QDialog):
    """Opened with `open()`; Escape closes it.

    Attributes:
        keys: where it works, what it does, the keys.
    """

    def __init__(self, window: QMainWindow) -> None:
        super().__init__(window)
        self.setWindowTitle("Help")
        self.resize(560, 560)
        rows = [*shortcuts_of(window), *KEYS_OF_PAGES]
        self.keys = QTableWidget(len(rows), 3)
        self.keys.setHorizontalHeaderLabels(("Where", "What", "Keys"))
        self.keys.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.keys.setShowGrid(False)
        self.keys.verticalHeader().hide()
        self.keys.setAccessibleName("Keyboard shortcuts")
        header = self.keys.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        for number, texts in enumerate(rows):
            for column, text in enumerate(texts):
                self.keys.setItem(number, column, QTableWidgetItem(text))
        layout = QVBoxLayout(self)
        layout.addWidget(label("How to read the text", "heading"))
        layout.addWidget(label(READING, wrap=True))
        layout.addWidget(label("Keyboard", "heading"))
        layout.addWidget(self.keys, 1)


def shortcuts_of(window: QMainWindow) -> list[tuple[str, str, str]]:
    """Every key of the menus and of the rail: where it works, what it does, the keys."""
    rows: list[tuple[str, str, str]] = []
    for entry in window.menuBar().actions():
        menu = entry.menu()
        if not isinstance(menu, QMenu):
            continue
        where = menu.title().replace("&", "")
        rows += [(where, a.text().rstrip("…"), _keys(a.shortcuts())) for a in _actions(menu) if a.shortcuts()]
    for button in window.findChildren(QAbstractButton):
        if not button.shortcut().isEmpty():
            rows.append(("Everywhere", f"Show {button.text()}", _keys([button.shortcut()])))
    return sorted(set(rows))


def _actions(menu: QMenu) -> Iterator[QAction]:
    for action in menu.actions():
        if not action.isSeparator() and action.menu() is None:
            yield action


def _keys(sequences: list[QKeySequence]) -> str:
    return ", ".join(s.toString(QKeySequence.SequenceFormat.NativeText) for s in sequences)
