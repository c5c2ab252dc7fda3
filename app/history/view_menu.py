"""The menu of the history's look: what it is sorted by, and which columns show."""

from __future__ import annotations

from functools import partial

from PySide6.QtGui import QActionGroup
from PySide6.QtWidgets import QMenu, QWidget

from app.history.listing import SortKey
from app.history.model import HEADS, NUMBERS, PIN, SORTS, WHEN
from app.history.table import CHOICES, HistoryTable
from app.widgets.basic import menu_heading

USUAL = "Pinned, then newest"


class ViewMenu(QMenu):
    """Made anew whenever it opens; for the keyboard everything that the head of the table does for the mouse."""

    def __init__(self, table: HistoryTable, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._table = table
        self.aboutToShow.connect(self.fill)
        self.fill()

    def fill(self) -> None:
        """Show what is chosen now."""
        self.clear()
        menu_heading(self, "Sort by")
        group = QActionGroup(self)
        present, descending = self._table.sort
        for column, key in enumerate(SORTS):
            entry = self.addAction(USUAL if column == PIN else HEADS[column])
            entry.setCheckable(True)
            entry.setChecked(key is present)
            entry.triggered.connect(partial(self._sort, key, column in (*NUMBERS, WHEN)))
            group.addAction(entry)
        down = self.addAction("Downwards")
        down.setCheckable(True)
        down.setChecked(descending and present is not SortKey.USUAL)
        down.setEnabled(present is not SortKey.USUAL)
        down.triggered.connect(lambda on: self._sort(present, on))
        menu_heading(self, "Columns")
        for column in CHOICES:
            entry = self.addAction(HEADS[column])
            entry.setCheckable(True)
            entry.setChecked(self._table.wanted(column))
            entry.toggled.connect(partial(self._table.set_wanted, column))

    def _sort(self, key: SortKey, descending: bool, *_: object) -> None:
        self._table.sort_by(key, descending=descending)
