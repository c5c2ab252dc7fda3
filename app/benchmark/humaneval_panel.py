"""The HumanEval tab of the Benchmark page: programs written with and without PASS, run only with consent."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QMenu,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.benchmark.figure_table import FigureTable
from app.engine.jobs import JobControl
from app.engine.measurement import MeasurementJob
from app.state.context import AppContext
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import Card, Segmented, guard_wheel, label, pad_spin_box, row
from app.widgets.run_bar import RunBar
from app.widgets.save_dialog import ask_save
from pass_core.evaluation.environment import environment_of
from pass_core.evaluation.humaneval.plan import HumanEvalError, HumanEvalMissing, HumanEvalPlan
from pass_core.evaluation.humaneval.report import WRITERS, ArmResult, HumanEvalReport, sentences
from pass_core.evaluation.humaneval.run import HumanEval, Judged
from pass_core.evaluation.sandbox.protections import Protections, protections
from pass_core.evaluation.sandbox.run import Verdict
from pass_core.evaluation.state import StateMismatch
from pass_core.evaluation.statistics import Interval
from pass_core.files import write_atomically
from pass_core.models.shipped import untrained_lookahead
from pass_core.progress import Progress
from pass_core.settings import Verification

JOB_TITLE = "HumanEval"
COLUMNS = ("Decoding", "pass@1", "pass@10", "ms/token", "per call", "passed")


class HumanEvalPanel(QWidget):
    """Attributes:
    consent: without its tick no generated program is run.
    report: what the last run found, None before.
    """

    def __init__(self, context: AppContext, state_folder: Path | None = None) -> None:
        super().__init__()
        self._context = context
        if state_folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="pass-humaneval-")
            state_folder = Path(self._temporary.name)
        self._state = state_folder / "humaneval.jsonl"
        self._counts = {"passed": 0, "judged": 0}
        self.report: HumanEvalReport | None = None
        theme = context.theme
        self.problems, self.samples = _spin(1, 164, 20), _spin(1, 200, 1)
        self.tokens, self.k = _spin(16, 4096, 512), _spin(1, 64, 5)
        self.rule = Segmented(
            (
                (
                    Verification.COUPLED.value,
                    "Coupled",
                    "Writes the same programs as plain decoding for the same seeds",
                ),
                (Verification.REJECTION.value, "Rejection", "The paper's rule: programs of its own"),
            )
        )
        self.consent = QCheckBox("Run the generated programs on this computer")
        self.protections = label("", "hint", wrap=True)
        self.job = MeasurementJob(context, JOB_TITLE, _explained, self)
        self.bar = RunBar(context, self.job, "Start")
        self.verdict = label("Nothing has been run yet.", "hint", wrap=True)
        self.table = FigureTable("HumanEval results", [(column, "") for column in COLUMNS])
        self.export_button = QPushButton("Export")
        set_icon(self.export_button, "ph.export", theme)
        self._lay_out()
        self._protections: Protections | None = None
        self._waiting = QTimer(self, interval=100)
        self._waiting.timeout.connect(self._show_protections)
        self.consent.toggled.connect(self._show_protections)
        self.bar.run_clicked.connect(lambda: self.start())
        self.bar.resume_clicked.connect(lambda: self.start(resume=True))
        self.job.received.connect(self._take)
        self.job.succeeded.connect(self._finish)
        self._show_protections()
        self.export_button.setEnabled(False)

    def plan(self) -> HumanEvalPlan:
        """The choices."""
        return HumanEvalPlan(
            samples=self.samples.value(),
            problems=self.problems.value(),
            max_new_tokens=self.tokens.value(),
            k=self.k.value(),
            verification=Verification(self.rule.value()),
        )

    def start(self, *, resume: bool = False) -> None:
        """Begin, or continue a stopped run."""
        engine = self._context.engine
        if engine is None:
            return
        model = engine.model
        if not model.capabilities.supports_pass:
            self._context.report_error(f"{model.name} cannot run PASS: {model.capabilities.reason}")
            return
        loaded = self._context.lookahead
        plan, agreed = self.plan(), self.consent.isChecked()
        try:
            if not resume:
                self._state.unlink(missing_ok=True)
        except OSError as error:
            self._context.report_error(str(error), error)
            return

        def work(control: JobControl) -> HumanEvalReport:
            lookahead = loaded or untrained_lookahead(model)
            evaluation = HumanEval(engine, lookahead, plan, state=self._state, run_code=agreed)
            environment = environment_of(engine, {"loaded": lookahead})
            for event in evaluation.run(control.cancel):
                if isinstance(event, Progress):
                    control.progress(event)
                    control.emit(evaluation.report(environment))
                else:
                    control.emit(event)
            return evaluation.report(environment)

        if self.job.start(work):
            self._counts = {"passed": 0, "judged": 0}

    def stop(self) -> None:
        """Stop; finished work is kept."""
        self.job.stop()

    def _take(self, event: object) -> None:
        if isinstance(event, Judged):
            self._counts["judged"] += 1
            self._counts["passed"] += event.outcome.verdict is Verdict.PASSED
        elif isinstance(event, HumanEvalReport):
            self._show(event)

    def _finish(self, report: HumanEvalReport) -> None:
        self.bar.set_resumable(not report.complete)
        self._show(report)

    def _show(self, report: HumanEvalReport) -> None:
        self.report = report
        self.table.show_rows([_row(report, arm) for arm in report.arms], -1)
        self.verdict.setText(" ".join(sentences(report)))
        self.export_button.setEnabled(bool(report.arms))

    def showEvent(self, event: QShowEvent) -> None:
        """Find what holds programs back here before anybody is asked to agree (a second of small processes)."""
        super().showEvent(event)
        if self._protections is None and not self._waiting.isActive():
            self._waiting.start()
            threading.Thread(target=self._find_protections, daemon=True).start()

    def _find_protections(self) -> None:
        self._protections = protections()

    def _show_protections(self, *_: object) -> None:
        found = self._protections
        self.consent.setEnabled(found is not None)
        text = "Looking at what would hold the programs back on this machine …"
        if found is not None:
            self._waiting.stop()
            text = found.text()
        if not self.consent.isChecked():
            text += " Without your consent programs are written and timed but not tested, so there is no pass@k."
        self.protections.setText(text)

    def export(self, path: Path) -> None:
        """Write the report as .json, .csv or .md."""
        if self.report is None:
            return
        try:
            write_atomically(path, WRITERS[path.suffix](self.report))
        except (OSError, KeyError) as error:
            self._context.report_error(f"{path.name} could not be written: {error}", error)
        else:
            self._context.notify(f"Saved {path.name}.")

    def _ask_export(self, suffix: str) -> None:
        ask_save(self, "Export", Path.home() / f"humaneval{suffix}", f"*{suffix}", self.export, suffix=suffix)

    def _lay_out(self) -> None:
        menu = QMenu(self.export_button)
        for title, suffix in (
            ("Everything (JSON)…", ".json"),
            ("Programs (CSV)…", ".csv"),
            ("Table (Markdown)…", ".md"),
        ):
            menu.addAction(title, lambda s=suffix: self._ask_export(s))
        self.export_button.setMenu(menu)
        card = Card("Programs from HumanEval")
        card.body.addWidget(
            label(
                "164 programming problems, solved once with plain decoding and once with PASS at the paper's settings "
                "(temperature 0.8, top-k 10). Both should solve as many; PASS should take less time.",
                "hint",
                wrap=True,
            )
        )
        grid = QGridLayout()
        fields = (
            ("problems", self.problems),
            ("programs for each", self.samples),
            ("new tokens at most", self.tokens),
            ("k", self.k),
        )
        for index, (title, field) in enumerate(fields):
            grid.addWidget(label(title), index, 0)
            sized(field, max_width=110)
            grid.addWidget(field, index, 1)
        grid.setColumnStretch(0, 1)
        card.body.addLayout(grid)
        card.body.addWidget(self.rule)
        card.body.addWidget(self.consent)
        card.body.addWidget(self.protections)
        card.body.addWidget(self.bar)
        sized(card, width=350)
        left = QVBoxLayout()
        left.addWidget(card)
        left.addStretch(1)
        results = Card("Results")
        results.head.addWidget(self.export_button)
        results.body.addWidget(self.table, 1)
        results.body.addWidget(self.verdict)
        layout = row(spacing=12)
        layout.setContentsMargins(0, 8, 0, 0)
        layout.addLayout(left)
        layout.addWidget(results, 1)
        self.setLayout(layout)


def _row(report: HumanEvalReport, arm: ArmResult) -> tuple[tuple[str, ...], str]:
    judged = sum(o is not None for c, o in report.judged if c.arm == arm.arm)
    return (
        arm.arm,
        _percent(arm.pass_at.get(1)),
        _percent(arm.pass_at.get(10)),
        arm.ms_per_token.text(1),
        f"{arm.tokens_per_call:.2f}",
        f"{arm.passed} of {judged}" if judged else "not run",
    ), ""


def _spin(low: int, high: int, value: int) -> QSpinBox:
    spin = QSpinBox()
    spin.setRange(low, high)
    spin.setValue(value)
    pad_spin_box(spin)
    guard_wheel(spin)
    return spin


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return interval.text(1, scale=100, unit=" %")


def _explained(error: BaseException) -> str:
    """What says already why it cannot be measured stands alone."""
    refusals = (HumanEvalMissing, HumanEvalError, StateMismatch, OSError)
    return str(error) if isinstance(error, refusals) else f"HumanEval stopped: {error}"
