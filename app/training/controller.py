"""Drives one training run (and its estimate) through the window's jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.engine.jobs import Job, JobRefused
from app.engine.measurement import Measurement
from app.state.context import AppContext
from app.training.plan import TrainingPlan, carry_out, measure, training_sentence
from pass_core.progress import Progress

if TYPE_CHECKING:
    from pass_core.training.events import Finished

TRAINING, MEASURING = "training", "measuring a training step"


class TrainingState(StrEnum):
    """What is going on."""

    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "training"
    PAUSED = "paused"
    STOPPING = "stopping"


class TrainingController(QObject):
    """At most one run at a time; the model is claimed from start to end.

    Attributes:
        measurement: idle, running, stopping, for the buttons; state: what it does while it runs.
        plan: of the present or last run.
        measuring: whether an estimate is being made.

    Signals:
        state_changed(): read `state`.
        progressed(Progress): while the text is read or written.
        reported(TrainingEvent): see pass_core.training.events.
        ended(Finished | None): the run is over; None when it ended before the first step.
        estimated(TrainingPlan, Estimate), estimate_failed(str): of `estimate`; "" when it was cancelled.
    """

    state_changed = Signal()
    progressed = Signal(object)
    reported = Signal(object)
    ended = Signal(object)
    estimated = Signal(object, object)
    estimate_failed = Signal(str)

    def __init__(self, context: AppContext, parent: QObject | None = None) -> None:
        super().__init__(parent)
        from pass_core.training.control import PauseSwitch

        self._context = context
        self._switch = PauseSwitch()
        self._new_switch = PauseSwitch
        self._job: Job | None = None
        self._timing: Job | None = None
        self._waiting: TrainingPlan | None = None
        self.measurement = Measurement(context, TRAINING, self._give_up, self)
        self.state = TrainingState.IDLE
        self.plan: TrainingPlan | None = None
        self.measuring = False

    @property
    def active(self) -> bool:
        """Whether a run is going on, paused ones included."""
        return self.state is not TrainingState.IDLE

    def estimate(self, plan: TrainingPlan) -> bool:
        """Time a step; False, and a word in the banner, when the model is in use."""
        engine = self._context.engine
        if engine is None or self.measuring:
            return False
        try:
            job = self._context.jobs.start(MEASURING, lambda control: measure(plan, engine, control), exclusive=True)
        except JobRefused as error:
            self._context.report_error(str(error))
            return False
        self.measuring = True
        job.succeeded.connect(lambda estimate: self.estimated.emit(plan, estimate))
        job.failed.connect(lambda error: self.estimate_failed.emit(training_sentence(error)))
        job.cancelled.connect(lambda: self.estimate_failed.emit(""))
        self._timing = job
        job.done.connect(self._measured)
        return True

    def start(self, plan: TrainingPlan) -> None:
        """Begin, or resume from a checkpoint; refused with a sentence while the model is in use."""
        engine = self._context.engine
        if engine is None:
            self._context.report_error("No model is loaded yet. Choose one on the Generate page first.")
            return
        if self.active:
            return
        if self.measuring and self._timing is not None:
            self._timing.cancel()  # an estimate gives way to what somebody starts
            self._waiting = plan
            self._set(TrainingState.PREPARING)
            return
        switch = self._switch = self._new_switch()
        try:
            job = self._context.jobs.start(
                TRAINING, lambda control: carry_out(plan, engine, control, switch), exclusive=True
            )
        except JobRefused as error:
            self._context.report_error(str(error))
            self._set(TrainingState.IDLE)
            return
        self.plan, self._job = plan, job
        job.progress.connect(self._relay_progress)
        job.received.connect(self._relay_event)
        job.succeeded.connect(self._succeeded)
        job.failed.connect(self._failed)
        job.cancelled.connect(lambda: self._over(None))
        self._set(TrainingState.PREPARING)

    def pause(self) -> None:
        """Rest after the present step; the model stays claimed."""
        if self.state is TrainingState.RUNNING:
            self._switch.pause()
            self._set(TrainingState.PAUSED)

    def go_on(self) -> None:
        """End a pause."""
        if self.state is TrainingState.PAUSED:
            self._switch.go_on()
            self._set(TrainingState.RUNNING)

    def cancel(self) -> None:
        """End after the present step; the checkpoint stays."""
        self.measurement.stop()

    def _give_up(self) -> None:
        if self._waiting is not None:
            self._waiting = None
            self._set(TrainingState.IDLE)
        elif self._job is not None:
            self._set(TrainingState.STOPPING)
            self._job.cancel()

    def shut_down(self) -> None:
        """The window closes: end cleanly, with a checkpoint."""
        self._waiting = None
        self.cancel()

    def _measured(self) -> None:
        self.measuring, self._timing = False, None
        plan, self._waiting = self._waiting, None
        if plan is not None:
            self._set(TrainingState.IDLE)
            self.start(plan)

    def _relay_progress(self, progress: Progress) -> None:
        self.progressed.emit(progress)

    def _relay_event(self, event: object) -> None:
        from pass_core.training.events import Started

        if isinstance(event, Started) and self.state is TrainingState.PREPARING:
            self._set(TrainingState.RUNNING)
        self.reported.emit(event)

    def _succeeded(self, finished: Finished) -> None:
        self._over(finished)

    def _failed(self, error: BaseException) -> None:
        self._context.report_error(training_sentence(error), error)
        self._over(None)

    def _over(self, finished: Finished | None) -> None:
        job, self._job = self._job, None
        if job is None:
            return

        def announce() -> None:  # the model is free by then: a receiver may use it
            self._set(TrainingState.IDLE)
            self.ended.emit(finished)

        job.done.connect(announce)

    def _set(self, state: TrainingState) -> None:
        self.state = state
        if self.active:
            self.measurement.begin()
            self._context.activity.tell("paused" if state is TrainingState.PAUSED else "")
        else:
            self.measurement.end()
        self.state_changed.emit()
