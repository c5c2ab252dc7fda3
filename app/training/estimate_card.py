"""What a training takes: time and memory, timed when somebody asks, and the buttons that begin it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QPushButton, QWidget

from app.state.context import AppContext
from app.theme.icons import set_icon
from app.training.controller import TrainingController
from app.training.plan import SELF, TrainingPlan
from app.widgets.basic import Card, label
from app.widgets.run_bar import RunBar
from app.widgets.text_format import bytes_text, count_text, seconds_text

if TYPE_CHECKING:
    from pass_core.training.events import Estimate


class EstimateCard(Card):
    """Shows the newest estimate while it fits the present choices. Nothing is timed unasked: the model may be wanted.

    Attributes:
        estimate, memory: its two lines of text.
        time_button: asks for an estimate.
        bar: begin, resume, or stop.

    Signals:
        time_clicked(), start_clicked(), resume_clicked().
    """

    time_clicked = Signal()
    start_clicked = Signal()
    resume_clicked = Signal()

    def __init__(self, context: AppContext, controller: TrainingController, parent: QWidget | None = None) -> None:
        super().__init__("What it takes", parent)
        self._context = context
        self._newest: Estimate | None = None
        self._fits: object = None
        self.estimate = label("", wrap=True)
        self.memory = label("", "hint", wrap=True)
        self.time_button = QPushButton("Time a step")
        self.time_button.setToolTip("Takes the model for some seconds, and tells time and memory of the whole run")
        self.bar = RunBar(
            context,
            controller.measurement,
            "Start training",
            resume_text="Resume",
            strip=False,
            gives_way=lambda: controller.measuring,
        )
        self.start_button, self.resume_button = self.bar.run, self.bar.resume
        self.bar.stop.setToolTip("End after the present step; the checkpoint is kept, so that the run can be resumed")
        set_icon(self.time_button, "ph.timer", context.theme)
        set_icon(self.start_button, "ph.graduation-cap", context.theme, "on_accent", "on_accent")
        set_icon(self.resume_button, "ph.arrow-clockwise", context.theme)
        for widget in (self.estimate, self.memory, self.time_button, self.bar):
            self.body.addWidget(widget)
        self.time_button.clicked.connect(self.time_clicked)
        self.bar.run_clicked.connect(self.start_clicked)
        self.bar.resume_clicked.connect(self.resume_clicked)

    @property
    def seconds_per_step(self) -> float:
        """Of the newest estimate, 0 before any."""
        return self._newest.seconds_per_step if self._newest is not None else 0.0

    def forget(self) -> None:
        """Another model: what was measured holds no more."""
        self._newest = self._fits = None

    def take(self, plan: TrainingPlan, told: Estimate) -> None:
        """A step of `plan` was timed."""
        self._newest, self._fits = told, self._key(plan)

    def show_text(self, text: str) -> None:
        """Say something in place of figures."""
        self.estimate.setText(text)
        self.memory.setText("")

    def show_plan(self, plan: TrainingPlan | None) -> None:
        """What is known of the present choices."""
        told = self._newest
        if plan is None:
            self.show_text("No model is loaded." if self._context.model is None else "Choose the text to train on.")
        elif told is None or self._key(plan) != self._fits:
            self.show_text("Time and memory: not measured yet.")
        else:
            c = plan.config
            before = told.writing_seconds + told.bigrams_seconds + told.state_seconds
            steps = max(1, int((c.minutes * 60 - before) / told.seconds_per_step)) if c.minutes else c.steps
            self._show(before + told.seconds_per_step * steps, steps, told, plan.data)

    def show_figures(self, told: Estimate, data: str) -> None:
        """What the running training has measured itself."""
        self._show(told.seconds, told.steps, told, data)

    def _show(self, seconds: float, steps: int, told: Estimate, data: str) -> None:
        text = f"About {seconds_text(seconds)}: {steps:,} steps of {seconds_text(told.seconds_per_step)}"
        before = (
            ("writing the text", told.writing_seconds),
            ("reading the bigrams", told.bigrams_seconds),
            ("the state head", told.state_seconds),
        )
        parts = [f"{seconds_text(taken)} for {what}" for what, taken in before if taken]
        self.estimate.setText(", ".join([text, *parts]))
        own = "\nThe model writes its text once; later runs take it as it is." if data == SELF else ""
        self.memory.setText(
            f"{bytes_text(told.bytes_working + told.bytes_kept)} of memory besides the model  ·  "
            f"{count_text(told.trainable)} parameters learn{own}"
        )
        self.memory.setToolTip(
            f"{bytes_text(told.bytes_working)} for a step, {bytes_text(told.bytes_kept)} for what the frozen model "
            "computed"
        )

    def _key(self, plan: TrainingPlan) -> object:
        """What the time of a step depends on."""
        c, model = plan.config, self._context.model
        parts = (
            c.kind,
            c.with_sampler,
            c.lookahead,
            c.rank,
            c.batch,
            c.rows,
            c.length,
            plan.sequences,
            plan.state_head,
        )
        return (model.fingerprint if model is not None else "", *parts)
