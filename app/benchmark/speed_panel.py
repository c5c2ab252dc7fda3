"""The Speed tab of the Benchmark page: configure, run, watch, export."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QMenu, QPushButton, QSplitter, QWidget

from app.benchmark.bench_form import BenchForm
from app.benchmark.bench_plots import CallCostPlot, TimePlot
from app.benchmark.choices_column import ChoicesColumn
from app.benchmark.result_table import ResultTable
from app.engine.jobs import JobControl
from app.engine.measurement import MeasurementJob, relay
from app.export.pictures import PictureError, save_plot
from app.state.context import AppContext
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import Card, ElidedLabel, row
from app.widgets.choice import Choice
from app.widgets.run_bar import RunBar
from app.widgets.save_dialog import ask_save
from pass_core.evaluation.baselines.contestant import SourceUnavailable
from pass_core.evaluation.environment import environment_of
from pass_core.evaluation.prompts import PromptFileError
from pass_core.evaluation.speed.figure import figure_data
from pass_core.evaluation.speed.plan import BenchmarkPlan, PlanError
from pass_core.evaluation.speed.report import ALL_SETS, Report, make_report
from pass_core.evaluation.speed.roofline import Roofline
from pass_core.evaluation.speed.run import Benchmark, BenchmarkEnded, RooflineMeasured, Sample, SampleMeasured
from pass_core.evaluation.speed.tables import write_report
from pass_core.evaluation.state import StateMismatch
from pass_core.models.shipped import untrained_lookahead
from pass_core.settings import FALLBACK_LOOKAHEAD

REDRAW_INTERVAL_MS = 300
JOB_TITLE = "a benchmark"
REFUSALS = (PlanError, PromptFileError, StateMismatch, SourceUnavailable, ValueError, OSError)


class SpeedPanel(QWidget):
    """Attributes:
    job, bar, form, table, time_plot, cost_plot: its parts.
    report: what has been measured so far, None before the first run.
    """

    def __init__(self, context: AppContext, state_folder: Path | None = None) -> None:
        super().__init__()
        self._context = context
        if state_folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="pass-benchmark-")
            state_folder = Path(self._temporary.name)
        self._state = state_folder / "benchmark.jsonl"
        self._plan: BenchmarkPlan | None = None
        self._samples: list[Sample] = []
        self._roofline: Roofline | None = None
        self._environment: dict[str, Any] = {}
        self._complete = False
        self.report: Report | None = None
        theme = context.theme
        self.form = BenchForm(theme)
        self.job = MeasurementJob(context, JOB_TITLE, _explained, self)
        self.bar = RunBar(context, self.job, "Measure")
        self.summary = ElidedLabel("", "hint")
        self.which = Choice(theme)
        sized(self.which, min_width=210)
        self.time_plot = TimePlot(theme)
        self.cost_plot = CallCostPlot(theme)
        self.table = ResultTable()
        self.export_button = QPushButton("Export")
        set_icon(self.export_button, "ph.export", theme)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_INTERVAL_MS)
        self._redraw.timeout.connect(self.refresh)
        self._lay_out()
        self.bar.run_clicked.connect(lambda: self.start())
        self.bar.resume_clicked.connect(lambda: self.start(resume=True))
        self.job.received.connect(self._take)
        self.job.state_changed.connect(self._update)
        self.job.ended.connect(self._ended)
        self.which.currentIndexChanged.connect(self._show_chosen)
        self._update()

    # -- running -----------------------------------------------------------------------------------------------------

    def start(self, *, resume: bool = False) -> None:
        """Begin to measure, or continue a stopped run."""
        engine = self._context.engine
        if engine is None:
            return
        loaded = self._context.lookahead
        count = FALLBACK_LOOKAHEAD if loaded is None else loaded.count
        supports = engine.model.capabilities.supports_pass
        gguf = self.form.gguf_file
        try:
            plan = self._plan if resume and self._plan is not None else self.form.plan(count, supports)
            if not resume:
                self._state.unlink(missing_ok=True)
        except REFUSALS as error:
            self._context.report_error(str(error), error)
            return

        def work(control: JobControl) -> None:
            lookahead = loaded or untrained_lookahead(engine.model)
            benchmark = Benchmark(engine, plan, {"loaded": lookahead}, state=self._state, gguf=gguf)
            control.emit(environment_of(engine, {"loaded": lookahead}))
            relay(control, benchmark.run(control.cancel))

        if not self.job.start(work):
            return
        self._plan, self._samples, self._complete = plan, [], False
        self._fill_choices(plan)
        self.refresh()

    def stop(self) -> None:
        """Stop; finished work is kept."""
        self.job.stop()

    def _take(self, event: object) -> None:
        if isinstance(event, SampleMeasured):
            self._samples.append(event.sample)
        elif isinstance(event, RooflineMeasured):
            self._roofline = event.roofline
        elif isinstance(event, BenchmarkEnded):
            self._complete = event.complete
        elif isinstance(event, dict):
            self._environment = event
        if not self._redraw.isActive():
            self._redraw.start()

    def _ended(self) -> None:
        self._redraw.stop()
        self.refresh()
        self._update()

    def _update(self) -> None:
        self.bar.set_resumable(self._plan is not None and not self._complete)
        self.form.setEnabled(not self.job.active)
        self.export_button.setEnabled(self.report is not None and bool(self.report.results))

    # -- showing -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Fold what there is and show it."""
        if self._plan is None:
            return
        self.report = make_report(self._environment, self._plan, self._samples, self._roofline, complete=self._complete)
        self.cost_plot.show_data(self._roofline)
        self._show_chosen()
        self._show_summary()
        self.export_button.setEnabled(bool(self.report.results))

    def _fill_choices(self, plan: BenchmarkPlan) -> None:
        self.which.blockSignals(True)
        self.which.clear()
        names = (ALL_SETS, *plan.sets) if len(plan.sets) > 1 else plan.sets
        for temperature in plan.temperatures:
            for name in names:
                title = "all prompts" if name == ALL_SETS else name
                self.which.addItem(f"{title}, temperature {temperature:g}", (name, temperature))
        self.which.blockSignals(False)

    def _show_chosen(self) -> None:
        chosen = self.which.currentData()
        if self.report is None or chosen is None:
            return
        name, temperature = chosen
        rows = [r for r in self.report.results if r.prompt_set == name and r.temperature == temperature]
        self.table.show_results(rows)
        self.time_plot.show_data(figure_data(rows, name, temperature))

    def _show_summary(self) -> None:
        report = self.report
        if report is None or self._plan is None:
            return
        total = len(self._plan.rounds) * len(self._plan.contestants)
        self.summary.set_full_text(f"{len(self._samples)} of {total} runs measured")

    # -- export ------------------------------------------------------------------------------------------------------

    def export(self, path: Path) -> None:
        """Write the report (.json, .csv, .md) or the figure (.png, .svg)."""
        if self.report is None:
            return
        try:
            if path.suffix == ".png":
                save_plot(self.time_plot.plot, path)
            else:
                write_report(self.report, path)
        except (OSError, ValueError, PictureError) as error:
            self._context.report_error(f"{path.name} could not be written: {error}", error)
        else:
            self._context.notify(f"Saved {path.name}.")

    def _ask_export(self, suffix: str) -> None:
        name = "figure" if suffix in (".png", ".svg") else "benchmark"
        ask_save(self, "Export", Path.home() / f"{name}{suffix}", f"*{suffix}", self.export, suffix=suffix)

    # -- layout ------------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        menu = QMenu(self.export_button)
        kinds = (
            ("All figures and runs (JSON)…", ".json"),
            ("Table (CSV)…", ".csv"),
            ("Tables with environment (Markdown)…", ".md"),
            ("Figure (PNG)…", ".png"),
            ("Figure (SVG)…", ".svg"),
        )
        for title, suffix in kinds:
            menu.addAction(title, lambda s=suffix: self._ask_export(s))
        self.export_button.setMenu(menu)
        left = ChoicesColumn(self.form, self.bar, self.summary)
        figure = Card("Time per token")
        figure.body.addWidget(self.time_plot, 1)
        cost = Card("Cost of a call")
        cost.body.addWidget(self.cost_plot, 1)
        results = Card("Results")
        results.head.addWidget(self.which)
        results.head.addWidget(self.export_button)
        results.body.addWidget(self.table, 1)
        figures = row(figure, cost)
        figures.setStretch(0, 3)
        figures.setStretch(1, 2)
        top = QWidget()
        top.setLayout(figures)
        right = QSplitter(Qt.Orientation.Vertical)
        right.addWidget(top)
        right.addWidget(results)
        right.setStretchFactor(0, 1)
        right.setStretchFactor(1, 1)
        right.setChildrenCollapsible(False)
        right.setSizes([350, 370])
        layout = row(left, right, spacing=12)
        layout.setContentsMargins(0, 8, 0, 0)
        layout.setStretch(1, 1)
        self.setLayout(layout)


def _explained(error: BaseException) -> str:
    """What says already why it cannot be measured stands alone."""
    return str(error) if isinstance(error, REFUSALS) else f"The benchmark stopped: {error}"
