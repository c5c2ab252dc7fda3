"""The Models page: what is on this machine, what is known besides, and what the Hugging Face hub has."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app.engine.aside import Aside
from app.models.model_row import ModelRow
from app.state.context import AppContext
from app.state.errors import plain_sentence
from app.state.folders import Place, folder_of
from app.state.loader import Loader
from app.theme.icons import set_icon
from app.widgets.actions import make_action
from app.widgets.basic import Card, label, row
from app.widgets.page import Page
from app.widgets.progress_strip import ProgressStrip
from app.widgets.text_format import bytes_text
from pass_core.models.hub_search import HubModel, search
from pass_core.models.inventory import Kind, ModelEntry, delete, inventory, lookahead_files
from pass_core.progress import CancelToken, ProgressCallback


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the disk gave: entries, look-ahead files by name, free memory."""

    entries: list[ModelEntry]
    lookahead: dict[str, int]
    free: int


class ModelsPage(Page):
    """Everything about models that needs no loaded one.

    Attributes:
        here, known, hub: the rows of the three cards, by source.
        search: what to look for on the hub.
        download: the one in progress.
    """

    def __init__(self, context: AppContext, loader: Loader, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context, self._loader = context, loader
        self._looking, self._searching, self.download = Aside(self), Aside(self), Aside(self)
        self._deleting = Aside(self)
        self._downloading = ""
        self.here: dict[str, ModelRow] = {}
        self.known: dict[str, ModelRow] = {}
        self.hub: dict[str, ModelRow] = {}
        self._make_parts()
        self._lay_out()
        self._looking.succeeded.connect(self._show_found)
        self._looking.failed.connect(
            lambda e: context.report_error(plain_sentence(e, "The models cannot be listed"), e)
        )
        self._searching.succeeded.connect(self._show_results)
        self._searching.failed.connect(self._search_failed)
        self.download.progress.connect(self.strip.show_progress)
        self.download.succeeded.connect(self._downloaded)
        self.download.failed.connect(self._download_failed)
        self.download.cancelled.connect(self._download_paused)
        self._deleting.succeeded.connect(self.refresh)
        self._deleting.failed.connect(self._delete_failed)
        context.model_changed.connect(self._mark_loaded)

    # -- what people do ------------------------------------------------------------------------------------------------

    def refresh(self, *_: object) -> None:
        """Look at the disk again."""
        trained = folder_of(Place.TRAINED, self._context.preferences)
        self._looking.start(lambda progress, cancel: _look(trained))

    def look_on_hub(self) -> None:
        """Search the hub for what is typed."""
        text = self.search.text().strip()
        if text:
            self.answer.setText("Searching…")
            self._searching.start(lambda progress, cancel: search(text))

    def get(self, source: str) -> None:
        """Download a model (and convert it where it must be)."""
        if self.download.busy:
            self._context.report_error(f"{self._downloading} is being downloaded. Wait for it, or pause it first.")
            return

        def work(progress: ProgressCallback, cancel: CancelToken) -> Path:
            from pass_core.models.fetch import fetch

            return fetch(source, progress=progress, cancel=cancel)

        self._downloading = source
        self.strip.begin(f"Downloading {source}")
        self.pause.setText("Pause")
        self.download.start(work)
        self._show_downloading()

    def load(self, source: str) -> None:
        """Load a model, and show the Generate page."""
        self._loader.load(self._loader.choice_of(source))
        self._context.page_requested.emit("generate")

    def ask_delete(self, entry: ModelEntry) -> None:
        """Ask first: what is deleted must be downloaded or converted again."""
        box = QMessageBox(self)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Delete a model")
        again = "Its GGUF file stays." if entry.kind is Kind.GGUF else "It can be downloaded again."
        box.setText(f"Delete {entry.name} ({bytes_text(entry.disk_bytes)}) from this machine? {again}")
        box.setInformativeText(str(entry.folder))
        yes = box.addButton("Delete", QMessageBox.ButtonRole.DestructiveRole)
        keep = box.addButton("Keep", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(keep)
        yes.clicked.connect(lambda: self.delete(entry))
        box.finished.connect(box.deleteLater)
        box.open()

    def delete(self, entry: ModelEntry) -> None:
        """Delete without asking."""
        model = self._context.model
        if model is not None and entry.source == model.source:
            self._context.report_error(f"{entry.name} is loaded. Unload it first.")
            return
        self._deleting.start(lambda progress, cancel: delete(entry))

    def actions_for_menu(self) -> list[QAction]:
        """Entries of the page's menu."""
        return [make_action(self, "Look at the disk again", self.refresh)]

    def page_shown(self) -> None:
        """Became visible."""
        self.refresh()

    def shut_down(self) -> None:
        """The window closes; what was downloaded in part is kept for the next try where the hub keeps it."""
        for aside in (self._looking, self._searching, self.download, self._deleting):
            aside.shut_down()

    # -- answers -------------------------------------------------------------------------------------------------------

    def _show_found(self, found: Found) -> None:
        self.here = self._fill(self._here, [e for e in found.entries if e.folder is not None], found)
        self.known = self._fill(self._known, [e for e in found.entries if e.folder is None], found)
        self._make_room()
        self._order_stops()
        total = sum(e.disk_bytes for e in found.entries)
        self.total.setText(f"{bytes_text(total)} on the disk, {bytes_text(found.free)} of memory free")
        self._mark_loaded()

    def _look_failed(self, error: Exception) -> None:
        self._context.report_error(plain_sentence(error, "The models cannot be listed"), error)

    def _fill(self, card: Card, entries: list[ModelEntry], found: Found | None) -> dict[str, ModelRow]:
        for old in card.findChildren(ModelRow):
            card.body.removeWidget(old)
            old.hide()
            old.deleteLater()
        rows: dict[str, ModelRow] = {}
        for entry in entries:
            lookahead = found.lookahead.get(entry.name, 0) if found is not None else 0
            made = ModelRow(entry, self._context.theme, lookahead=lookahead, free=found.free if found else None)
            made.load_clicked.connect(self.load)
            made.get_clicked.connect(self.get)
            made.remove_clicked.connect(self.ask_delete)
            made.set_downloads_free(not self.download.busy)
            card.body.addWidget(made)
            rows[entry.source] = made
        return rows

    def _order_stops(self) -> None:
        """Rows are made after the fields below them, and Tab would come to them last."""
        rows = [*self.here.values(), *self.known.values()]
        stops = [w for r in rows for w in (r.load, r.get, r.remove)]
        for one, other in itertools.pairwise([*stops, self.search, self.look]):
            QWidget.setTabOrder(one, other)

    def _make_room(self) -> None:
        """Before anything is painted: rows in the old room would be squeezed."""
        for card in (self._here, self._known, self._hub):
            card.body.activate()
        self._body.adjustSize()

    def _mark_loaded(self, *_: object) -> None:
        model = self._context.model
        for source, each in self.here.items():
            each.show_loaded(model is not None and model.source == source)

    def _show_results(self, results: list[HubModel]) -> None:
        self.answer.setText("" if results else "The hub has no text-generating model of that name.")
        here = set(self.here)
        entries = [
            ModelEntry(
                Kind.HUB,
                m.id,
                m.id,
                m.license,
                f"{m.downloads:,} downloads in a month" + ("; on this machine already" if m.id in here else ""),
                gated=m.gated,
            )
            for m in results
        ]
        self.hub = self._fill(self._hub, entries, None)
        self._make_room()

    def _search_failed(self, error: Exception) -> None:
        self.hub = self._fill(self._hub, [], None)
        self.answer.setText(plain_sentence(error, "The hub cannot be searched"))

    def _downloaded(self, _folder: object) -> None:
        self.strip.end()
        self._context.notify(f"{self._downloading} is on this machine now.")
        self._show_downloading()
        self.refresh()

    def _download_failed(self, error: Exception) -> None:
        self.strip.end()
        self._context.report_error(plain_sentence(error, f"{self._downloading} could not be downloaded"), error)
        self._show_downloading()

    def _download_paused(self) -> None:
        """What came in from the hub is kept; pip begins anew."""
        self.strip.title.set_full_text(f"Paused: {self._downloading}")
        self.strip.detail.set_full_text("Resume goes on where the hub's files ended.")
        self._show_downloading()

    def _delete_failed(self, error: Exception) -> None:
        self._context.report_error(plain_sentence(error, "The model could not be deleted"), error)
        self.refresh()

    def _pause_or_resume(self) -> None:
        if self.download.busy:
            self.pause.setEnabled(False)
            self.download.cancel()
        else:
            self.get(self._downloading)

    def _dismiss(self) -> None:
        if self.download.busy:
            self.download.cancel()
        self.strip.end()
        self._downloading = ""
        self._show_downloading()

    def _show_downloading(self) -> None:
        busy = self.download.busy
        self.pause.setVisible(busy or (bool(self._downloading) and self.strip.isVisibleTo(self)))
        self.pause.setEnabled(True)
        self.pause.setText("Pause" if busy else "Resume")
        for rows in (self.known, self.hub):
            for each in rows.values():
                each.set_downloads_free(not busy)
        self._progress.setVisible(self.pause.isVisibleTo(self._progress))

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        theme = self._context.theme
        self.total: QLabel = label("", "faint")
        self.search = QLineEdit()
        self.search.setPlaceholderText("Name of a model on Hugging Face")
        self.search.setAccessibleName("Search the hub")
        self.search.returnPressed.connect(self.look_on_hub)
        self.look = QPushButton("Search")
        set_icon(self.look, "ph.magnifying-glass", theme)
        self.look.clicked.connect(self.look_on_hub)
        self.answer = label(
            "Any text-generating model; what this program drafts with is said when it is loaded.", "hint"
        )
        self.answer.setWordWrap(True)
        self.strip = ProgressStrip(theme)
        self.strip.cancelled.connect(self._dismiss)
        self.pause = QPushButton("Pause")
        self.pause.clicked.connect(self._pause_or_resume)

    def _lay_out(self) -> None:
        self._progress = Card()
        line = row(self.strip, self.pause)
        line.setStretch(0, 1)
        self._progress.body.addLayout(line)
        self._progress.hide()
        self._here, self._known, self._hub = Card("On this machine"), Card("Known by name"), Card("Hugging Face")
        self._here.head.addWidget(self.total)
        find = row(self.search, self.look)
        find.setStretch(0, 1)
        self._hub.body.addLayout(find)
        self._hub.body.addWidget(self.answer)
        body = self._body = QWidget()
        body.setObjectName("scrollBody")
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(8)
        for card in (self._progress, self._here, self._known, self._hub):
            column.addWidget(card)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(body)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 0, 8)
        layout.addWidget(scroll)


def _look(trained: Path) -> Found:
    from pass_core.models.fit import free_memory

    entries = inventory()
    counts = {e.name: len(lookahead_files(e.name, (trained,))) for e in entries}
    return Found(entries, counts, free_memory())
