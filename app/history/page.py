"""The History page: every run, to find, open, repeat, overlay, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QFileDialog,
    QLineEdit,
    QMenu,
    QMessageBox,
    QPushButton,
    QSpinBox,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from app.compare.overlay import OverlayPlots
from app.export.menu import export_menu
from app.export.runs_menu import runs_menu
from app.history.changes import HistoryChanges
from app.history.listing import RunEntry, Wanted
from app.history.model import HistoryModel
from app.history.service import HistoryService
from app.history.store import HistoryStore
from app.history.table import HistoryTable
from app.history.tag_menu import TagMenu
from app.history.view_menu import ViewMenu
from app.state.context import AppContext
from app.state.setup import setup_of
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import Card, guard_wheel, label, row
from app.widgets.choice import Choice
from app.widgets.page import Page
from app.widgets.text_format import bytes_text, count_of
from pass_core.records.collection import load_records
from pass_core.records.runs import RecordError, RunRecord
from pass_core.settings import method_named
from pass_core.strategy_names import strategy_text

MAX_OVERLAY = 6
SEARCH_DELAY_MS = 150
Answer = tuple[list[RunEntry], int, dict[str, int]]


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
        self.changes = HistoryChanges(history, self)
        self._asked = 0
        self._fresh = False
        self._awaited: list[str] = []
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
        self.table = HistoryTable(self.model, context.preferences, context.theme)
        self.tags: dict[str, int] = {}
        self.tag_filter = Choice(context.theme)
        self.tag_filter.setAccessibleName("Only runs with this tag")
        self.tag_filter.addItem("All tags", "")
        self.tag_filter.hide()
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
        sort, descending = self.table.sort
        wanted = Wanted(self.search.text(), self.tag_filter.currentData() or "", sort, descending)
        self._asked += 1
        number = self._asked

        def work(store: HistoryStore) -> Answer:
            return store.entries(wanted), store.size(), store.tags()

        def show(answer: Answer) -> None:
            if number == self._asked:
                self._show(*answer)

        self._history.ask(work, show, owner=self)

    def selected(self) -> list[RunEntry]:
        """The selected runs, in the order of the list."""
        return self.table.selected()

    def select(self, run_ids: list[str]) -> None:
        """Select runs by id."""
        self.table.select(run_ids)

    def import_file(self, path: Path) -> None:
        """Add the runs of a file to the history; one alone is opened, several are selected."""
        try:
            records = load_records(path)
        except RecordError as error:
            self._context.report_error(str(error), error)
            return
        stem, alone = path.name.removesuffix(".json"), len(records) == 1
        records = [
            r if r.title else replace(r, title=stem if alone else f"{stem} {n + 1}") for n, r in enumerate(records)
        ]

        def added(run_ids: list[str]) -> None:
            if alone:
                self.open_requested.emit(replace(records[0], id=run_ids[0]))
            else:
                self._context.notify(f"{count_of(len(run_ids), 'run')} of {path.name} are in the history now.")
                self._awaited = run_ids

        self._history.ask(lambda store: [store.add(r) for r in records], added, owner=self, changes=True)

    # -- the list ------------------------------------------------------------------------------------------------------

    def _show(self, entries: list[RunEntry], size: int, tags: dict[str, int]) -> None:
        self.tags = tags
        self.table.show_entries(entries)
        if self._awaited:
            self.select(self._awaited)
            self._awaited = []
        found = "found" if self.search.text() or self.tag_filter.currentData() else "kept"
        self.size_text.setText(f"{count_of(len(entries), 'run')} {found}  ·  {bytes_text(size)} of")
        self._fill_tag_filter()
        self._selection_changed()

    def _fill_tag_filter(self) -> None:
        chosen = self.tag_filter.currentData() or ""
        self.tag_filter.blockSignals(True)
        self.tag_filter.clear()
        self.tag_filter.addItem("All tags", "")
        for tag, count in self.tags.items():
            self.tag_filter.addItem(f"{tag} ({count})", tag)
        self.tag_filter.setCurrentIndex(max(0, self.tag_filter.findData(chosen)))
        self.tag_filter.blockSignals(False)
        self.tag_filter.setVisible(bool(self.tags))
        if chosen and chosen not in self.tags:
            self.refresh()

    def _changed(self) -> None:
        self._fresh = False
        if self.isVisible():
            self.refresh()

    def _selection_changed(self) -> None:
        entries = self.selected()
        one, some = len(entries) == 1, bool(entries)
        for button in (self.open_button, self.again_button):
            button.setEnabled(one)
        for button in (self.export_button, self.pin_button, self.tag_button, self.delete_button):
            button.setEnabled(some)
        self.export_button.setMenu(self.export_several if len(entries) > 1 else self.export_one)
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

    def _with_records(self, then: Callable[[Sequence[RunRecord]], None]) -> None:
        ids = [e.id for e in self.selected()]
        self._history.ask(lambda store: [store.load(i) for i in ids], then, owner=self)

    def _open(self) -> None:
        self._with_record(self.open_requested.emit)

    def _run_again(self) -> None:
        self._with_record(self._apply)

    def _apply(self, record: RunRecord) -> None:
        self._context.run_again(setup_of(record))
        model = self._context.model
        if model is not None and record.model.fingerprint not in ("", model.fingerprint):
            self._context.notify(f"This run was made with {record.model.name}; {model.name} is loaded now.")

    def _rename(self) -> None:
        entries = self.selected()
        if len(entries) == 1:
            self.table.rename(entries[0].id)

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
        """Remove runs without asking; Undo brings them back."""
        self.changes.delete([e for e in self.model.entries if e.id in run_ids])

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
        menu.addMenu(self.tag_menu)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.table.viewport().mapToGlobal(place))

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
        self.pin_button = button(
            "Pin", "ph.push-pin", "Keep it beyond the size limit", lambda: self.changes.pin(self.selected())
        )
        self.rename_button = button("Rename", "ph.pencil-simple", "Another title (F2)", self._rename)
        self.delete_button = button("Delete", "ph.trash", "Remove from the history (Del)", self._ask_delete)
        self.export_button = button("Export", "ph.export", "Write it to a file", None)
        self.export_one = export_menu(self._context, self, self._with_record)
        self.export_several = runs_menu(self._context, self, self._with_records)
        self.tag_button = button("Tags", "ph.tag", "Words of your own, to find runs by", None)
        self.tag_menu = TagMenu(self.selected, lambda: list(self.tags), self.changes.tag, self)
        self.tag_button.setMenu(self.tag_menu)
        self.view_button = button("View", "ph.sliders-horizontal", "Sort, and choose columns", None)
        self.view_menu = ViewMenu(self.table, self)
        self.view_button.setMenu(self.view_menu)
        self.undo_button = button(
            "Undo", "ph.arrow-u-up-left", "Bring back what was deleted (Ctrl+Z)", self.changes.undo
        )
        self.undo_button.hide()
        self.import_button = button("Import", "ph.download-simple", "Add a run from a JSON file", self._ask_import)
        self.import_action = QAction("Import a run…", self)
        self.import_action.triggered.connect(self._ask_import)

    def _set_up_table(self) -> None:
        t = self.table
        for keys, work in (
            ("Return", self._open),
            ("Enter", self._open),
            ("Delete", self._ask_delete),
            ("Ctrl+Z", self.changes.undo),
        ):
            action = QAction(t)
            action.setShortcut(QKeySequence(keys))
            action.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
            action.triggered.connect(work)
            t.addAction(action)

    def _lay_out(self) -> None:
        head = row(
            self.search, self.tag_filter, self.size_text, self.limit, self.view_button, self.import_button, spacing=8
        )
        head.setStretch(0, 1)
        actions = row(
            self.open_button,
            self.again_button,
            self.export_button,
            1,
            self.tag_button,
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
        self.tag_filter.activated.connect(lambda _: self.refresh())
        self.table.sort_changed.connect(self.refresh)
        head = self.table.horizontalHeader()
        head.customContextMenuRequested.connect(lambda place: self.view_menu.popup(head.mapToGlobal(place)))
        self.model.renamed.connect(self.changes.rename)
        self.changes.undoable_changed.connect(self.undo_button.setVisible)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self._selection_changed())
        self.table.doubleClicked.connect(lambda index: self._open())
        self.table.customContextMenuRequested.connect(self._menu)

    def _set_limit(self) -> None:
        if self.limit.value() != self._history.limit_mb:
            self._history.set_limit(self.limit.value())


def _overlay_name(record: RunRecord, entry: RunEntry) -> str:
    return record.title or f"{strategy_text(method_named(entry.strategy), entry.k)}, {entry.tokens} tokens"
