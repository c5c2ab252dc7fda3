"""The plots beside a text: curves along it, and what became of its drafts."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.state.paced import PacedTimer
from app.theme.apply import ThemeManager
from app.widgets.basic import Segmented, label
from app.widgets.crosshair import Crosshair, Readout, told
from app.widgets.draft_plots import AcceptedPlot, CalibrationPlot, RowsPlot
from app.widgets.plot_card import PlotCard
from app.widgets.plots import PositionPlot, RatePlot
from app.widgets.series import RunSeries
from pass_core.decoding.events import StepEvent

REDRAW_LEAST_MS, REDRAW_MOST_MS, REDRAW_SHARE = 100, 1000, 0.015
HELD_OUT = "◇ held-out"
CURVES, DRAFTS = "curves", "drafts"
RATE_MARKS = (
    "─ over the last 32 tokens, ┄ from the start; a dotted upright line: settings changed there\n"
    "The wheel zooms along the text, a double click shows all of it"
)
MARKS = {
    "speed": RATE_MARKS,
    "acceptance": RATE_MARKS,
    "per_call": RATE_MARKS,
    "positions": "",
    "accepted": "How many steps kept 0, 1, 2 … of their drafts",
    "rows": "own: the row of each forward pass whose token the model wrote itself\n"
    "kept, lost: rows of drafts that were accepted, or not\n"
    "ahead: look-ahead rows, which guess for the next step",
    "calibration": "Across: the probability that the drafter gave a draft. Up: the share of such drafts that were\n"
    "accepted. "
    "A larger dot stands for more drafts.",
}


class LivePlots(QWidget):
    """The plots of the running or last run, on two leaves; redrawn at most ten times a second, and only when visible.

    Signals:
        token_hovered(object): the token (0-based) under the mouse in a curve, None when it left.
    """

    token_hovered = Signal(object)

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.series = RunSeries()
        self._depths = 5
        self._dirty = False
        self.crosshair: Crosshair | None = None
        self.speed = RatePlot(theme, 0)
        self.acceptance = RatePlot(theme, 1, percent=True)
        self.positions = PositionPlot(theme)
        self.per_call = RatePlot(theme, 3)
        self.accepted, self.rows, self.calibration = AcceptedPlot(theme), RowsPlot(theme), CalibrationPlot(theme)
        self.leaf = Segmented(
            (
                (CURVES, "Curves", "Speed, acceptance and tokens per call along the text"),
                (DRAFTS, "Drafts", "What became of the drafts, what rows were spent on, and how sure drafts were"),
            )
        )
        self.leaf.chosen.connect(self._show_leaf)
        self._leaves = {CURVES: QWidget(), DRAFTS: QWidget()}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.leaf)
        columns: dict[str, QVBoxLayout] = {}
        for name, leaf in self._leaves.items():
            columns[name] = QVBoxLayout(leaf)
            columns[name].setContentsMargins(0, 0, 0, 0)
            columns[name].setSpacing(8)
            layout.addWidget(leaf, 1)
        self._leaves[DRAFTS].hide()
        for title, hint, plot, name in (
            ("Tokens per second", "─ recent  ┄ overall", self.speed, "speed"),
            ("Acceptance rate", "─ recent  ┄ overall", self.acceptance, "acceptance"),
            ("Acceptance by draft position", HELD_OUT, self.positions, "positions"),
            ("Tokens per call", "─ recent  ┄ overall", self.per_call, "per_call"),
            ("Drafts kept in a step", "steps", self.accepted, "accepted"),
            ("Rows spent", "rows", self.rows, "rows"),
            ("Foreseen and observed", "┄ the same", self.calibration, "calibration"),
        ):
            explanation = label(hint, "faint")
            if plot is self.positions:
                self._positions_hint = explanation
                explanation.setToolTip(
                    "◇ what the look-ahead file's trainer measured on held-out text\n"
                    "▩ copied from earlier text (prompt lookup); the rest are look-ahead drafts"
                )
            explanation.setToolTip(explanation.toolTip() or MARKS[name])
            plot.setObjectName(name)
            card = PlotCard(title, plot, 72, beside=[explanation], margins=(8, 8, 8, 4))
            columns[DRAFTS if name in ("accepted", "rows", "calibration") else CURVES].addWidget(card, 1)
        self._timer = PacedTimer(self, REDRAW_LEAST_MS, REDRAW_MOST_MS, REDRAW_SHARE, once=True)
        self._timer.due.connect(self.redraw)
        self._aim()

    def show_token(self, index: int | None) -> None:
        """Mark the step that wrote a token (0-based) in every curve."""
        if self.crosshair is not None:
            self.crosshair.show_token(None if index is None else index + 1)

    def _aim(self) -> None:
        """A crosshair for the present series."""
        s = self.series
        curves: list[tuple[RatePlot, Readout]] = [
            (self.speed, told(s.tokens, s.speed, s.speed_overall, "{:.1f}".format)),
            (self.acceptance, told(s.tokens, s.acceptance, s.acceptance_overall, "{:.0%}".format)),
            (self.per_call, told(s.tokens, s.per_call, s.per_call_overall, "{:.2f}".format)),
        ]
        if self.crosshair is None:
            self.crosshair = Crosshair(self.speed.theme, curves)
            self.crosshair.token_hovered.connect(self._hovered)
        self.crosshair.follow(s.tokens, [readout for _, readout in curves])

    def _hovered(self, token: int | None) -> None:
        self.token_hovered.emit(None if token is None else token - 1)

    def _show_leaf(self, name: str) -> None:
        for key, leaf in self._leaves.items():
            leaf.setVisible(key == name)
        self._dirty = True
        self.redraw()

    def start(self, depths: int = 5) -> None:
        """Begin afresh with a new run."""
        self.series = RunSeries()
        self._depths = depths
        self._aim()
        for plot in (self.accepted, self.rows, self.calibration):
            plot.show_counts(self.series.drafts)
        for plot in (self.speed, self.acceptance, self.per_call):
            plot.clear_data()
        self.positions.show_data([], [], depths)
        self._positions_hint.setText(HELD_OUT)

    def add_steps(self, steps: list[StepEvent]) -> None:
        """Fold steps in and redraw soon."""
        for step in steps:
            self.series.add(step)
        self._dirty = True
        self._timer.request()

    def redraw(self) -> None:
        """Draw what is there now."""
        if not self._dirty or not self.isVisible():
            return
        self._dirty = False
        s = self.series
        if self.leaf.value() == DRAFTS:
            for plot in (self.accepted, self.rows, self.calibration):
                plot.show_counts(s.drafts)
            return
        self.speed.show_data(s.tokens, s.speed, s.speed_overall, s.marks)
        self.acceptance.show_data(s.tokens, s.acceptance, s.acceptance_overall, s.marks)
        self.per_call.show_data(s.tokens, s.per_call, s.per_call_overall, s.marks)
        t = s.totals
        self.positions.show_data(t.accepted_by_position, t.examined_by_position, self._depths, s.copied_by_position)
        self._positions_hint.setText("◇  ▩ copied" if s.copied_by_position else HELD_OUT)

    def showEvent(self, event: object) -> None:
        super().showEvent(event)  # type: ignore[arg-type]
        self.redraw()
