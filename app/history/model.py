"""The history list as a Qt table model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, Signal
from PySide6.QtGui import QColor

from app.history.listing import RunEntry, SortKey
from app.theme.apply import ThemeManager
from app.theme.icons import icon
from app.widgets.text_format import bytes_text
from pass_core.records.runs import RunStatus
from pass_core.settings import method_named
from pass_core.strategy_names import strategy_text

PIN, TITLE, WHEN, MODEL, STRATEGY, TOKENS, SPEED, PER_CALL, ACCEPTANCE, SIZE, TAGS = range(11)
HEADS = ("", "Run", "When", "Model", "Strategy", "Tokens", "Tokens/s", "Per call", "Accepted", "Size", "Tags")
SORTS = (
    SortKey.USUAL,
    SortKey.TITLE,
    SortKey.WHEN,
    SortKey.MODEL,
    SortKey.STRATEGY,
    SortKey.TOKENS,
    SortKey.SPEED,
    SortKey.PER_CALL,
    SortKey.ACCEPTANCE,
    SortKey.SIZE,
    SortKey.TAGS,
)
"""What a click on each head sorts by."""
NUMBERS = (TOKENS, SPEED, PER_CALL, ACCEPTANCE, SIZE)
Index = QModelIndex


class HistoryModel(QAbstractTableModel):
    """Shows entries; only the title can be edited.

    Signals:
        renamed(str, str): id and the new title.
    """

    renamed = Signal(str, str)

    def __init__(self, theme: ThemeManager, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self.entries: list[RunEntry] = []

    def set_entries(self, entries: Sequence[RunEntry]) -> None:
        """Show other entries."""
        self.beginResetModel()
        self.entries = list(entries)
        self.endResetModel()

    def row_of(self, run_id: str) -> int | None:
        """The row of a run."""
        return next((i for i, e in enumerate(self.entries) if e.id == run_id), None)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  (Qt's own signature)
        return 0 if parent.isValid() else len(self.entries)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(HEADS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if orientation is not Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return HEADS[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(section)
        if role == Qt.ItemDataRole.InitialSortOrderRole:  # the largest and the newest first
            down = section in (*NUMBERS, WHEN)
            return Qt.SortOrder.DescendingOrder if down else Qt.SortOrder.AscendingOrder
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsEditable if index.column() == TITLE else flags

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        entry, column = self.entries[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(entry, column)
        if role == Qt.ItemDataRole.EditRole and column == TITLE:
            return entry.title
        if role == Qt.ItemDataRole.ToolTipRole and column == TITLE:
            return f"{entry.prompt[:300]}\n\n{entry.excerpt[:600]}"
        if role == Qt.ItemDataRole.ToolTipRole and column == TAGS:
            return ", ".join(entry.tags)
        if role == Qt.ItemDataRole.DecorationRole and column == PIN and entry.pinned:
            return icon("ph.push-pin-fill", self._theme.current, "accent")
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _alignment(column)
        if role == Qt.ItemDataRole.ForegroundRole and column not in (TITLE, PIN):
            return QColor(self._theme.current.text_muted)
        return None

    def setData(self, index: Index, value: object, role: int = Qt.ItemDataRole.EditRole) -> bool:
        if role != Qt.ItemDataRole.EditRole or index.column() != TITLE:
            return False
        entry, title = self.entries[index.row()], str(value).strip()
        if title != entry.title:
            self.renamed.emit(entry.id, title)
        return True


def run_title(entry: RunEntry) -> str:
    """The run's title, or the first words of its prompt and text."""
    return entry.title or " ".join(f"{entry.prompt} {entry.excerpt}".split())[:120] or "(empty)"


def _text(e: RunEntry, column: int) -> str:
    match column:
        case 1:
            state = {RunStatus.RUNNING: "running:  ", RunStatus.INTERRUPTED: "interrupted:  "}.get(e.status, "")
            return state + run_title(e)
        case 2:
            return when(e.created)
        case 3:
            return e.model
        case 4:
            return strategy_text(method_named(e.strategy), e.k)
        case 5:
            return str(e.tokens)
        case 6:
            return f"{e.tokens / e.seconds:.1f}" if e.seconds else "–"
        case 7:
            return f"{e.tokens / e.calls:.2f}" if e.calls else "–"
        case 8:
            return f"{100 * e.accepted / e.proposed:.0f} % of {e.proposed:,}" if e.proposed else "–"
        case 9:
            return bytes_text(e.bytes)
        case 10:
            return ", ".join(e.tags)
        case _:
            return ""


def when(moment: datetime, now: datetime | None = None) -> str:
    """ "today 14:05", "12 Mar 14:05", "12 Mar 2025", in local time."""
    try:
        local = moment.astimezone()
    except (ValueError, OverflowError):  # the first and the last day that a date can have, in another zone
        local = moment
    now = (now or datetime.now().astimezone()).astimezone(local.tzinfo)
    if local.date() == now.date():
        return f"today {local:%H:%M}"
    return f"{local:%d %b %H:%M}" if local.year == now.year else f"{local:%d %b %Y}"


def _alignment(column: int) -> int:
    side = Qt.AlignmentFlag.AlignRight if column in NUMBERS else Qt.AlignmentFlag.AlignLeft
    return int(side | Qt.AlignmentFlag.AlignVCenter)
