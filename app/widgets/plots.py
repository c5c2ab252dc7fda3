"""Live plots of a run: speed, acceptance, acceptance by draft position, tokens per call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QBrush, QColor, QContextMenuEvent, QMouseEvent, QPen

from app.theme.apply import ThemeManager
from app.theme.fonts import sans
from app.theme.roles import Theme, TokenRole
from app.theme.scale import factor, scaled
from app.widgets.series import Mark


class ThemedPlot(pg.PlotWidget):
    """A plot whose axes, grid and background follow the theme. Other pages may use it, too."""

    def __init__(self, theme: ThemeManager, *, x_label: str = "", y_label: str = "") -> None:
        super().__init__()
        self.theme = theme
        self._top = 0.0
        self._x_label, self._y_label = x_label, y_label
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # nothing in it answers to keys
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setMouseEnabled(x=False, y=False)
        self.setAntialiasing(True)
        self.setFrameShape(self.Shape.NoFrame)
        item = self.getPlotItem()
        item.setContentsMargins(0, 6, 14, 0)
        for side in ("left", "bottom"):
            axis = item.getAxis(side)
            axis.setStyle(tickLength=0, tickTextOffset=6, autoExpandTextSpace=False, hideOverlappingLabels=False)
        item.getViewBox().setDefaultPadding(0)
        # The axis' own grid would clip the labels at both ends, so the lines are items of the plot.
        self._grid = [pg.InfiniteLine(angle=0) for _ in range(3)]
        for line in self._grid:
            line.setZValue(-10)
            self.addItem(line, ignoreBounds=True)
        theme.changed.connect(self.restyle)
        self.restyle(theme.current)

    def set_top(self, top: float, *, percent: bool = False) -> None:
        """A y axis from 0 to `top` with three ticks and their grid lines."""
        if top == self._top:  # an axis that is told the same ticks again is drawn again
            return
        self._top = top
        values = (0.0, top / 2, top)
        self.setYRange(0, top, padding=0)
        ticks = [(v, f"{100 * v:.0f} %" if percent else f"{v:g}") for v in values]
        self.getPlotItem().getAxis("left").setTicks([ticks])
        for line, value in zip(self._grid, values):
            line.setValue(value)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Save or copy the plot."""
        from app.export.plot_menu import open_plot_menu

        open_plot_menu(self, event.globalPos())

    def restyle(self, theme: Theme) -> None:
        """Take the colours of a theme."""
        self.setBackground(theme.surface)
        item = self.getPlotItem()
        for side in ("left", "bottom"):
            axis = item.getAxis(side)
            axis.setTickFont(sans(8))
            axis.setPen(pg.mkPen(None))
            axis.setTextPen(pg.mkPen(theme.text_faint))
            axis.setTickPen(pg.mkPen(theme.grid))
        item.getAxis("left").setWidth(scaled(42))
        item.getAxis("bottom").setHeight(scaled(34 if self._x_label else 18))
        for line in self._grid:
            line.setPen(pg.mkPen(theme.grid, width=1))
        style = {"color": theme.text_faint, "font-size": f"{8 * factor():.1f}pt"}
        if self._x_label:
            item.setLabel("bottom", self._x_label, **style)
        if self._y_label:
            item.setLabel("left", self._y_label, **style)


class RatePlot(ThemedPlot):
    """A windowed curve, its overall average, and marks. The wheel zooms along the text, a double click resets it.

    Attributes:
        zoomed: whether a person chose the part that is shown; new data leave it as it is then.
    """

    def __init__(self, theme: ThemeManager, role: int, *, percent: bool = False) -> None:
        self._role, self._percent = role, percent
        self._marks: list[pg.InfiniteLine] = []
        self._overall: pg.PlotDataItem | None = None
        self._window: pg.PlotDataItem | None = None
        self.zoomed = False
        self._end = 0.0
        super().__init__(theme)
        self.setMouseEnabled(x=True, y=False)
        self.getPlotItem().getViewBox().sigRangeChangedManually.connect(self._zoomed_by_hand)
        self._overall = self.plot([], [])
        self._window = self.plot([], [])
        for curve in (self._overall, self._window):
            curve.setDownsampling(auto=True, method="peak")
        self.restyle(theme.current)
        self.clear_data()

    def restyle(self, theme: Theme) -> None:
        super().restyle(theme)
        if self._window is not None and self._overall is not None:
            self._window.setPen(pg.mkPen(theme.series[self._role], width=1))
            faint = QColor(theme.series[self._role])
            faint.setAlpha(32)
            self._window.setBrush(faint)
            self._window.setFillLevel(0)
            self._overall.setPen(pg.mkPen(theme.text_muted, width=1, style=Qt.PenStyle.DashLine))
        for line in self._marks:
            line.setPen(self._mark_pen(theme))

    def _mark_pen(self, theme: Theme) -> QPen:
        return pg.mkPen(theme.text_faint, width=1, style=Qt.PenStyle.DotLine)

    def reset_zoom(self) -> None:
        """Show the whole text again."""
        self.zoomed = False
        self._end = 0.0
        xs = self._window.getData()[0] if self._window is not None else None
        self._show_all(float(xs[-1]) if xs is not None and len(xs) else 0.0)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Reset the zoom."""
        self.reset_zoom()

    def _zoomed_by_hand(self, *_: object) -> None:
        self.zoomed = True

    def _show_all(self, last: float) -> None:
        """All of the text, and some room for more, so that the axis is drawn anew now and then only."""
        end = float(calm_end(last))
        if end == self._end:
            return
        self._end = end
        self.setXRange(0, end, padding=0)
        step = next(s for s in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192) if end / s <= 5 or s == 8192)
        ticks = [(float(v), str(v)) for v in range(0, int(end) + 1, step)]
        self.getPlotItem().getAxis("bottom").setTicks([ticks])

    def clear_data(self) -> None:
        """Nothing to see yet."""
        self.zoomed = False
        if self._window is not None and self._overall is not None:
            self._window.setData([], [])
            self._overall.setData([], [])
        for line in self._marks:
            self.removeItem(line)
        self._marks.clear()
        self._end = 0.0
        self._show_all(0.0)
        self._set_top(1.0)

    def _set_top(self, top: float) -> None:
        self.set_top(min(1.0, top) if self._percent else top, percent=self._percent)

    def show_data(
        self, tokens: Sequence[int], window: Sequence[float], overall: Sequence[float], marks: Sequence[Mark]
    ) -> None:
        """Draw all points; the range grows in steps so that the axes stay calm."""
        if self._window is None or self._overall is None:
            return
        x, w, o = np.asarray(tokens, float), np.asarray(window, float), np.asarray(overall, float)
        self._window.setData(x, w, connect="finite")
        self._overall.setData(x, o, connect="finite")
        last = float(x[-1]) if len(x) else 0.0
        if not self.zoomed:
            self._show_all(last)
        finite = np.concatenate([w[np.isfinite(w)], o[np.isfinite(o)]])
        self._set_top(round_up(float(finite.max()) * 1.05) if len(finite) else 1.0)
        while len(self._marks) < len(marks):
            line = pg.InfiniteLine(angle=90, pen=self._mark_pen(self.theme.current))
            line.setZValue(-5)
            self.addItem(line)
            self._marks.append(line)
        for line, mark in zip(self._marks, marks):
            line.setValue(mark.tokens)
            line.setToolTip(mark.text)


class PositionPlot(ThemedPlot):
    """Bars: share of examined drafts accepted at each depth; ticks: what the look-ahead file promised.

    Look-ahead drafts stand below, copied ones (prompt lookup) hatched above them.
    """

    def __init__(self, theme: ThemeManager) -> None:
        self._bars: pg.BarGraphItem | None = None
        self._copied: pg.BarGraphItem | None = None
        self._reference: pg.PlotDataItem | None = None
        super().__init__(theme)
        self._bars = pg.BarGraphItem(x=[], height=[], width=0.6)
        self._copied = pg.BarGraphItem(x=[], y0=[], height=[], width=0.6)
        self._reference = pg.ScatterPlotItem([], [], symbol="d", size=8)
        self.addItem(self._bars)
        self.addItem(self._copied)
        self.addItem(self._reference)
        self.set_top(1.0, percent=True)
        self.restyle(theme.current)
        self.show_data([], [])

    def restyle(self, theme: Theme) -> None:
        super().restyle(theme)
        if self._bars is not None and self._copied is not None and self._reference is not None:
            self._bars.setOpts(brush=QColor(theme.series[1]), pen=pg.mkPen(None))
            color = QColor(theme.tokens[TokenRole.LOOKUP].color)
            self._copied.setOpts(brush=QBrush(color, Qt.BrushStyle.Dense4Pattern), pen=pg.mkPen(color))
            self._reference.setPen(pg.mkPen(theme.text_muted))
            self._reference.setBrush(QColor(theme.surface))

    def show_data(
        self, accepted: Sequence[int], examined: Sequence[int], depths: int = 5, copied: Sequence[int] = ()
    ) -> None:
        """Draw a run's counts by depth; `copied` are those of the accepted drafts that prompt lookup gave."""
        if self._bars is None or self._copied is None:
            return
        shares = [a / e if e else 0.0 for a, e in zip(accepted, examined)]
        above = [c / e if e else 0.0 for c, e in zip(copied, examined)]
        below = [s - (above[i] if i < len(above) else 0.0) for i, s in enumerate(shares)]
        count = max(len(shares), depths, 1)
        self._bars.setOpts(x=list(range(1, len(below) + 1)), height=below, width=0.6)
        self._copied.setOpts(x=list(range(1, len(above) + 1)), y0=below[: len(above)], height=above, width=0.6)
        self.setXRange(0.4, count + 0.6, padding=0)
        step = 1 if count <= 12 else 4
        self.getPlotItem().getAxis("bottom").setTicks([[(i, str(i)) for i in range(1, count + 1, step)]])

    def show_reference(self, acceptance: Sequence[float]) -> None:
        """Draw the held-out acceptance that the file's trainer recorded."""
        if self._reference is not None:
            self._reference.setData(list(range(1, len(acceptance) + 1)), list(acceptance))


def calm_end(tokens: float) -> int:
    """Where an axis along a text ends: at least 64, then 80, 96, 112, 128, 160 … tokens."""
    end, step = 64, 16
    while end < tokens:
        end += step
        if end >= 8 * step:
            step *= 2
    return end


def round_up(value: float) -> float:
    """The next calm axis end: 1, 1.6, 2, 3, 4, 6, 8 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(m for m in (1, 1.6, 2, 3, 4, 6, 8, 10) if m * power >= value - 1e-12) * power)
