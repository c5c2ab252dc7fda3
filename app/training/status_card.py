"""How the run goes: what is being done, figures, progress with time left, pause, and the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QProgressBar, QPushButton, QWidget

from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.training.controller import TrainingState
from app.widgets.basic import Card, ElidedLabel, label, row, set_tone, show_progress, thousandths
from app.widgets.figures import NOTHING, Figure
from app.widgets.progress_strip import describe_progress
from app.widgets.text_format import seconds_text

if TYPE_CHECKING:
    from pass_core.progress import Progress
    from pass_core.training.acceptance import Acceptance
    from pass_core.training.events import StateHeadEvaluated, StepDone

EMPTY = (
    "Training teaches a few look-ahead vectors to guess the next tokens; the model itself stays frozen, so its text "
    "never changes. Better guesses only make it faster."
)
TONES = {
    TrainingState.RUNNING: ("training", "accent"),
    TrainingState.PREPARING: ("preparing", "accent"),
    TrainingState.PAUSED: ("paused", "warn"),
    TrainingState.STOPPING: ("stopping", "warn"),
}


class StatusCard(Card):
    """Signals:
    pause_clicked(), try_clicked(): buttons.
    compare_clicked(str): compare the result with "untrained" or "loaded".
    """

    pause_clicked = Signal()
    try_clicked = Signal()
    compare_clicked = Signal(str)

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._theme = theme
        self._busy = False
        self.title = label("Train look-ahead embeddings", "heading")
        self.badge = label("", "chip")
        self.pause = QPushButton("Pause")
        self.try_now = QPushButton("Try it now")
        self.try_now.setProperty("role", "primary")
        self.try_now.setToolTip("Load the result and go to the Generate page")
        self.compare = QPushButton("Compare")
        self.compare.setToolTip("The result side by side with another look-ahead file, on the Compare page")
        set_icon(self.pause, "ph.pause", theme)
        set_icon(self.try_now, "ph.play-fill", theme, "on_accent", "on_accent")
        set_icon(self.compare, "ph.columns", theme)
        self.text = label(EMPTY, "hint", wrap=True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.detail = ElidedLabel("", "faint")
        self.step = Figure("Step", "Optimiser steps done")
        self.loss = Figure("Loss", "Of the last step, and how far the drafts are from the model's own choice")
        self.accepted = Figure("Drafts accepted", "Mean number of held-out drafts that a chain keeps")
        self.left = Figure("Time left", "Estimate until the end, evaluations included")
        self._figures = QWidget()
        figures = QHBoxLayout(self._figures)
        figures.setContentsMargins(0, 0, 0, 0)
        figures.setSpacing(16)
        for figure in (self.step, self.loss, self.accepted, self.left):
            figures.addWidget(figure, 1)
        head = row(self.title, self.badge, 1, self.pause, self.compare, self.try_now)
        self.body.addLayout(head)
        self.body.addWidget(self.text)
        self.body.addWidget(self._figures)
        self.body.addWidget(self.bar)
        self.body.addWidget(self.detail)
        self.pause.clicked.connect(self.pause_clicked)
        self.try_now.clicked.connect(self.try_clicked)
        self.compare.clicked.connect(self._ask_compare)
        self._figures.hide()
        self.show_state(TrainingState.IDLE)
        self.show_result(False)

    def start(self) -> None:
        """A run begins: forget the one before."""
        for figure in (self.step, self.loss, self.accepted, self.left):
            figure.set(NOTHING)
        self.show_result(False)
        self.text.setText("The model stays frozen and is busy until the training ends or is stopped.")
        self.bar.setRange(0, 0)
        self.detail.set_full_text("")

    def show_state(self, state: TrainingState) -> None:
        """Buttons and badge of a state."""
        self._busy = state is not TrainingState.IDLE
        name, tone = TONES.get(state, ("", ""))
        self.badge.setText(name)
        self.badge.setVisible(self._busy)
        set_tone(self.badge, tone)
        paused = state is TrainingState.PAUSED
        self.pause.setText("Continue" if paused else "Pause")
        set_icon(self.pause, "ph.play" if paused else "ph.pause", self._theme)
        self.pause.setVisible(self._busy)
        self.pause.setEnabled(state in (TrainingState.RUNNING, TrainingState.PAUSED))
        self.bar.setVisible(self._busy)
        self.detail.setVisible(self._busy)
        if paused:
            self.left.remark.setText("paused")
        if state is TrainingState.STOPPING:
            self.detail.set_full_text("Finishing the present step and keeping the checkpoint…")

    def show_progress(self, progress: Progress) -> None:
        """While text is read or written."""
        self._figures.hide()
        amount = describe_progress(progress)
        known = progress.total is not None
        self.detail.set_full_text(f"{progress.stage} · {amount}" if known else f"{progress.stage}…")
        self.bar.setRange(0, 1000 if progress.total else 0)
        if progress.total:
            show_progress(self.bar, thousandths(progress.done, progress.total))

    def show_begun(self, step: int, steps: int, sequences: int, held_out: int) -> None:
        """The first step comes next."""
        self._figures.show()
        self.bar.setRange(0, max(1, steps))
        show_progress(self.bar, step)
        self.step.set(f"{step}", f"of {steps}")
        self.detail.set_full_text(
            f"{sequences} texts to learn from, {held_out} held out. Measuring the untrained start…"
            if step == 0
            else f"{sequences} texts to learn from, {held_out} held out."
        )

    def show_step(self, event: StepDone) -> None:
        """Figures of a step."""
        self.step.set(f"{event.step:,}", f"of {event.steps:,}")
        self.loss.set(f"{event.loss:.3f}", f"divergence {event.divergence:.2f}")
        self.left.set(seconds_text(event.seconds_left), f"{event.rows / max(event.seconds, 1e-9):,.0f} rows/s")
        self.bar.setRange(0, event.steps)
        show_progress(self.bar, event.step)
        if event.step == 1:
            self.set_detail("")

    def set_detail(self, text: str) -> None:
        """The faint line below the bar."""
        self.detail.set_full_text(text)

    def show_acceptance(self, acceptance: Acceptance, untrained: Acceptance | None) -> None:
        """Figures of an evaluation."""
        before = f"untrained {untrained.accepted_per_iteration:.2f}" if untrained is not None else "a chain, held-out"
        self.accepted.set(f"{acceptance.accepted_per_iteration:.2f}", before)

    def show_state_head(self, event: StateHeadEvaluated) -> None:
        """What the state head drafts by now."""
        accepted = event.figures.chain.accepted_per_iteration
        self.set_detail(
            f"State head after {event.step:,} steps: {accepted:.2f} drafts accepted a chain without look-ahead rows."
        )

    def show_end(self, title: str, text: str, *, result: bool) -> None:
        """The run is over."""
        self.title.setText(title)
        self.text.setText(text)
        self.left.set(NOTHING)
        self.show_result(result)

    def show_result(self, there: bool) -> None:
        """Offer, or not, what can be done with the file."""
        self.try_now.setVisible(there)
        self.compare.setVisible(there)

    def _ask_compare(self) -> None:
        menu = QMenu(self)
        menu.addAction("With the untrained embedding", lambda: self.compare_clicked.emit("untrained"))
        menu.addAction("With the file loaded now", lambda: self.compare_clicked.emit("loaded"))
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.compare.mapToGlobal(QPoint(0, self.compare.height() + 2)))
