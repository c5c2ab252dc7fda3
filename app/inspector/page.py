"""The Inspect page: any run, of this session or from the history, opened up and replayed."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeyEvent
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from app.engine.run import Run
from app.export.menu import export_menu
from app.history.service import HistoryService
from app.inspector.viewer import RunViewer
from app.state.context import AppContext
from app.state.setup import setup_from, setup_of
from app.theme.icons import set_icon
from app.widgets.actions import make_action
from app.widgets.basic import ElidedLabel, row
from app.widgets.page import Page
from app.widgets.series import settings_changes
from app.widgets.text_format import changes_text, settings_text
from pass_core.decoding.events import StepEvent
from pass_core.records.runs import RunRecord, RunStatus
from pass_core.settings import RunSettings


class InspectPage(Page):
    """Shows the newest run of the Generate page, or a run that another page opens here.

    Attributes:
        viewer: text, replay, plots and inspector.
        record: the run from the history that is shown, None when it is one of this session.
    """

    def __init__(self, context: AppContext, history: HistoryService, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._context, self._history = context, history
        self._run: Run | None = None
        self._newest: Run | None = None
        self.record: RunRecord | None = None
        self._counted, self._changes = 0, 0
        self.viewer = RunViewer(context.theme)
        self.viewer.text.set_empty_state(
            "Nothing to inspect yet", "Run something on the Generate page, or open a run from the history."
        )
        self.title = ElidedLabel("", "heading")
        self.facts = ElidedLabel("", "hint")
        self.again = QPushButton("Run again")
        self.again.setToolTip("Run this prompt, seed and settings on the Generate page")
        self.export = QPushButton("Export")
        self.export.setMenu(export_menu(context, self, self._with_record))
        set_icon(self.again, "ph.arrow-counter-clockwise", context.theme)
        set_icon(self.export, "ph.export", context.theme)
        self._lay_out()
        self.again.clicked.connect(self._run_again)
        self.viewer.step_opened.connect(self._show_head)
        self._show_head()

    def show_run(self, run: Run, token: int | None = None) -> None:
        """Open a run of this session, at a token if given."""
        if run is not self._run:
            self._run, self.record = run, None
            self._counted = -1
            request = run.request
            prompt = request.prompt_text + ("\n\n" if request.chat else "")
            depths = request.lookahead.count if request.lookahead is not None else None
            self.viewer.show_run(prompt, run.events, depths=depths)
        elif self.viewer.replay.timeline.tokens != run.totals.new_tokens:
            self.viewer.extend(run.events)
        if token is not None:
            self.viewer.inspect_token(token)
        self._show_head()

    def show_record(self, record: RunRecord, token: int | None = None) -> None:
        """Open a run from the history or a file."""
        self._run, self.record = None, record
        self._counted = -1
        prompt = record.prompt if record.typed is None else record.typed + "\n\n"
        depths = record.lookahead.count if record.lookahead is not None else None
        self.viewer.show_run(prompt, record.steps, depths=depths)
        if token is not None:
            self.viewer.inspect_token(token)
        self._show_head()

    def open_run(self, run: Run, token: int) -> None:
        """Open a run at a token and show this page."""
        self.show_run(run, token)
        self._context.page_requested.emit("inspect")

    def open_record(self, record: RunRecord) -> None:
        """Open a run from the history and show this page."""
        self.show_record(record)
        self._context.page_requested.emit("inspect")

    def open_newest(self, token: int | None = None) -> None:
        """Open the newest run of the Generate page and show this page."""
        if self._newest is not None:
            self.show_run(self._newest, token)
        self._context.page_requested.emit("inspect")

    def actions_for_menu(self) -> list[QAction]:
        """Entries of the page's menu."""
        replay = self.viewer.replay
        return [
            make_action(self, "Play or pause", replay.toggle),
            make_action(self, "One step back", lambda: replay.step(-1)),
            make_action(self, "One step forward", lambda: replay.step(1)),
            make_action(self, "Inspect the newest run", self.open_newest, "Ctrl+I"),
        ]

    def shown_run(self) -> Run | None:
        """The run that is open, when it is one of this session."""
        return self._run

    def page_shown(self) -> None:
        """Became visible: a run of this session may have grown meanwhile."""
        if self._run is not None:
            self.show_run(self._run)
        elif self.record is None and self._newest is not None:
            self.show_run(self._newest)
        self.setFocus()

    def page_hidden(self) -> None:
        """Nobody looks: the replay rests."""
        self.viewer.replay.pause()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Space plays; arrows step; Home and End jump."""
        replay = self.viewer.replay
        match event.key():
            case Qt.Key.Key_Space:
                replay.toggle()
            case Qt.Key.Key_Left:
                replay.step(-1)
            case Qt.Key.Key_Right:
                replay.step(1)
            case Qt.Key.Key_Home:
                replay.seek(0)
            case Qt.Key.Key_End:
                replay.seek(replay.timeline.tokens)
            case _:
                super().keyPressEvent(event)

    # -- following the session ---------------------------------------------------------------------------------------

    def follow(self, run: Run) -> None:
        """The newest run: the page goes with it unless it shows something that was opened on purpose."""
        follow = self.record is None and (self._run is None or self._run is self._newest)
        if self._newest is not None:
            self._newest.steps_arrived.disconnect(self._arrived)
            self._newest.finished.disconnect(self._show_head)
        self._newest = run
        run.steps_arrived.connect(self._arrived)
        run.finished.connect(self._show_head)
        if follow and self.isVisible():
            self.show_run(run)
        elif follow:
            self._run = None

    def _arrived(self, steps: list[StepEvent]) -> None:
        run = self._newest
        if run is not None and run is self._run and self.isVisible():
            self.viewer.extend(run.events)
            self._show_head()

    # -- look ----------------------------------------------------------------------------------------------------------

    def _show_head(self) -> None:
        run, record = self._run, self.record
        self.again.setEnabled(run is not None or record is not None)
        self.export.setEnabled(bool((run and run.events) or record))
        if run is not None:
            self.title.set_full_text(run.request.label or _first_words(run.request.prompt_text))
            facts = [*self._settings(run.request.settings), f"seed {run.request.seed}"]
        elif record is not None:
            self.title.set_full_text(record.title or _first_words(record.typed or record.prompt))
            facts = [*self._settings(record.settings), f"seed {record.seed}"]
            facts.append(f"{record.created.astimezone():%d %b %Y %H:%M}")
            if record.status is RunStatus.INTERRUPTED:
                facts.append("interrupted")
        else:
            self.title.set_full_text("")
            facts = []
        self.facts.set_full_text("  ·  ".join(facts))

    def _settings(self, first: RunSettings) -> list[str]:
        """The settings in force at the step that is open, and whether they changed within the run."""
        step, steps = self.viewer.inspector.step, self.viewer.replay.timeline.steps
        if self._counted != len(steps):
            self._counted, self._changes = len(steps), settings_changes(steps)
        texts = [settings_text(first if step is None else step.settings)]
        return [*texts, changes_text(self._changes)] if self._changes else texts

    def _with_record(self, then: Callable[[RunRecord], None]) -> None:
        if self.record is not None:
            then(self.record)
        elif self._run is not None:
            then(self._history.record_of(self._run))

    def _run_again(self) -> None:
        if self.record is not None:
            self._context.run_again(setup_of(self.record))
        elif self._run is not None:
            r = self._run.request
            self._context.run_again(setup_from(r.prompt_text, r.chat, r.seed, r.settings, r.stop, r.messages))

    def _lay_out(self) -> None:
        head = row(self.title, self.facts, self.again, self.export, spacing=12)
        head.setStretch(0, 1)
        head.setStretch(1, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(8)
        layout.addLayout(head)
        layout.addWidget(self.viewer, 1)


def _first_words(text: str) -> str:
    return " ".join(text.split())[:80] or "Run"
