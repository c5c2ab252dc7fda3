"""The benchmark's two figures: time per token over k, and the cost of a call over its rows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from app.theme.apply import ThemeManager
from app.theme.roles import Theme
from app.theme.scale import sized
from app.widgets.plots import ThemedPlot
from pass_core.evaluation.speed.figure import FigureData
from pass_core.evaluation.speed.roofline import Roofline

_LINES = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine, Qt.PenStyle.DotLine, Qt.PenStyle.DashDotLine)
_SAMPLES = {
    Qt.PenStyle.SolidLine: "━━━",
    Qt.PenStyle.DashLine: "╍╍╍",
    Qt.PenStyle.DotLine: "┄┄┄",
    Qt.PenStyle.DashDotLine: "━╍━",
}


def calm_end(value: float) -> float:
    """An axis end above `value` whose half is a round number, too."""
    power = 1.0
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return next(m for m in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10) if m * power >= value) * power


class _Figure(QWidget):
    """A plot with a legend below it; redrawn as a whole, for it is small."""

    def __init__(self, theme: ThemeManager, name: str, x_label: str, y_label: str) -> None:
        super().__init__()
        self._theme = theme
        self.plot = ThemedPlot(theme, x_label=x_label, y_label=y_label)
        self.plot.setAccessibleName(name)
        sized(self.plot, min_height=150)
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setProperty("role", "hint")
        self.legend.setWordWrap(True)
        self.legend.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.legend)
        self._items: list[pg.GraphicsObject] = []
        # A method, not a lambda: Qt drops it with the widget.
        theme.changed.connect(self._theme_changed)

    def _theme_changed(self, _theme: Theme) -> None:
        self.redraw()

    def redraw(self) -> None:
        """Draw again, in the colours of the current theme."""
        for item in self._items:
            self.plot.removeItem(item)
        self._items.clear()
        self.draw(self._theme.current)

    def draw(self, theme: Theme) -> None:
        """Add all items; overridden."""
        raise NotImplementedError

    def add(self, item: pg.GraphicsObject) -> None:
        self.plot.addItem(item)
        self._items.append(item)

    def show_legend(self, entries: Sequence[tuple[str, QPen | None, str]]) -> None:
        """(colour, pen, text) each."""
        spans = [
            f'<span style="color:{color}">{_SAMPLES.get(pen.style(), "━━━") if pen is not None else "●"}</span>&nbsp;'
            f"{escape(text).replace(' ', '&nbsp;').replace('-', '&#8209;')}"
            for color, pen, text in entries
        ]
        self.legend.setText(" &nbsp; ".join(spans))


class TimePlot(_Figure):
    """The paper's figure: time per token over k, plain decoding as a line, the best k marked."""

    def __init__(self, theme: ThemeManager) -> None:
        super().__init__(theme, "Time per token over k", "look-ahead steps k", "ms per token")
        self._data: FigureData | None = None
        self.redraw()

    def show_data(self, data: FigureData | None) -> None:
        """Draw; None for nothing yet."""
        self._data = data
        self.redraw()

    def draw(self, theme: Theme) -> None:
        data = self._data
        if data is None or not (data.curves or data.levels):
            self.plot.set_top(10.0)
            self.plot.setXRange(0.5, 5.5, padding=0)
            self.legend.setText("Nothing has been measured yet.")
            return
        highest = max([i.high for c in data.curves for _, i in c.points] + [v.time.median for v in data.levels])
        self.plot.set_top(calm_end(highest * 1.05))
        ks = sorted({k for c in data.curves for k, _ in c.points}) or [1]
        self.plot.setXRange(ks[0] - 0.5, ks[-1] + 0.5, padding=0)
        self.plot.getPlotItem().getAxis("bottom").setTicks([[(float(k), str(k)) for k in ks]])
        entries: list[tuple[str, QPen | None, str]] = []
        for index, level in enumerate(data.levels):
            color = theme.text if index == 0 else theme.text_muted
            pen = pg.mkPen(color, width=1.6 if index == 0 else 1, style=_LINES[index % len(_LINES)])
            self.add(pg.InfiniteLine(pos=level.time.median, angle=0, pen=pen))
            entries.append((color, pen, f"{level.name} {level.time.median:.1f} ms"))
        for index, curve in enumerate(data.curves):
            color = theme.series[index % len(theme.series)]
            pen = pg.mkPen(color, width=2, style=_LINES[index % len(_LINES)])
            x = [k + 0.06 * (index - (len(data.curves) - 1) / 2) for k, _ in curve.points]
            y = [i.median for _, i in curve.points]
            bars = pg.ErrorBarItem(pen=pg.mkPen(color, width=1), beam=0.08)
            bars.setData(
                x=np.asarray(x),
                y=np.asarray(y),
                top=np.asarray([i.high - i.median if i.stated else 0.0 for _, i in curve.points]),
                bottom=np.asarray([i.median - i.low if i.stated else 0.0 for _, i in curve.points]),
            )
            self.add(bars)
            self.add(pg.PlotDataItem(x, y, pen=pen, symbol="o", symbolSize=6, symbolBrush=color, symbolPen=None))
            best = min(range(len(y)), key=y.__getitem__)
            ring = pg.ScatterPlotItem([x[best]], [y[best]], size=16, pen=pg.mkPen(color, width=1.5), brush=None)
            self.add(ring)
            entries.append((color, pen, f"{curve.name}: best {y[best]:.1f} ms at k = {curve.best}"))
        self.show_legend(entries)


class CallCostPlot(_Figure):
    """The roofline: measured time of a call over its rows, and the floor that memory sets."""

    def __init__(self, theme: ThemeManager) -> None:
        super().__init__(theme, "Cost of a call over its rows", "rows of the call", "ms per call")
        self._data: Roofline | None = None
        self.redraw()

    def show_data(self, data: Roofline | None) -> None:
        """Draw; None for nothing yet."""
        self._data = data
        self.redraw()

    def draw(self, theme: Theme) -> None:
        data = self._data
        if data is None:
            self.plot.set_top(10.0)
            self.plot.setXRange(0, 48, padding=0)
            self.legend.setText("Measured at the start of a benchmark.")
            return
        ms = [1000 * s for s in data.seconds]
        floor = 1000 * data.floor_seconds
        self.plot.set_top(calm_end(max(*ms, floor) * 1.05))
        self.plot.setXRange(0, data.rows[-1] + 1, padding=0)
        self.plot.getPlotItem().getAxis("bottom").setTicks([[(float(r), str(r)) for r in data.rows if r not in (2,)]])
        pen = pg.mkPen(theme.text_muted, width=1.4, style=Qt.PenStyle.DashLine)
        self.add(pg.InfiniteLine(pos=floor, angle=0, pen=pen))
        fill = QColor(theme.series[0])
        fill.setAlpha(28)
        color = theme.series[0]
        line = pg.mkPen(color, width=2)
        self.add(
            pg.PlotDataItem(
                list(data.rows),
                ms,
                pen=line,
                symbol="o",
                symbolSize=6,
                symbolBrush=color,
                symbolPen=None,
                fillLevel=0,
                brush=fill,
            )
        )
        self.show_legend(
            [
                (
                    color,
                    line,
                    f"one row {ms[0]:.1f} ms: {100 * data.shares[0]:.0f} % of the floor",
                ),
                (
                    theme.text_muted,
                    pen,
                    f"floor: {data.weight_bytes / 1e6:.0f} MB at {data.bandwidth / 1e9:.1f} GB/s, {floor:.1f} ms",
                ),
            ]
        )
