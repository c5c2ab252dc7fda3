"""The Losslessness page: three proofs on the loaded model that PASS changes the speed and nothing else."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QFrame, QScrollArea, QVBoxLayout, QWidget

from app.engine.jobs import JobControl
from app.engine.measurement import MeasurementJob, relay
from app.losslessness.proof_card import ProofCard
from app.state.context import AppContext
from app.theme.scale import sized
from app.widgets.basic import Card, Segmented, label, row, set_tone
from app.widgets.page import Page
from app.widgets.run_bar import RunBar
from pass_core.evaluation.losslessness.plan import QUICK, TITLES, Proof, VerificationPlan
from pass_core.evaluation.losslessness.report import Check, VerificationEnded
from pass_core.evaluation.losslessness.run import LosslessnessLab

JOB_TITLE = "the losslessness proofs"
EXPLANATIONS = {
    Proof.GREEDY: "The same prompts through transformers' own generate and through every strategy, k and tree "
    "shape; the tokens must be the same.",
    Proof.COUPLED: "Plain decoding and every strategy write with the same seeds; with the coupled rule the tokens must "
    "be the same at any temperature.",
    Proof.DISTRIBUTION: "Many tokens are drawn with every strategy and rule and counted against the model's exact "
    "probabilities. Each test says which shift it would have noticed.",
}
TOP_P, MIN_P = 0.9, 0.02
SIZES = (
    ("quick", "Quick", "Fewer and shorter texts: a few minutes on a CPU"),
    ("thorough", "Thorough", "More texts, so that smaller mistakes would show"),
)


class LosslessnessPage(Page):
    """Attributes:
    job, bar, wrong_rule, cut, extent, verdict: its job and its controls.
    cards: one per proof.
    """

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.job = MeasurementJob(context, JOB_TITLE, lambda error: f"The proofs stopped: {error}", self)
        self.bar = RunBar(context, self.job, "Check")
        sized(self.bar, max_width=360)
        self.extent = Segmented(SIZES)
        self.wrong_rule = QCheckBox("Check a rule that is known to be wrong")
        self.wrong_rule.setToolTip(
            "Replaces the rejection rule of the third proof by one that accepts every plausible draft. "
            "The proof should notice."
        )
        self.cut = QCheckBox(f"With top-p {TOP_P:g} and min-p {MIN_P:g}")
        self.cut.setToolTip("The second and the third proof sample with them, besides top-k")
        self.precision = label("", "hint", wrap=True)
        self.verdict = label("", "chip", wrap=True)
        self.verdict.setSizePolicy(self.precision.sizePolicy())
        self.verdict.hide()
        self.cards = {p: ProofCard(f"{i}. {TITLES[p]}", EXPLANATIONS[p]) for i, p in enumerate(Proof, 1)}
        self._lay_out()
        self.bar.run_clicked.connect(lambda: self.start())
        self.job.received.connect(self._take)
        self.job.state_changed.connect(self._update)
        context.model_changed.connect(self._model_changed)
        self._model_changed()

    def plan(self) -> VerificationPlan:
        """The choices."""
        plan = QUICK if self.extent.value() == "quick" else VerificationPlan()
        if self.cut.isChecked():
            plan = replace(plan, top_p=TOP_P, min_p=MIN_P)
        return replace(plan, wrong_rule=self.wrong_rule.isChecked())

    def start(self, plan: VerificationPlan | None = None) -> None:
        """Begin to check (the chosen extent by default)."""
        engine = self._context.engine
        if engine is None:
            return
        model = engine.model
        if not model.capabilities.supports_pass:
            self._context.report_error(
                f"{model.name} decodes plainly, so there is nothing to check: {model.capabilities.reason}"
            )
            return
        lab = LosslessnessLab(engine, self._context.lookahead, plan or self.plan())

        def work(control: JobControl) -> None:
            relay(control, lab.run(control.cancel))

        if not self.job.start(work):
            return
        for card in self.cards.values():
            card.clear()
        self.verdict.hide()

    def stop(self) -> None:
        """Stop after the call in progress."""
        self.job.stop()

    def shut_down(self) -> None:
        """The window closes."""
        self.stop()

    def _take(self, event: object) -> None:
        if isinstance(event, Check):
            self.cards[event.proof].add(event)
        elif isinstance(event, VerificationEnded):
            self.verdict.setText(event.verdict)
            tone = "good" if event.passed else "bad"
            set_tone(self.verdict, tone if event.complete or not event.passed else "warn")
            self.verdict.show()

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
        self._update()

    def _update(self) -> None:
        self.extent.setEnabled(not self.job.active)
        self.wrong_rule.setEnabled(not self.job.active)
        self.cut.setEnabled(not self.job.active)

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
        head.body.addLayout(row(self.extent, 1))
        head.body.addLayout(row(self.cut, self.wrong_rule, 1))
        head.body.addWidget(self.bar)
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
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what is in it takes the keys
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)
