"""What can be done with the text of the Generate page: inspect a step, copy, export; by right click and by button."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject, QPoint, Qt
from PySide6.QtWidgets import QMenu, QToolButton

from app.engine.run import Run
from app.export.menu import export_menu
from app.generate.page import GeneratePage
from app.history.service import HistoryService
from app.state.context import AppContext
from pass_core.records.runs import RunRecord


class TextMenu(QObject):
    """Gives a Generate page its context menu and its export button.

    Attributes:
        export: the menu of the button.
    """

    def __init__(self, page: GeneratePage, history: HistoryService, context: AppContext) -> None:
        super().__init__(page)
        self._page, self._history, self._context = page, history, context
        self.export = export_menu(context, page, self._with_record)
        button = page.export_button
        button.setMenu(self.export)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        page.text.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        page.text.customContextMenuRequested.connect(self._open)
        page.run_started.connect(self._follow)
        button.setEnabled(False)

    def menu(self, place: QPoint) -> QMenu:
        """The menu of a place in the text."""
        page, text = self._page, self._page.text
        menu = QMenu(page)
        piece = text.piece_at(place)
        item = None if piece is None else text.layout_.pieces[piece]
        step = None if item is None else item.step
        title = "Inspect the step that wrote this" if step is not None else "Inspect this run"
        index = step.tokens[0].index if step is not None and step.tokens else None
        if item is not None and item.token is not None:
            index = item.token.index
        inspect = menu.addAction(title, lambda: page.inspect_requested.emit(index))
        menu.addSeparator()
        copy = menu.addAction("Copy", text.copy)
        copy.setEnabled(text.textCursor().hasSelection())
        menu.addAction(page.copy_action)
        menu.addAction("Select all", text.selectAll)
        export = menu.addMenu(export_menu(self._context, page, self._with_record))
        there = self._written()
        for action in (inspect, page.copy_action, export):
            action.setEnabled(there)
        return menu

    def _open(self, place: QPoint) -> None:
        menu = self.menu(place)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self._page.text.viewport().mapToGlobal(place))

    def _written(self) -> bool:
        run = self._page.shown_run()
        return run is not None and bool(run.events)

    def _follow(self, run: Run) -> None:
        run.steps_arrived.connect(self._enable)
        self._enable()

    def _enable(self, *_: object) -> None:
        self._page.export_button.setEnabled(self._written())

    def _with_record(self, then: Callable[[RunRecord], None]) -> None:
        run = self._page.shown_run()
        if run is not None and run.events:
            then(self._history.record_of(run))
