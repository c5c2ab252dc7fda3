"""The Batch tab of the Benchmark page: a grid of seeds and settings, its means, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QMenu, QPushButton, QWidget

from app.benchmark.batch_form import REFUSALS, BatchForm
from app.benchmark.batch_table import BatchTable
from app.benchmark.choices_column import ChoicesColumn
from app.engine.jobs import JobControl
from app.engine.measurement import MeasurementJob, relay
from app.state.context import AppContext
from app.theme.icons import set_icon
from app.widgets.basic import Card, ElidedLabel, label, row
from app.widgets.run_bar import RunBar
from app.widgets.save_dialog import ask_save
from pass_core.evaluation.batch.plan import BatchPlan
from pass_core.evaluation.batch.report import BatchReport, make_report, write_report
from pass_core.evaluation.batch.run import BatchEnded, BatchRun, run_batch
from pass_core.evaluation.environment import environment_of
from pass_core.prompt import PromptError
from pass_core.settings import FALLBACK_LOOKAHEAD

REDRAW_INTERVAL_MS = 300
EXPORTS = (
    ("One line a setting (CSV)…", ".csv"),
    ("One line a run (CSV)…", ".runs.csv"),
    ("Everything (JSON)…", ".json"),
)


class BatchPanel(QWidget):
    """Attributes:
    job, bar, form, table: its parts.
    report: what has been run so far, None before the first run.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._plan: BatchPlan | None = None
        self._runs: list[BatchRun] = []
        self._environment: dict[str, Any] = {}
        self._complete = False
        self.report: BatchReport | None = None
        self.form = BatchForm()
        self.job = MeasurementJob(context, "a batch", _explained, self)
        self.bar = RunBar(context, self.job, "Run the batch")
        self.summary = ElidedLabel("", "hint")
        self.load = label("", "faint", wrap=True)
        self.table = BatchTable()
        self.export_button = QPushButton("Export")
        set_icon(self.export_button, "ph.export", context.theme)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_INTERVAL_MS)
        self._redraw.timeout.connect(self.refresh)
        self._lay_out()
        self.bar.run_clicked.connect(self.start)
        self.job.received.connect(self._take)
        self.job.state_changed.connect(self._update)
        self.job.ended.connect(self._ended)
        context.setup.changed.connect(self.form.show_setup)
        self.form.show_setup(context.setup.value)
        self._update()

    def start(self) -> None:
        """Run what the form says."""
        engine, lookahead = self._context.engine, self._context.lookahead
        if engine is None:
            return
        try:
            plan = self.form.plan(FALLBACK_LOOKAHEAD if lookahead is None else lookahead.count)
        except REFUSALS as error:
            self._context.report_error(_explained(error))
            return

        def work(control: JobControl) -> None:
            control.emit(environment_of(engine, {} if lookahead is None else {"loaded": lookahead}))
            relay(control, run_batch(engine, plan, lookahead, control.cancel))

        if self.job.start(work):
            self._plan, self._runs, self._complete = plan, [], False
            self.refresh()

    def stop(self) -> None:
        """Stop; finished runs are kept."""
        self.job.stop()

    def _take(self, event: object) -> None:
        if isinstance(event, BatchRun):
            self._runs.append(event)
        elif isinstance(event, BatchEnded):
            self._complete = True
        elif isinstance(event, dict):
            self._environment = event
        if not self._redraw.isActive():
            self._redraw.start()

    def _ended(self) -> None:
        self._redraw.stop()
        self.refresh()
        self._update()

    def _update(self) -> None:
        self.form.setEnabled(not self.job.active)

    def refresh(self) -> None:
        """Fold what there is and show it."""
        if self._plan is None:
            return
        report = self.report = make_report(self._plan, self._runs, self._environment, complete=self._complete)
        self.table.show_results(report.results)
        self.summary.set_full_text(f"{len(report.runs)} of {self._plan.runs} runs done")
        self.load.setText(report.load.sentence() if report.load is not None else "")
        self.export_button.setEnabled(bool(report.runs))

    # -- export ------------------------------------------------------------------------------------------------------

    def export(self, path: Path) -> None:
        """Write the report: see `write_report`."""
        if self.report is None:
            return
        try:
            write_report(self.report, path)
        except (OSError, ValueError) as error:
            self._context.report_error(f"{path.name} could not be written: {error}", error)
        else:
            self._context.notify(f"Saved {path.name}.")

    def _ask_export(self, suffix: str) -> None:
        ask_save(self, "Export", Path.home() / f"batch{suffix}", f"*{suffix}", self.export, suffix=suffix)

    # -- layout ------------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        menu = QMenu(self.export_button)
        for title, suffix in EXPORTS:
            menu.addAction(title, lambda s=suffix: self._ask_export(s))
        self.export_button.setMenu(menu)
        self.export_button.setEnabled(False)
        left = ChoicesColumn(self.form, self.bar, self.summary)
        results = Card("Means over seeds")
        results.head.addWidget(self.export_button)
        results.body.addWidget(self.table, 1)
        results.body.addWidget(self.load)
        layout = row(left, results, spacing=12)
        layout.setContentsMargins(0, 8, 0, 0)
        layout.setStretch(1, 1)
        self.setLayout(layout)


def _explained(error: BaseException) -> str:
    """What says already why it cannot be run stands alone."""
    text = str(error)
    said = isinstance(error, (*REFUSALS, PromptError))
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if said else f"The batch stopped: {text}"
