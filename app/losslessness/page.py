"""The Losslessness page: three proofs on the loaded model that PASS changes the speed and nothing else."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QFrame, QPushButton, QScrollArea, QVBoxLayout, QWidget

from app.engine.jobs import Job, JobControl, JobRefused
from app.losslessness.proof_card import ProofCard
from app.state.context import AppContext
from app.widgets.basic import Card, Segmented, label, row, set_tone
from app.widgets.page import Page
from app.widgets.progress_strip import ProgressStrip
from pass_core.evaluation.losslessness import (
    QUICK,
    TITLES,
    Check,
    LosslessnessLab,
    Proof,
    VerificationEnded,
    VerificationPlan,
)
from pass_core.progress import Progress

JOB_TITLE = "the losslessness proofs"
EXPLANATIONS = {
    Proof.GREEDY: "The same prompts through transformers' own generate and through every strategy, k and tree "
    "shape; the tokens must be the same.",
    Proof.COUPLED: "Plain decoding and every strategy write with the same seeds; with the coupled rule the tokens must "
    "be the same at any temperature.",
    Proof.DISTRIBUTION: "Many tokens are drawn with every strategy and rule and counted against the model's exact "
    "probabilities. Each test says which shift it would have noticed.",
}
SIZES = (
    ("quick", "Quick", "Fewer and shorter texts: a few minutes on a CPU"),
    ("thorough", "Thorough", "More texts, so that smaller mistakes would show"),
)


class LosslessnessPage(Page):
    """Attributes:
    run_button, wrong_rule, size, verdict: its controls.
    cards: one per proof.
    """

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._job: Job | None = None
        self.size = Segmented(SIZES)
        self.wrong_rule = QCheckBox("Check a rule that is known to be wrong")
        self.wrong_rule.setToolTip(
            "Replaces the rejection rule of the third proof by one that accepts every plausible draft. "
            "The proof should notice."
        )
        self.run_button = QPushButton("Check")
        self.run_button.setProperty("role", "primary")
        self.precision = label("", "hint", wrap=True)
        self.verdict = label("", "chip", wrap=True)
        self.verdict.setSizePolicy(self.precision.sizePolicy())
        self.verdict.hide()
        self.progress = ProgressStrip(context.theme)
        self.cards = {p: ProofCard(f"{i}. {TITLES[p]}", EXPLANATIONS[p]) for i, p in enumerate(Proof, 1)}
        self._lay_out()
        self.run_button.clicked.connect(self._run_or_stop)
        self.progress.cancelled.connect(self.stop)
        context.model_changed.connect(self._model_changed)
        context.busy_changed.connect(self._update_buttons)
        self._model_changed()

    def plan(self) -> VerificationPlan:
        """The choices."""
        plan = QUICK if self.size.value() == "quick" else VerificationPlan()
        return replace(plan, wrong_rule=self.wrong_rule.isChecked())

    def start(self, plan: VerificationPlan | None = None) -> None:
        """Begin to check (the chosen extent by default)."""
        model = self._context.model
        if model is None:
            return
        if not model.capabilities.supports_pass:
            self._context.report_error(
                f"{model.name} decodes plainly, so there is nothing to check: {model.capabilities.reason}"
            )
            return
        lab = LosslessnessLab(model, self._context.lookahead, plan or self.plan())

        def work(control: JobControl) -> None:
            for event in lab.run(control.cancel):
                if isinstance(event, Progress):
                    control.progress(event)
                else:
                    control.emit(event)

        try:
            self._job = self._context.jobs.start(JOB_TITLE, work, exclusive=True)
        except JobRefused as error:
            self._context.report_error(str(error))
            return
        for card in self.cards.values():
            card.clear()
        self.verdict.hide()
        self._job.progress.connect(self.progress.show_progress)
        self._job.event.connect(self._take)
        self._job.failed.connect(lambda e: self._context.report_error(f"The proofs stopped: {e}", e))
        self._job.done.connect(self._ended)
        self.progress.begin("Preparing")
        self._update_buttons()

    def stop(self) -> None:
        """Stop after the call in progress."""
        if self._job is not None:
            self._job.cancel()
            self.run_button.setEnabled(False)

    def shut_down(self) -> None:
        """See app/context.py."""
        self.stop()

    def _run_or_stop(self) -> None:
        if self._job is not None:
            self.stop()
        else:
            self.start()

    def _take(self, event: object) -> None:
        if isinstance(event, Check):
            self.cards[event.proof].add(event)
        elif isinstance(event, VerificationEnded):
            self.verdict.setText(event.verdict)
            tone = "good" if event.passed else "bad"
            set_tone(self.verdict, tone if event.complete or not event.passed else "warn")
            self.verdict.show()

    def _ended(self) -> None:
        self._job = None
        self.progress.end()
        self._update_buttons()

    def _model_changed(self, *_: object) -> None:
        model = self._context.model
        text = "Load a model first."
        if model is not None:
            dtype = str(model.dtype).removeprefix("torch.")
            text = f"{model.name} in {dtype}."
            if dtype != "float32":
                text += (
                    " Two correct programs may round differently in this precision and part at near ties; those are "
                    "counted apart. Load the model in float32 for exact identity with transformers."
                )
        self.precision.setText(text)
        self._update_buttons()

    def _update_buttons(self, *_: object) -> None:
        running = self._job is not None
        busy = self._context.busy_with
        self.run_button.setText("Stop" if running else "Check")
        self.run_button.setEnabled(running or (self._context.model is not None and not busy))
        self.run_button.setToolTip(f"The model is busy with {busy}." if busy and not running else "")
        self.size.setEnabled(not running)
        self.wrong_rule.setEnabled(not running)

    def _lay_out(self) -> None:
        head = Card("Is it really the model's own output?")
        head.body.addWidget(
            label(
                "PASS drafts and verifies; if the verification is right, the output is the model's own, only sooner. "
                "These proofs test it on the loaded model and look-ahead embeddings.",
                "hint",
                wrap=True,
            )
        )
        head.body.addWidget(self.precision)
        controls = row(self.size, self.wrong_rule, 1, self.run_button)
        head.body.addLayout(controls)
        head.body.addWidget(self.progress)
        head.body.addWidget(self.verdict)
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(12)
        column.addWidget(head)
        for card in self.cards.values():
            column.addWidget(card)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)
