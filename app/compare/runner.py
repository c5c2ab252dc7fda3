"""Runs a comparison through the engine session: warm-ups, then the panes one after the other, as often as asked."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.compare.analysis import PaneRun
from app.engine.run import Run, RunRequest
from app.engine.session import RunRefused
from app.state.context import AppContext
from pass_core.decoding.events import StepEvent
from pass_core.runtime.other_work import OtherWork
from pass_core.settings import Baseline, RunSettings, SamplingSettings, StopConditions

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings

WARM_UP_TOKENS = 12


class RoundOrder(StrEnum):
    """Which pane runs first in each round."""

    A_FIRST = "A first"
    B_FIRST = "B first"
    ALTERNATE = "alternate"


@dataclass(frozen=True, slots=True)
class PaneChoice:
    """How one pane decodes; sampling comes from the plan.

    Attributes:
        lookahead: None for the untrained mean embedding.
        label: what the pane is called in legends and the history.
    """

    settings: RunSettings
    lookahead: LookaheadEmbeddings | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """A whole comparison: what both panes share, and what they do not.

    Attributes:
        warm_up: run both once, shortly, before anything counts (needed wherever times matter).
    """

    prompt: str
    prompt_text: str
    chat: bool
    seed: int
    sampling: SamplingSettings
    stop: StopConditions
    panes: tuple[PaneChoice, PaneChoice]
    order: RoundOrder = RoundOrder.A_FIRST
    rounds: int = 1
    warm_up: bool = True
    group: str = field(default_factory=lambda: uuid.uuid4().hex)

    def turns(self) -> list[tuple[int, int]]:
        """(pane, round) of every measured run, in order."""
        out: list[tuple[int, int]] = []
        for number in range(self.rounds):
            b_first = self.order is RoundOrder.B_FIRST or (self.order is RoundOrder.ALTERNATE and number % 2 == 1)
            out += [(pane, number) for pane in ((1, 0) if b_first else (0, 1))]
        return out

    def request(self, pane: int, *, warm_up: bool = False) -> RunRequest:
        """What the session is asked for."""
        choice = self.panes[pane]
        stop = self.stop
        if warm_up:
            stop = StopConditions(min(WARM_UP_TOKENS, stop.max_new_tokens), ignore_eos=True)
        return RunRequest(
            prompt=self.prompt,
            prompt_text=self.prompt_text,
            chat=self.chat,
            seed=self.seed,
            settings=replace(choice.settings, sampling=self.sampling),
            stop=stop,
            lookahead=choice.lookahead,
            recorded=not warm_up,
            label=choice.label,
            group=self.group,
        )


class ComparisonRunner(QObject):
    """One comparison at a time, one run at a time: two runs would share the device.

    Attributes:
        plan: of the present or last comparison.
        results: per pane the finished rounds, in order.
        runs: per pane the run of its first round.
        void: why it does not count, "" while it does.

    Signals:
        stage_changed(str): what is being done, "" when nothing is.
        run_started(int, int): a pane's round begins.
        steps_arrived(int, int, list[StepEvent]): steps of a pane's round.
        round_finished(int, int): a pane's round is in `results`.
        finished(): all rounds are there, or it was stopped.
        failed(BaseException): a run ended with an error; `finished` follows.
    """

    stage_changed = Signal(str)
    run_started = Signal(int, int)
    steps_arrived = Signal(int, int, list)
    round_finished = Signal(int, int)
    finished = Signal()
    failed = Signal(object)

    def __init__(self, context: AppContext, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.plan: ComparisonPlan | None = None
        self.results: tuple[list[PaneRun], list[PaneRun]] = ([], [])
        self.runs: list[Run | None] = [None, None]
        self.void = ""
        self._todo: list[tuple[int, int | None]] = []  # (pane, round), round None for a warm-up
        self._now: tuple[int, int | None] | None = None
        self._run: Run | None = None
        self._memory = 0
        self._others = OtherWork()

    @property
    def running(self) -> bool:
        return self._now is not None

    def start(self, plan: ComparisonPlan) -> None:
        """Begin.

        Raises:
            RunRefused: no model, or it is in use.
        """
        if self.running:
            raise RunRefused("A comparison is running already. Stop it first.")
        self.plan, self.void = plan, ""
        self.results, self.runs = ([], []), [None, None]
        warm_ups: list[tuple[int, int | None]] = [(0, None), (1, None)] if plan.warm_up else []
        self._todo = [*warm_ups, *plan.turns()]
        self._next()

    def stop(self) -> None:
        """Give up; what has finished stays."""
        if self.running:
            self._todo.clear()
            if not (self.results[0] and self.results[1]):  # whole rounds that are there count
                self.set_void("it was stopped")
            self._context.session.stop()

    def set_void(self, reason: str) -> None:
        """Say that this comparison does not count."""
        if self.running and not self.void:
            self.void = reason

    def change_sampling(self, sampling: SamplingSettings) -> None:
        """A slider moved: the next step uses it, as everywhere, and the comparison is void."""
        if self._run is not None:
            self._context.session.set_settings(replace(self._context.session.settings, sampling=sampling))
            self.set_void("the sampling was changed while a pane was running")

    def _next(self) -> None:
        plan = self.plan
        if not self._todo or plan is None:
            self._end()
            return
        self._now = self._todo.pop(0)
        pane, number = self._now
        name = "AB"[pane]
        try:
            self._run = self._context.session.start(plan.request(pane, warm_up=number is None))
        except RunRefused:
            self._now = self._run = None
            self._todo.clear()
            if self.results[0] or self.results[1]:
                self.finished.emit()
            raise
        self._run.steps_arrived.connect(self._arrived)
        self._run.finished.connect(self._run_finished)
        if number is None:
            self.stage_changed.emit(f"Warming up {name}…")
            return
        self._memory, self._others = 0, OtherWork()
        if number == 0:
            self.runs[pane] = self._run
        of = f", round {number + 1} of {plan.rounds}" if plan.rounds > 1 else ""
        self.stage_changed.emit(f"Running {name}{of}…")
        self.run_started.emit(pane, number)

    def _arrived(self, steps: list[StepEvent]) -> None:
        if self._now is not None and self._now[1] is not None:
            self._memory = max(self._memory, self._in_use())
            self.steps_arrived.emit(self._now[0], self._now[1], steps)

    def _run_finished(self) -> None:
        run = self._run
        if run is None or self._now is None:
            return
        pane, number = self._now
        self._run = None
        if run.error is not None:
            self._todo.clear()
            self.set_void("a run failed")
            self.failed.emit(run.error)
        elif number is not None and run.events:
            self.results[pane].append(pane_run(run, self._memory or None, self._others.processors()))
            self.round_finished.emit(pane, number)
        try:
            self._next()
        except RunRefused as error:
            self.failed.emit(error)

    def _end(self) -> None:
        self._now = None
        self.stage_changed.emit("")
        self.finished.emit()

    def _in_use(self) -> int:
        from pass_core.models.memory import memory_in_use

        model = self._context.model
        use = memory_in_use(model.device if model is not None else "cpu")
        return use.device if use.device is not None else use.process


def pane_run(run: Run, memory: int | None = None, others: float | None = None) -> PaneRun:
    """A finished run as the analysis takes it."""
    return PaneRun(
        steps=tuple(run.events),
        settings=run.request.settings,
        seed=run.request.seed,
        prompt=run.request.prompt,
        model=run.model_fingerprint,
        dtype=run.dtype,
        external=run.request.settings.strategy in Baseline,
        memory=memory,
        others=others,
    )
