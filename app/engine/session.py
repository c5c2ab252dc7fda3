"""The engine as the window sees it: start, stop, live settings, and events drained by a timer."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.engine.run import Run, RunRequest
from app.engine.thread import EngineThread
from app.engine.worker import DecodeRequest, Ended, Message, carry_out
from app.state.paced import PacedTimer
from pass_core.decoding.events import StepEvent
from pass_core.settings import BaselineSettings, DecodingSettings

if TYPE_CHECKING:
    from pass_core.engine import Engine

DRAIN_LEAST_MS, DRAIN_MOST_MS, DRAIN_SHARE = 33, 120, 0.025  # between two looks at what was written
TOLD_LEAST_MS, TOLD_MOST_MS, TOLD_SHARE = 100, 500, 0.01  # between two changes of a run's figures


class EngineState(StrEnum):
    """What the engine is doing with runs."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"


class RunRefused(RuntimeError):
    """A run cannot start now; the message says why and what to do."""


class EngineSession(QObject):
    """Starts runs in the engine thread, one at a time, and delivers what they write.

    A page follows the signals of the `Run` that `start` gave it. The signals here tell of every run, whoever asked for
    it: for what keeps all of them (the history) or shows the newest one (the status line).

    Signals:
        run_started(Run), steps_arrived(Run, list[StepEvent]), run_progressed(Run), run_finished(Run): in this order for
            every run, in the GUI thread (`Run` says how often); events of a run that was replaced or dropped never
            arrive.
        state_changed(EngineState).
    """

    run_started = Signal(object)
    steps_arrived = Signal(object, list)
    run_progressed = Signal(object)
    run_finished = Signal(object)
    state_changed = Signal(object)

    def __init__(self, thread: EngineThread, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._thread = thread
        self.state = EngineState.IDLE
        self.refuse_when: Callable[[], str] = lambda: ""
        self._ids = itertools.count(1)
        self._engine: Engine | None = None
        self._settings = DecodingSettings()
        self._run: Run | None = None
        self._current: DecodeRequest | None = None
        self._queue: deque[Message] = deque()
        self._timer = PacedTimer(self, DRAIN_LEAST_MS, DRAIN_MOST_MS, DRAIN_SHARE)
        self._timer.due.connect(self.drain)
        self._figures = PacedTimer(self, TOLD_LEAST_MS, TOLD_MOST_MS, TOLD_SHARE, once=True)
        self._figures.due.connect(self._tell)

    @property
    def running(self) -> bool:
        return self._run is not None

    @property
    def stopping(self) -> bool:
        """Whether the run was asked to end."""
        return self.state is EngineState.STOPPING

    @property
    def current_run(self) -> Run | None:
        """The run in progress."""
        return self._run

    @property
    def settings(self) -> DecodingSettings:
        """The settings that the next step will use."""
        return self._settings

    def set_engine(self, engine: Engine | None) -> None:
        """The engine that runs use from now on (stop first)."""
        self._engine = engine

    def set_settings(self, settings: DecodingSettings) -> None:
        """Replace the live settings: one immutable value, read by the worker before each step."""
        self._settings = settings

    def start(self, request: RunRequest) -> Run:
        """Begin a generation.

        Raises:
            RunRefused: no model, a run in progress, or the model is held by a job.
        """
        if self._engine is None:
            raise RunRefused("No model is loaded yet. Choose one on the left, or wait until it has loaded.")
        if self._run is not None:
            raise RunRefused("A generation is running already. Stop it first.")
        if holder := self.refuse_when():
            raise RunRefused(f"The model is busy with {holder}. Wait for it to finish, or stop it first.")
        if self._thread.leaving:
            raise RunRefused("The window is closing.")
        engine = self._engine
        model = engine.model
        run = Run(
            next(self._ids),
            request,
            model_name=model.name,
            model_source=model.source,
            model_fingerprint=model.fingerprint,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
        )
        if isinstance(request.settings, BaselineSettings):
            settings = request.settings
        else:
            self._settings, settings = request.settings, request.live or (lambda: self._settings)
        decode = DecodeRequest(
            run_id=run.id,
            engine=engine,
            prompt=request.source,
            settings=settings,
            stop=request.stop,
            seed=request.seed,
            lookahead=request.lookahead,
        )
        self._run, self._current = run, decode
        self._set_state(EngineState.RUNNING)
        self.run_started.emit(run)
        self._timer.start()
        self._thread.submit(lambda: carry_out(decode, self._queue, self._thread.let_short_tasks_in))
        return run

    def stop(self) -> None:
        """Ask the run to end; it does within one forward pass, and `run_finished` follows."""
        if self._current is not None and self.state is EngineState.RUNNING:
            self._current.cancel.set()
            self._set_state(EngineState.STOPPING)

    def drain(self) -> None:
        """Deliver what the worker queued since the last time; messages of other runs are dropped."""
        steps: list[StepEvent] = []
        ended: Ended | None = None
        run = self._run
        while self._queue:
            run_id, message = self._queue.popleft()
            if run is None or run_id != run.id:
                continue
            if isinstance(message, Ended):
                ended = message
            else:
                steps.append(message)
        if run is None:
            return
        if steps:
            run.add(steps)
            self.steps_arrived.emit(run, steps)
            self._figures.request()
        if ended is not None:
            self._timer.stop()
            self._tell()
            self._run = self._current = None
            run.end(ended.error)
            self._set_state(EngineState.IDLE)
            self.run_finished.emit(run)
            run.finished.emit()  # last, for it may start the next run

    def _tell(self) -> None:
        """Figures and sentences of the run are due."""
        self._figures.stop()
        if self._run is not None:
            self._run.progressed.emit()
            self.run_progressed.emit(self._run)

    def drop(self) -> None:
        """Cancel the run and deliver nothing more of it (the window has closed). Idempotent."""
        if self._current is not None:
            self._current.cancel.set()
        self._timer.stop()
        self._queue.clear()
        self._run = self._current = None

    def _set_state(self, state: EngineState) -> None:
        if state is not self.state:
            self.state = state
            self.state_changed.emit(state)
