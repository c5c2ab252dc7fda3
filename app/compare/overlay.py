"""Several runs on one axis: progress in time, speed, tokens per call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyqtgraph as pg
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.state.paced import PacedTimer
from app.theme.apply import ThemeManager
from app.theme.roles import Theme
from app.theme.scale import scaled, sized
from app.widgets.basic import label
from app.widgets.plot_card import PlotCard
from app.widgets.plots import ThemedPlot, round_up
from app.widgets.series import RunSeries
from pass_core.decoding.events import StepEvent

REDRAW_LEAST_MS, REDRAW_MOST_MS, REDRAW_SHARE = 100, 1000, 0.015


class LineSample(QWidget):
    """A short line in the colour of a curve."""

    def __init__(self, theme: ThemeManager, series: int) -> None:
        super().__init__()
        self._theme, self._series = theme, series
        sized(self, width=18, height=12)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        colors = self._theme.current.series
        painter.fillRect(0, scaled(5), scaled(18), scaled(3), QColor(colors[self._series % len(colors)]))


@dataclass
class OverlayRun:
    """A run that grows: its name and its curves."""

    name: str
    series: RunSeries = field(default_factory=RunSeries)
    seconds: list[float] = field(default_factory=list[float])
    clock: float = 0.0

    def add(self, steps: Sequence[StepEvent]) -> None:
        """Fold more steps."""
        for step in steps:
            self.clock += step.seconds + (step.prefill.seconds if step.prefill is not None else 0.0)
            self.series.add(step)
            if step.tokens:
                self.seconds.append(self.clock)


class OverlayPlot(ThemedPlot):
    """One curve per run, in the theme's series colours."""

    def __init__(self, theme: ThemeManager, *, stepped: bool = False) -> None:
        self._curves: list[pg.PlotDataItem] = []
        self._stepped = stepped
        super().__init__(theme)
        self.show_curves(())

    def restyle(self, theme: Theme) -> None:
        super().restyle(theme)
        for i, curve in enumerate(self._curves):
            curve.setPen(pg.mkPen(theme.series[i % len(theme.series)], width=1))

    def show_curves(self, curves: Sequence[tuple[Sequence[float], Sequence[float]]]) -> None:
        """Draw (x, y) of each run; axes from 0 to the largest values."""
        while len(self._curves) < len(curves):
            color = self.theme.current.series[len(self._curves) % len(self.theme.current.series)]
            curve = self.plot([], [], pen=pg.mkPen(color, width=1))
            curve.setDownsampling(auto=True, method="peak")
            self._curves.append(curve)
        right, top = 0.0, 0.0
        for i, curve in enumerate(self._curves):
            xs, ys = curves[i] if i < len(curves) else ((), ())
            x, y = np.asarray(xs, float), np.asarray(ys, float)
            curve.setData(x, y, connect="finite")
            if len(x):
                right = max(right, float(x[-1]))
                top = max(top, float(np.nanmax(y)) if np.isfinite(y).any() else 0.0)
        self.setXRange(0, right or 1.0, padding=0)
        self.set_top(round_up(top * 1.05))


class OverlayPlots(QWidget):
    """Three plots and a legend. `set_runs` starts afresh; `add_steps` grows one run."""

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self.runs: list[OverlayRun] = []
        self.progress = OverlayPlot(theme)
        self.speed = OverlayPlot(theme)
        self.per_call = OverlayPlot(theme)
        self._legend = QHBoxLayout()
        self._legend.setSpacing(6)
        plots = QHBoxLayout()
        plots.setSpacing(8)
        for title, hint, plot, name in (
            ("Tokens", "against seconds", self.progress, "tokens"),
            ("Tokens per second", "recent, against tokens", self.speed, "speed"),
            ("Tokens per call", "overall, against tokens", self.per_call, "per_call"),
        ):
            plot.setObjectName(name)
            beside = [label(hint, "faint")]
            plots.addWidget(PlotCard(title, plot, 64, beside=beside, margins=(8, 6, 8, 2), spacing=0), 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(self._legend)
        layout.addLayout(plots, 1)
        self._timer = PacedTimer(self, REDRAW_LEAST_MS, REDRAW_MOST_MS, REDRAW_SHARE, once=True)
        self._timer.due.connect(self.redraw)

    def plots(self) -> tuple[OverlayPlot, ...]:
        """All plots, for export."""
        return self.progress, self.speed, self.per_call

    def set_runs(self, names: Sequence[str]) -> None:
        """Begin afresh with empty runs of these names."""
        self.runs = [OverlayRun(name) for name in names]
        while self._legend.count():
            item = self._legend.takeAt(0)
            if item is not None and (widget := item.widget()) is not None:
                widget.deleteLater()
        for i, run in enumerate(self.runs):
            self._legend.addWidget(LineSample(self._theme, i))
            self._legend.addWidget(label(run.name, "hint"))
            self._legend.addSpacing(12)
        self._legend.addStretch(1)
        self.redraw()

    def add_steps(self, number: int, steps: Sequence[StepEvent]) -> None:
        """More steps of a run; drawn soon."""
        self.runs[number].add(steps)
        self._timer.request()

    def redraw(self) -> None:
        """Draw what is there now."""
        self.progress.show_curves([([0.0, *r.seconds], [0.0, *map(float, r.series.tokens)]) for r in self.runs])
        self.speed.show_curves([(r.series.tokens, r.series.speed) for r in self.runs])
        self.per_call.show_curves([(r.series.tokens, r.series.per_call_overall) for r in self.runs])
