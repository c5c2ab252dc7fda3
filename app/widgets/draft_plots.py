"""Plots of what became of the drafts."""

from __future__ import annotations

from collections.abc import Sequence

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor

from app.theme.apply import ThemeManager
from app.theme.roles import Theme
from app.widgets.draft_counts import DraftCounts
from app.widgets.plots import ThemedPlot, round_up

MOST_ACCEPTED = 12


class BarPlot(ThemedPlot):
    """Bars with a name below each and the figure in their tool tip."""

    def __init__(self, theme: ThemeManager, role: int) -> None:
        self._role = role
        self._bars: pg.BarGraphItem | None = None
        self.heights: list[float] = []
        super().__init__(theme)
        self._bars = pg.BarGraphItem(x=[], height=[], width=0.6)
        self.addItem(self._bars)
        self.restyle(theme.current)

    def restyle(self, theme: Theme) -> None:
        super().restyle(theme)
        if self._bars is not None:
            self._bars.setOpts(brush=QColor(theme.series[self._role]), pen=pg.mkPen(None))

    def show_bars(self, names: Sequence[str], heights: Sequence[float]) -> None:
        """Draw them anew; the axis ends at a calm number."""
        if self._bars is None:
            return
        self.heights = list(heights)
        places = list(range(len(names)))
        self._bars.setOpts(x=places, height=self.heights, width=0.6)
        self.setXRange(-0.6, max(1, len(names)) - 0.4, padding=0)
        self.getPlotItem().getAxis("bottom").setTicks([list(zip(map(float, places), names))])
        self.set_top(round_up(max([*heights, 1.0]) * 1.05))
        self.setToolTip("\n".join(f"{name}: {height:,.0f}" for name, height in zip(names, heights)))


class AcceptedPlot(BarPlot):
    """How many steps kept 0, 1, 2 … drafts."""

    def __init__(self, theme: ThemeManager) -> None:
        super().__init__(theme, 1)
        self.show_counts(DraftCounts())

    def show_counts(self, counts: DraftCounts) -> None:
        """Draw a run's counts."""
        steps = counts.steps_by_accepted or [0]
        shown = [*steps[:MOST_ACCEPTED], sum(steps[MOST_ACCEPTED:])] if len(steps) > MOST_ACCEPTED else steps
        names = [str(n) for n in range(len(shown))]
        if len(steps) > MOST_ACCEPTED:
            names[-1] += "+"
        self.show_bars(names, shown)


class RowsPlot(BarPlot):
    """What the rows of all forward passes were spent on."""

    def __init__(self, theme: ThemeManager) -> None:
        super().__init__(theme, 2)
        self.show_counts(DraftCounts())

    def show_counts(self, counts: DraftCounts) -> None:
        """Draw a run's counts."""
        c = counts
        self.show_bars(("own", "kept", "lost", "ahead"), (c.own_rows, c.kept_rows, c.lost_rows, c.lookahead_rows))


class CalibrationPlot(ThemedPlot):
    """How sure the drafts were, against how often they were right; on the diagonal both are the same."""

    def __init__(self, theme: ThemeManager) -> None:
        self._points: pg.ScatterPlotItem | None = None
        self._line: pg.PlotDataItem | None = None
        super().__init__(theme)
        self._line = self.plot([0, 1], [0, 1])
        self._points = pg.ScatterPlotItem([], [])
        self.addItem(self._points)
        self.setXRange(0, 1, padding=0.02)
        self.set_top(1.0, percent=True)
        self.getPlotItem().getAxis("bottom").setTicks([[(v / 4, f"{25 * v} %") for v in range(5)]])
        self.restyle(theme.current)
        self.show_counts(DraftCounts())

    def restyle(self, theme: Theme) -> None:
        super().restyle(theme)
        if self._points is not None and self._line is not None:
            self._points.setBrush(QColor(theme.series[0]))
            self._points.setPen(pg.mkPen(theme.surface))
            self._line.setPen(pg.mkPen(theme.text_faint, width=1, style=Qt.PenStyle.DashLine))

    def show_counts(self, counts: DraftCounts) -> None:
        """Draw a run's counts; a larger dot stands for more drafts."""
        if self._points is None:
            return
        told = counts.calibration()
        sizes = [5 + min(9.0, n**0.5) for _, _, n in told]
        self._points.setData([p for p, _, _ in told], [a for _, a, _ in told], size=sizes)
        self.setToolTip(
            "\n".join(f"drafts of {100 * p:.0f} %: {100 * a:.0f} % of {n:,} accepted" for p, a, n in told)
            or "No draft was examined yet"
        )
