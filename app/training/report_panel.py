"""Where the loaded file's drafts fall short: measured when somebody asks, kept for the file, shown as pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.engine.jobs import JobControl
from app.engine.measurement import MeasurementJob
from app.state.context import AppContext
from app.theme.scale import sized
from app.training.plan import TrainingPlan, divided_text, read_text, training_sentence
from app.training.report_plots import ReportPlots
from app.widgets.basic import Card, label
from app.widgets.run_bar import RunBar
from pass_core.progress import Progress

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.training.report import DraftReport

MEASURING = "measuring drafts"
TEXTS = 24
PLACES = 384
SMALL = 65_536  # values of a tensor
EXPLANATION = (
    "How often the drafts of the loaded file are the model's own token, beside the best that any drafter could guess: "
    "what lies between the lines, more training could still gain."
)


class ReportPanel(QWidget):
    """Attributes:
    job, bar: the measurement and its buttons.
    report: what is shown; None before one was measured.
    """

    def __init__(
        self, context: AppContext, plan: Callable[[], TrainingPlan | None], parent: QWidget | None = None
    ) -> None:
        """Args:
        plan: the choices of the page: its text is measured on.
        """
        super().__init__(parent)
        self._context, self._plan = context, plan
        self.report: DraftReport | None = None
        self.job = MeasurementJob(context, MEASURING, training_sentence, self)
        self.bar = RunBar(context, self.job, "Measure the loaded file", tip=f"{PLACES} places of {TEXTS} texts")
        sized(self.bar, max_width=360)
        self.text = label(EXPLANATION, "hint", wrap=True)
        self.plots = ReportPlots(context.theme)
        head = Card("Where drafts fall short")
        head.body.addWidget(self.text)
        head.body.addWidget(self.bar)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(head)
        column.addWidget(self.plots, 1)
        self.bar.run_clicked.connect(self.measure)
        self.job.succeeded.connect(self.show_report)
        context.lookahead_changed.connect(self._lookahead_changed)
        self.show_report(None)
        self._lookahead_changed(context.lookahead)

    def measure(self) -> None:
        """Measure the loaded file on the page's text."""
        engine, lookahead, plan = self._context.engine, self._context.lookahead, self._plan()
        if engine is None or lookahead is None or plan is None:
            self._context.report_error("Load a model and a look-ahead file, and choose the text to measure on, first.")
            return
        self.job.start(lambda control: measure_drafts(plan, engine, lookahead, control))

    def shut_down(self) -> None:
        """The window closes."""
        self.job.stop()

    def _lookahead_changed(self, lookahead: LookaheadEmbeddings | None) -> None:
        self.bar.set_obstacle("" if lookahead is not None else "No look-ahead file is loaded.")
        self.show_report(None if lookahead is None else kept_report(lookahead))

    def show_report(self, report: DraftReport | None) -> None:
        """Draw a report; None for none."""
        self.report = report
        self.plots.setVisible(report is not None)
        if report is None:
            self.text.setText(EXPLANATION)
            return
        rows = len(report.accepted)
        without = "" if report.state is None else f", {report.by_rows[0]:.2f} with the state head alone"
        self.text.setText(
            f"{report.file}: {report.by_rows[rows]:.2f} drafts accepted a chain with {rows} look-ahead rows{without} "
            f"({report.contexts} places of {report.texts} texts, temperature {report.temperature:g}, top-k "
            f"{report.top_k}). {EXPLANATION}"
        )
        self.plots.show_report(report)


def measure_drafts(
    plan: TrainingPlan, engine: Engine, lookahead: LookaheadEmbeddings, control: JobControl
) -> DraftReport:
    """The report of a file on held-out text of the plan's kind, kept for the file.

    Raises:
        TrainingError: there is too little text. LookaheadError: the file is for another model. Cancelled.
    """
    from dataclasses import replace

    from pass_core.files import keep
    from pass_core.training.report import draft_report

    plan = replace(plan, sequences=3, data=divided_text(plan, control))
    corpus = read_text(plan, engine, control, held_out=TEXTS)
    control.progress(Progress("Measuring drafts", 0, None))
    config = replace(plan.config, evaluate_contexts=PLACES)
    report = draft_report(engine, lookahead, corpus.held_out, config, progress=control.progress, cancel=control.cancel)
    keep(_place(lookahead), report.to_json().encode())
    return report


def kept_report(lookahead: LookaheadEmbeddings) -> DraftReport | None:
    """What was measured before for this file; None where nothing was, or it cannot be read."""
    from pass_core.training.report import DraftReport

    try:
        return DraftReport.from_json(_place(lookahead).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _place(lookahead: LookaheadEmbeddings) -> Path:
    """The report's file: named by what the trainer recorded, all shapes, and the values of small tensors, which any
    training changes. Hashing all values would hold the window up."""
    from pass_core.files import cache_folder

    digest = hashlib.sha256(f"{lookahead.base_fingerprint} {lookahead.training}".encode())
    for name, tensor in sorted(lookahead.tensors().items()):
        digest.update(f"{name}{tuple(tensor.shape)};".encode())
        if tensor.numel() <= SMALL:
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return cache_folder() / "training" / "reports" / f"{digest.hexdigest()[:16]}.json"
