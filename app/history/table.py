"""The table of runs: which columns show, how wide they are, and what it is sorted by."""

from __future__ import annotations

from PySide6.QtCore import QItemSelectionModel, QModelIndex, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from app.history.listing import RunEntry, SortKey
from app.history.model import (
    ACCEPTANCE,
    HEADS,
    MODEL,
    PER_CALL,
    PIN,
    SIZE,
    SORTS,
    SPEED,
    STRATEGY,
    TAGS,
    TITLE,
    TOKENS,
    WHEN,
    HistoryModel,
)
from app.state.preferences import Preferences
from app.theme.apply import ThemeManager
from app.theme.scale import scaled

ALL_COLUMNS_FROM_WIDTH = 1050
WIDTHS = {
    PIN: 30,
    TAGS: 110,
    WHEN: 104,
    MODEL: 128,
    STRATEGY: 152,
    TOKENS: 62,
    SPEED: 76,
    PER_CALL: 72,
    ACCEPTANCE: 96,
    SIZE: 76,
}
CHOICES = tuple(c for c in range(len(HEADS)) if c not in (PIN, TITLE))
"""Columns that a person may hide."""
HIDDEN, SORT = "history/hidden_columns", "history/sort"


class HistoryTable(QTableView):
    """Shows a HistoryModel.

    Signals:
        sort_changed(): read `sort` and ask for the list anew.
    """

    sort_changed = Signal()

    def __init__(self, model: HistoryModel, preferences: Preferences, theme: ThemeManager) -> None:
        super().__init__()
        self._entries, self._preferences = model, preferences
        self._tagged = False
        self.setModel(model)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.verticalHeader().hide()
        head = self.horizontalHeader()
        head.setHighlightSections(False)
        head.moveSection(TAGS, TITLE + 1)
        for column in WIDTHS:
            head.setSectionResizeMode(column, QHeaderView.ResizeMode.Interactive)
        head.setSectionResizeMode(TITLE, QHeaderView.ResizeMode.Stretch)
        head.setSectionsClickable(True)
        head.setSortIndicatorShown(True)
        head.setSortIndicatorClearable(True)
        head.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self._take_remembered()
        head.sortIndicatorChanged.connect(self._sorted)
        self._size_columns()
        theme.changed.connect(self._size_columns)
        self.fit()

    # -- sorting -------------------------------------------------------------------------------------------------------

    @property
    def sort(self) -> tuple[SortKey, bool]:
        """What the list is sorted by, and whether downwards."""
        head = self.horizontalHeader()
        section = head.sortIndicatorSection()
        key = SORTS[section] if 0 <= section < len(SORTS) else SortKey.USUAL
        return key, head.sortIndicatorOrder() is Qt.SortOrder.DescendingOrder

    def sort_by(self, key: SortKey, *, descending: bool) -> None:
        """Sort by a column; USUAL is pinned first, then the newest."""
        order = Qt.SortOrder.DescendingOrder if descending else Qt.SortOrder.AscendingOrder
        section = -1 if key is SortKey.USUAL else SORTS.index(key)
        self.horizontalHeader().setSortIndicator(section, order)

    def _sorted(self, *_: object) -> None:
        key, descending = self.sort
        self._preferences.set(SORT, [key.value, descending])
        self.sort_changed.emit()

    # -- columns -------------------------------------------------------------------------------------------------------

    def wanted(self, column: int) -> bool:
        """Whether the user has not hidden a column."""
        return SORTS[column].value not in self._preferences.get(HIDDEN, [])

    def set_wanted(self, column: int, on: bool) -> None:
        """Show or hide a column for good."""
        kept: list[object] = [name for name in self._preferences.get(HIDDEN, []) if name != SORTS[column].value]
        self._preferences.set(HIDDEN, kept if on else [*kept, SORTS[column].value])
        self.fit()

    def show_entries(self, entries: list[RunEntry]) -> None:
        """Show other runs; those that are selected stay so."""
        chosen = [e.id for e in self.selected()]
        self._entries.set_entries(entries)
        self._tagged = any(e.tags for e in entries)
        self.fit()
        self.select(chosen)

    def fit(self) -> None:
        """Where the titles would be cut to a word, what the inspector tells as well goes; so do tags that none has."""
        narrow = self.width() < scaled(ALL_COLUMNS_FROM_WIDTH)
        for column in CHOICES:
            squeezed = (narrow and column in (MODEL, SIZE)) or (column == TAGS and not self._tagged)
            self.setColumnHidden(column, squeezed or not self.wanted(column))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.fit()

    def _size_columns(self, *_: object) -> None:
        self.verticalHeader().setDefaultSectionSize(scaled(34))
        for column, width in WIDTHS.items():
            self.setColumnWidth(column, scaled(width))

    # -- selection -----------------------------------------------------------------------------------------------------

    def selected(self) -> list[RunEntry]:
        """The selected runs, in the order of the list."""
        rows = sorted({i.row() for i in self.selectionModel().selectedIndexes()})
        return [self._entries.entries[r] for r in rows]

    def select(self, run_ids: list[str]) -> None:
        """Select runs by id."""
        selection = self.selectionModel()
        selection.clearSelection()
        flags = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
        for run_id in run_ids:
            number = self._entries.row_of(run_id)
            if number is not None:
                selection.select(self._entries.index(number, TITLE), flags)

    def rename(self, run_id: str) -> None:
        """Let the user write another title."""
        number = self._entries.row_of(run_id)
        if number is not None:
            self.edit(QModelIndex(self._entries.index(number, TITLE)))

    def _take_remembered(self) -> None:
        kept = self._preferences.get(SORT, [])
        if len(kept) == 2 and kept[0] in set(SortKey) and isinstance(kept[1], bool):
            self.sort_by(SortKey(kept[0]), descending=kept[1])
        else:
            self.sort_by(SortKey.USUAL, descending=False)
