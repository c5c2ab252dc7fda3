"""The History page: every run, to find, open, repeat, overlay, export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QItemSelectionModel, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QKeySequence, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHeaderView,
    QLineEdit,
    QMenu,
    QMessageBox,
    QPushButton,
    QSpinBox,
    QSplitter,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from app.compare.overlay import OverlayPlots
from app.export.menu import export_menu
from app.history.deleted import KEPT_DELETIONS, Deletion, bring_back, delete
from app.history.model import ACCEPTANCE, MODEL, PER_CALL, PIN, SIZE, SPEED, STRATEGY, TITLE, TOKENS, WHEN, HistoryModel
from app.history.service import HistoryService
from app.history.store import HistoryStore, RunEntry
from app.state.context import AppContext
from app.state.setup import setup_of
from app.theme.icons import set_icon
from app.theme.scale import scaled, sized
from app.widgets.basic import Card, guard_wheel, label, row
from app.widgets.page import Page
from app.widgets.text_format import bytes_text
from pass_core.records.runs import RecordError, RunRecord, load_record
from pass_core.settings import method_named
from pass_core.strategy_names import strategy_text

MAX_OVERLAY = 6
SEARCH_DELAY_MS = 150
ALL_COLUMNS_FROM_WIDTH = 1050
WIDTHS = {PIN: 30, WHEN: 104, MODEL: 128, STRATEGY: 152, TOKENS: 62, SPEED: 76, PER_CALL: 72, ACCEPTANCE: 96, SIZE: 76}


class HistoryPage(Page):
    """Lists the history; selected runs are overlaid on the plots below.

    Signals:
        open_requested(RunRecord): show it on the Inspect page.
    """

    open_requested = Signal(object)

    def __init__(self, context: AppContext, history: HistoryService, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context, self._history = context, history
        self._loaded: dict[str, RunRecord] = {}
        self._deletions: list[Deletion] = []
        self._asked = 0
        self._fresh = False
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search prompts, texts, titles, models")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Search the history")
        self.size_text = label("", "hint")
        self.limit = QSpinBox()
        self.limit.setRange(10, 100_000)
        self.limit.setSuffix(" MB")
        self.limit.setAlignment(Qt.AlignmentFlag.AlignRight)
        sized(self.limit, width=96)
        self.limit.setValue(history.limit_mb)
        self.limit.setToolTip("The history keeps within this size: the oldest runs that are not pinned go first")
        guard_wheel(self.limit)
        self.model = HistoryModel(context.theme, self)
        self.table = QTableView()
        self.overlay = OverlayPlots(context.theme)
        self._search_delay = QTimer(self)
        self._search_delay.setSingleShot(True)
        self._search_delay.setInterval(SEARCH_DELAY_MS)
        self._make_buttons()
        self._set_up_table()
        self._lay_out()
        self._connect()
        self._selection_changed()

    # -- what the window and other pages call --------------------------------------------------------------------------

    def page_shown(self) -> None:
        """Became visible: the list may be stale."""
        if not self._fresh:
            self.refresh()

    def actions_for_menu(self) -> list[QAction]:
        """Entries of the page's menu."""
        return [self.import_action]

    def refresh(self) -> None:
        """Ask for the list anew."""
        self._fresh = True
        query = self.search.text()
        self._asked += 1
        number = self._asked

        def work(store: HistoryStore) -> tuple[list[RunEntry], int, int]:
            return store.entries(query), store.size(), store.limit

        def show(answer: tuple[list[RunEntry], int, int]) -> None:
            if number == self._asked:
                self._show(*answer)

        self._history.ask(work, show, owner=self)

    def selected(self) -> list[RunEntry]:
        """The selected runs, in the order of the list."""
        rows = sorted({i.row() for i in self.table.selectionModel().selectedIndexes()})
        return [self.model.entries[r] for r in rows]

    def select(self, run_ids: list[str]) -> None:
        """Select runs by id."""
        selection = self.table.selectionModel()
        selection.clearSelection()
        flags = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
        for run_id in run_ids:
            number = self.model.row_of(run_id)
            if number is not None:
                selection.select(self.model.index(number, TITLE), flags)

    def import_file(self, path: Path) -> None:
        """Add a run file to the history and open it."""
        try:
            record = load_record(path)
        except RecordError as error:
            self._context.report_error(str(error), error)
            return
        if not record.title:
            record = replace(record, title=path.name.removesuffix(".json"))

        def added(run_id: str) -> None:
            self.open_requested.emit(replace(record, id=run_id))

        self._history.ask(lambda store: store.add(record), added, owner=self, changes=True)

    # -- the list ------------------------------------------------------------------------------------------------------

    def _show(self, entries: list[RunEntry], size: int, limit: int) -> None:
        chosen = [e.id for e in self.selected()]
        self.model.set_entries(entries)
        self.select(chosen)
        runs = "1 run" if len(entries) == 1 else f"{len(entries)} runs"
        found = "found" if self.search.text() else "kept"
        self.size_text.setText(f"{runs} {found}  ·  {bytes_text(size)} of")
        self._selection_changed()

    def _changed(self) -> None:
        self._fresh = False
        if self.isVisible():
            self.refresh()

    def _selection_changed(self) -> None:
        entries = self.selected()
        one, some = len(entries) == 1, bool(entries)
        for button in (self.open_button, self.again_button, self.export_button):
            button.setEnabled(one)
        self.pin_button.setEnabled(some)
        self.delete_button.setEnabled(some)
        self.rename_button.setEnabled(one)
        self.pin_button.setText("Unpin" if some and all(e.pinned for e in entries) else "Pin")
        self._overlay(entries[:MAX_OVERLAY])

    def _overlay(self, entries: list[RunEntry]) -> None:
        """Load what is missing, then draw; a selection that changed meanwhile draws itself."""
        ids = [e.id for e in entries]
        missing = [i for i in ids if i not in self._loaded]
        if missing:
            self._history.ask(lambda store: [store.load(i) for i in missing], self._take, owner=self)
            return
        self._loaded = {i: self._loaded[i] for i in ids}
        self.overlay.set_runs([f"{i + 1}  {_overlay_name(self._loaded[e.id], e)}" for i, e in enumerate(entries)])
        for i, run_id in enumerate(ids):
            self.overlay.add_steps(i, self._loaded[run_id].steps)

    def _take(self, records: list[RunRecord]) -> None:
        self._loaded.update({r.id: r for r in records})
        chosen = self.selected()[:MAX_OVERLAY]
        if all(e.id in self._loaded for e in chosen):
            self._overlay(chosen)

    # -- what can be done with runs ------------------------------------------------------------------------------------

    def _with_record(self, then: Callable[[RunRecord], None]) -> None:
        entries = self.selected()
        if len(entries) == 1:
            run_id = entries[0].id
            self._history.ask(lambda store: store.load(run_id), then, owner=self)

    def _open(self) -> None:
        self._with_record(self.open_requested.emit)

    def _run_again(self) -> None:
        self._with_record(self._apply)

    def _apply(self, record: RunRecord) -> None:
        self._context.run_again(setup_of(record))
        model = self._context.model
        if model is not None and record.model.fingerprint not in ("", model.fingerprint):
            self._context.notify(f"This run was made with {record.model.name}; {model.name} is loaded now.")

    def _pin(self) -> None:
        entries = self.selected()
        pinned = not all(e.pinned for e in entries)

        def work(store: HistoryStore) -> None:
            for entry in entries:
                store.pin(entry.id, pinned)

        self._history.ask(work, changes=True)

    def _rename(self) -> None:
        entries = self.selected()
        if len(entries) == 1 and (number := self.model.row_of(entries[0].id)) is not None:
            self.table.edit(self.model.index(number, TITLE))

    def _renamed(self, run_id: str, title: str) -> None:
        self._history.ask(lambda store: store.rename(run_id, title), changes=True)

    def _ask_delete(self) -> None:
        entries = self.selected()
        if not entries:
            return
        what = "this run" if len(entries) == 1 else f"these {len(entries)} runs"
        box = QMessageBox(
            QMessageBox.Icon.Question,
            "Delete",
            f"Delete {what}? Undo brings back what was deleted until the window closes.",
            QMessageBox.StandardButton.Cancel | QMessageBox.StandardButton.Yes,
            self,
        )
        box.button(QMessageBox.StandardButton.Yes).setText("Delete")
        box.setDefaultButton(QMessageBox.StandardButton.Cancel)
        box.accepted.connect(lambda: self.delete([e.id for e in entries]))
        box.finished.connect(box.deleteLater)
        box.open()

    def delete(self, run_ids: list[str]) -> None:
        """Remove runs without asking; `undo_delete` brings them back."""
        pinned = frozenset(e.id for e in self.model.entries if e.pinned and e.id in run_ids)
        self._history.ask(lambda store: delete(store, run_ids, pinned), self._deleted, owner=self, changes=True)

    def undo_delete(self) -> None:
        """Bring back what the last Delete removed."""
        if self._deletions:
            deletion = self._deletions.pop()
            self._history.ask(lambda store: bring_back(store, deletion), changes=True)
        self.undo_button.setVisible(bool(self._deletions))

    def _deleted(self, deletion: Deletion) -> None:
        if deletion.records:
            self._deletions = [*self._deletions, deletion][-KEPT_DELETIONS:]
        self.undo_button.setVisible(bool(self._deletions))

    def _ask_import(self) -> None:
        folder = self._context.preferences.get("export/folder", str(Path.home()))
        dialog = QFileDialog(self, "Import a run", folder, "PASS run (*.json)")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(lambda name: self.import_file(Path(name)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _menu(self, place: QPoint) -> None:
        menu = QMenu(self)
        for button in (self.open_button, self.again_button, self.pin_button, self.rename_button, self.delete_button):
            action = menu.addAction(button.text(), button.click)
            action.setEnabled(button.isEnabled())
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.table.viewport().mapToGlobal(place))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Where the titles would be cut to a word, what the inspector tells as well goes."""
        super().resizeEvent(event)
        for column in (MODEL, SIZE):
            self.table.setColumnHidden(column, self.width() < scaled(ALL_COLUMNS_FROM_WIDTH))

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _make_buttons(self) -> None:
        theme = self._context.theme

        def button(text: str, icon: str, tip: str, work: Callable[[], None] | None) -> QPushButton:
            made = QPushButton(text)
            made.setToolTip(tip)
            set_icon(made, icon, theme)
            if work is not None:
                made.clicked.connect(work)
            return made

        self.open_button = button("Open", "ph.magnifying-glass", "Inspect and replay it (Enter)", self._open)
        self.again_button = button(
            "Run again",
            "ph.arrow-counter-clockwise",
            "Take prompt, seed and settings to the Generate page",
            self._run_again,
        )
        self.pin_button = button("Pin", "ph.push-pin", "Keep it beyond the size limit", self._pin)
        self.rename_button = button("Rename", "ph.pencil-simple", "Another title (F2)", self._rename)
        self.delete_button = button("Delete", "ph.trash", "Remove from the history (Del)", self._ask_delete)
        self.export_button = button("Export", "ph.export", "Write it to a file", None)
        self.export_button.setMenu(export_menu(self._context, self, self._with_record))
        self.undo_button = button(
            "Undo", "ph.arrow-u-up-left", "Bring back what was deleted (Ctrl+Z)", self.undo_delete
        )
        self.undo_button.hide()
        self.import_button = button("Import", "ph.download-simple", "Add a run from a JSON file", self._ask_import)
        self.import_action = QAction("Import a run…", self)
        self.import_action.triggered.connect(self._ask_import)

    def _size_columns(self, *_: object) -> None:
        self.table.verticalHeader().setDefaultSectionSize(scaled(34))
        for column, width in WIDTHS.items():
            self.table.setColumnWidth(column, scaled(width))

    def _set_up_table(self) -> None:
        t = self.table
        t.setModel(self.model)
        t.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        t.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        t.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        t.setShowGrid(False)
        t.setWordWrap(False)
        t.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        t.verticalHeader().hide()
        head = t.horizontalHeader()
        head.setHighlightSections(False)
        for column in WIDTHS:
            head.setSectionResizeMode(column, QHeaderView.ResizeMode.Interactive)
        self._size_columns()
        self._context.theme.changed.connect(self._size_columns)
        head.setSectionResizeMode(TITLE, QHeaderView.ResizeMode.Stretch)
        for keys, work in (
            ("Return", self._open),
            ("Enter", self._open),
            ("Delete", self._ask_delete),
            ("Ctrl+Z", self.undo_delete),
        ):
            action = QAction(t)
            action.setShortcut(QKeySequence(keys))
            action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
            action.triggered.connect(work)
            t.addAction(action)

    def _lay_out(self) -> None:
        head = row(self.search, self.size_text, self.limit, self.import_button, spacing=8)
        head.setStretch(0, 1)
        actions = row(
            self.open_button,
            self.again_button,
            self.export_button,
            1,
            self.pin_button,
            self.rename_button,
            self.undo_button,
            self.delete_button,
        )
        above = QWidget()
        column = QVBoxLayout(above)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.table, 1)
        column.addLayout(actions)
        below = Card("Selected runs, overlaid")
        below.body.addWidget(self.overlay, 1)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.setChildrenCollapsible(False)
        splitter.setHandleWidth(8)
        splitter.addWidget(above)
        splitter.addWidget(below)
        splitter.setStretchFactor(0, 3)
        splitter.setStretchFactor(1, 2)
        splitter.setSizes([420, 260])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(8)
        layout.addLayout(head)
        layout.addWidget(splitter, 1)

    def _connect(self) -> None:
        self._history.changed.connect(self._changed)
        self._search_delay.timeout.connect(self.refresh)
        self.search.textChanged.connect(lambda _: self._search_delay.start())
        self.limit.editingFinished.connect(self._set_limit)
        self.model.renamed.connect(self._renamed)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self._selection_changed())
        self.table.doubleClicked.connect(lambda index: self._open())
        self.table.customContextMenuRequested.connect(self._menu)

    def _set_limit(self) -> None:
        if self.limit.value() != self._history.limit_mb:
            self._history.set_limit(self.limit.value())


def _overlay_name(record: RunRecord, entry: RunEntry) -> str:
    return record.title or f"{strategy_text(method_named(entry.strategy), entry.k)}, {entry.tokens} tokens"
