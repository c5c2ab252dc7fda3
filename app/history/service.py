"""The history as the window sees it: records every run, answers in the GUI thread."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal
from shiboken6 import isValid

from app.engine.run import Run
from app.history.recorder import HistoryRecorder
from app.history.store import DEFAULT_LIMIT, HistoryError, HistoryStore
from app.state.folders import Place, choose_folder, default_folder, folder_of
from app.state.preferences import Preferences
from pass_core.decoding.events import StepEvent
from pass_core.records.runs import (
    LookaheadInfo,
    ModelInfo,
    RunRecord,
    RunStatus,
    describe_environment,
    describe_lookahead,
)

if TYPE_CHECKING:
    from app.state.context import AppContext
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel

LIMIT_KEY = "history/limit_mb"
FILE_NAME = "history.sqlite3"


def kept_path(preferences: Preferences) -> Path | None:
    """The history file in the folder that was chosen for it; None where nothing shall be remembered."""
    return folder_of(Place.HISTORY, preferences) / FILE_NAME if preferences.remembers else None


class HistoryService(QObject):
    """Records the session's runs and runs questions against the store in the recorder's thread.

    Signals:
        changed(): the list of runs is another now.
        noticed(str): a plain sentence about the history file.
    """

    changed = Signal()
    noticed = Signal(str)
    _told = Signal(str)
    _wrote = Signal()
    _answered = Signal(object, object, object)

    def __init__(self, context: AppContext, path: Path | None, parent: QObject | None = None) -> None:
        """Args:
        path: the history file; None keeps runs in memory only.
        """
        super().__init__(parent)
        self._context = context
        self._hashes: list[tuple[weakref.ref[LookaheadEmbeddings], LookaheadInfo]] = []
        self._told.connect(self._relay_notice)
        self._wrote.connect(self.changed)
        self._answered.connect(self._deliver)
        limit = context.preferences.get(LIMIT_KEY, DEFAULT_LIMIT // 1_000_000)
        self._recorder: HistoryRecorder | None = HistoryRecorder(
            path, limit=max(1, limit) * 1_000_000, notify=self._told.emit
        )
        self.limit_mb = limit
        session = context.session
        session.run_started.connect(self._run_started)
        session.steps_arrived.connect(self._steps_arrived)
        session.run_finished.connect(self._run_finished)

    def ask(
        self,
        work: Callable[[HistoryStore], Any],
        then: Callable[[Any], None] = lambda _: None,
        *,
        owner: QObject | None = None,
        changes: bool = False,
    ) -> None:
        """Do `work` with the store in its thread; `then` gets the result in the GUI thread, the banner any error.

        Args:
            owner: nothing is delivered when this object is gone by then.
            changes: the list of runs will be another afterwards.
        """
        if self._recorder is None:
            return

        def reply(result: Any, error: BaseException | None) -> None:
            self._answered.emit((then, owner), result, error)
            if changes:
                self._wrote.emit()

        self._recorder.ask(work, reply)

    def set_limit(self, megabytes: int) -> None:
        """Set another bound of the file's size; older runs beyond it go now."""
        self.limit_mb = megabytes
        self._context.preferences.set(LIMIT_KEY, megabytes)
        self.ask(lambda store: store.set_limit(megabytes * 1_000_000), changes=True)

    def move_to(self, folder: Path | None) -> None:
        """Keep the history in another folder from now on, its runs taken along; None is the default one.

        A history that is there already is opened as it is.
        """
        preferences = self._context.preferences
        target = default_folder(Place.HISTORY) if folder is None else folder

        def moved(sentence: str) -> None:
            choose_folder(Place.HISTORY, preferences, target)
            self._context.notify(sentence)

        self.ask(lambda store: store.move_to(target / FILE_NAME), moved, changes=True)

    def close(self) -> None:
        """Commit everything and end the recorder's thread; idempotent."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close()

    def record_of(self, run: Run) -> RunRecord:
        """A run of this session, as it stands, as a record (hashes the embeddings when first asked)."""
        return _record(run, self._context.model, self._describe(run), tuple(run.events))

    # --- following the session ---

    def _run_started(self, run: Run) -> None:
        if self._recorder is None or not run.request.recorded:
            return
        model = self._context.model
        self._recorder.begin(run.uid, lambda: _record(run, model, self._describe(run), ()))
        self.ask(lambda store: None, changes=True)

    def _steps_arrived(self, run: Run, steps: list[StepEvent]) -> None:
        if self._recorder is not None:
            self._recorder.steps(run.uid, tuple(steps))

    def _run_finished(self, run: Run) -> None:
        if self._recorder is not None:
            self._recorder.end(run.uid)
            self.ask(lambda store: None, changes=True)

    def _describe(self, run: Run) -> LookaheadInfo | None:
        lookahead = run.request.lookahead
        if lookahead is None:
            return None
        for known, info in self._hashes:
            if known() is lookahead:
                return info
        info = describe_lookahead(lookahead)
        self._hashes = [(r, i) for r, i in self._hashes if r() is not None]
        self._hashes.append((weakref.ref(lookahead), info))
        return info

    def _relay_notice(self, sentence: str) -> None:
        self.noticed.emit(sentence)

    def _deliver(self, receiver: Any, result: Any, error: BaseException | None) -> None:
        then, owner = receiver
        if owner is not None and not isValid(owner):
            return
        if error is None:
            then(result)
        elif isinstance(error, HistoryError):
            self._context.report_error(str(error), error)
        else:
            self._context.report_error(f"The history could not be read: {error}. Try again, or restart.", error)


def _record(
    run: Run, model: LanguageModel | None, lookahead: LookaheadInfo | None, steps: tuple[StepEvent, ...]
) -> RunRecord:
    request = run.request
    environment = {} if model is None else {"environment": describe_environment(model)}
    return RunRecord(
        id=run.uid,
        created=run.started,
        title=request.label,
        prompt=request.prompt,
        typed=request.prompt_text if request.chat else None,
        messages=request.messages,
        seed=request.seed,
        settings=request.settings,
        stop=request.stop,
        model=ModelInfo(run.model_name, run.model_source, run.model_fingerprint),
        lookahead=lookahead,
        steps=steps,
        status=RunStatus.FINISHED if run.done else RunStatus.RUNNING,
        group=request.group,
        **environment,
    )
