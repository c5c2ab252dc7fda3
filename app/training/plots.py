"""Live plots of a training run: loss, and held-out acceptance over steps and by draft position."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QGridLayout, QWidget

from app.theme.apply import ThemeManager
from app.theme.roles import Theme
from app.theme.scale import paint_scaled, sized
from app.widgets.basic import label
from app.widgets.plot_card import PlotCard
from app.widgets.plots import ThemedPlot

if TYPE_CHECKING:
    from pass_core.training.acceptance import Acceptance

REDRAW_INTERVAL_MS = 120
SMOOTHING = 0.9
TRAINED, LOADED = 1, 0


def axis_end(value: float) -> float:
    """The next calm end of an axis above `value`."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m for m in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if m * power >= value * (1 - 1e-9)) * power


def reference_pen(theme: Theme, loaded: bool) -> QPen:
    """Dashed in the loaded file's colour, dotted and grey for the untrained start."""
    if loaded:
        return pg.mkPen(theme.series[LOADED], width=1.4, style=Qt.PenStyle.DashLine)
    return pg.mkPen(theme.text_muted, width=1.4, style=Qt.PenStyle.DotLine)


def pen_of(kind: str) -> Callable[[Theme], QPen]:
    """How a line of the kind "trained", "untrained" or "loaded" is drawn."""
    if kind == "trained":
        return lambda theme: pg.mkPen(theme.series[TRAINED], width=2)
    return lambda theme: reference_pen(theme, kind == "loaded")


def set_step_axis(plot: ThemedPlot, last: float) -> None:
    """An x axis from 0 to `last` steps with at most six ticks."""
    last = max(10.0, last)
    every = next(m * 10**p for p in range(9) for m in (1, 2, 5) if last / (m * 10**p) <= 6)
    plot.setXRange(0, last, padding=0)
    plot.getPlotItem().getAxis("bottom").setTicks([[(float(v), f"{v}") for v in range(0, int(last) + 1, every)]])


class LineSample(QWidget):
    """A short stretch of a line as it is drawn with the pen that `pen` gives for a theme."""

    def __init__(self, theme: ThemeManager, pen: Callable[[Theme], QPen]) -> None:
        super().__init__()
        self._theme, self._pen = theme, pen
        sized(self, width=22, height=12)
        theme.changed.connect(self._restyle)

    def _restyle(self, *_: object) -> None:
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(self._pen(self._theme.current))
        paint_scaled(painter, self)
        painter.drawLine(1, 6, 21, 6)


class LossPlot(ThemedPlot):
    """Loss of each step, faint, and its moving mean."""

    def __init__(self, theme: ThemeManager) -> None:
        self._raw: pg.PlotDataItem | None = None
        self._mean: pg.PlotDataItem | None = None
        super().__init__(theme)
        self._raw, self._mean = self.plot([], []), self.plot([], [])
        for curve in (self._raw, self._mean):
            curve.setDownsampling(auto=True, method="peak")
        self.restyle(theme.current)
        self.show_loss([], [], 0)

    def restyle(self, theme: Theme) -> None:
        super().restyle(theme)
        if self._raw is not None and self._mean is not None:
            faint = QColor(theme.series[2])
            faint.setAlpha(90)
            self._raw.setPen(pg.mkPen(faint, width=1))
            self._mean.setPen(pg.mkPen(theme.series[2], width=2))

    def show_loss(self, steps: Sequence[int], loss: Sequence[float], last: int) -> None:
        """Draw all steps; the axis goes to `last`."""
        if self._raw is None or self._mean is None:
            return
        self._raw.setData(np.asarray(steps, float), np.asarray(loss, float))
        self._mean.setData(np.asarray(steps, float), moving_mean(loss))
        set_step_axis(self, float(max(last, steps[-1] if steps else 0)))
        finite = [v for v in loss if math.isfinite(v)]
        self.set_top(axis_end(1.05 * max(finite)) if finite else 1.0)


def moving_mean(values: Sequence[float]) -> np.ndarray:
    """Exponential mean, without the pull of a zero start."""
    out, mean, weight = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + 1 - SMOOTHING
        out[i] = mean / weight
    return out


class ReferencePlot(ThemedPlot):
    """A curve of what is trained, with the untrained start and the loaded file as reference lines."""

    def __init__(self, theme: ThemeManager, *, x_label: str = "") -> None:
        self._curve: pg.PlotDataItem | None = None
        self._references: list[pg.PlotDataItem] = []
        super().__init__(theme, x_label=x_label)
        self._references = [self.plot([], []), self.plot([], [])]
        self._curve = self.plot([], [], symbol="o", symbolSize=6)
        self.restyle(theme.current)

    def restyle(self, theme: Theme) -> None:
        super().restyle(theme)
        if self._curve is not None:
            self._curve.setPen(pg.mkPen(theme.series[TRAINED], width=2))
            self._curve.setSymbolPen(pg.mkPen(theme.series[TRAINED]))
            self._curve.setSymbolBrush(QColor(theme.series[TRAINED]))
            for line, loaded in zip(self._references, (False, True)):
                line.setPen(reference_pen(theme, loaded))

    def draw(
        self,
        curve: tuple[Sequence[float], Sequence[float]],
        untrained: tuple[Sequence[float], Sequence[float]],
        loaded: tuple[Sequence[float], Sequence[float]],
        *,
        percent: bool = False,
    ) -> None:
        """Draw (x, y) of each line; the y axis starts at 0."""
        if self._curve is None:
            return
        for item, (x, y) in zip((self._curve, *self._references), (curve, untrained, loaded)):
            item.setData(np.asarray(x, float), np.asarray(y, float))
        top = max((v for _, y in (curve, untrained, loaded) for v in y if math.isfinite(v)), default=0.0)
        end = axis_end(1.08 * top)
        self.set_top(min(1.0, end) if percent else end, percent=percent)


class TrainingPlots(QWidget):
    """Three plots; redrawn a few times a second at most, and only when visible."""

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.evaluated: list[int] = []
        self.acceptances: list[Acceptance] = []
        self.untrained: Acceptance | None = None
        self.loaded: tuple[float, ...] = ()
        self._last, self._depths = 0, 5
        self.loss = LossPlot(theme)
        self.accepted = ReferencePlot(theme)
        self.positions = ReferencePlot(theme)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REDRAW_INTERVAL_MS)
        self._timer.timeout.connect(self.redraw)
        self._lay_out(theme)
        self.redraw()

    def start(self, depths: int, untrained: Acceptance | None = None) -> None:
        """Begin with a new run, or with a resumed one whose start was `untrained`."""
        self.steps, self.losses, self.evaluated, self.acceptances = [], [], [], []
        self.untrained = untrained
        self._last, self._depths = 0, depths
        self.redraw_soon()

    def go_on_at(self, step: int, steps: int) -> None:
        """The run has `steps` in all and is at `step`: later points of an earlier attempt are void."""
        self._last = steps
        kept = sum(s <= step for s in self.steps)
        seen = sum(s <= step for s in self.evaluated)
        self.steps, self.losses = self.steps[:kept], self.losses[:kept]
        self.evaluated, self.acceptances = self.evaluated[:seen], self.acceptances[:seen]
        self.redraw_soon()

    def add_loss(self, step: int, loss: float) -> None:
        """One step."""
        self.steps.append(step)
        self.losses.append(loss)
        self.redraw_soon()

    def add_acceptance(self, step: int, acceptance: Acceptance) -> None:
        """A held-out evaluation; that of step 0 is the untrained start."""
        if step == 0:
            self.untrained = acceptance
        self.evaluated.append(step)
        self.acceptances.append(acceptance)
        self.redraw_soon()

    def set_loaded(self, acceptance: Sequence[float], name: str) -> None:
        """What the trainer of the loaded look-ahead file recorded; empty when it did not."""
        self.loaded = tuple(acceptance)
        for widget in self._loaded_legend:
            widget.setVisible(bool(acceptance))
        for text in self._loaded_legend[1::2]:
            text.setToolTip(f"The loaded file: {name}" if name else "")
        self.redraw_soon()

    def redraw_soon(self) -> None:
        """Redraw with the next tick."""
        if not self._timer.isActive():
            self._timer.start()

    def redraw(self) -> None:
        """Draw what is there now."""
        self.loss.show_loss(self.steps, self.losses, self._last)
        last = float(max(10, self._last, self.evaluated[-1] if self.evaluated else 0))
        none: tuple[list[float], list[float]] = ([], [])
        per_chain = [a.accepted_per_iteration for a in self.acceptances]
        before = self.untrained
        self.accepted.draw(
            ([float(s) for s in self.evaluated], per_chain),
            ([0.0, last], [before.accepted_per_iteration] * 2) if before is not None else none,
            ([0.0, last], [sum(self.loaded)] * 2) if self.loaded else none,
        )
        set_step_axis(self.accepted, last)
        newest = self.acceptances[-1].accepted if self.evaluated and self.evaluated[-1] > 0 else ()
        first = before.accepted if before is not None else ()
        count = max(len(newest), len(first), len(self.loaded), self._depths)
        self.positions.draw(_numbered(newest), _numbered(first), _numbered(self.loaded), percent=True)
        self.positions.setXRange(0.7, count + 0.3, padding=0)
        ticks = [(float(i), f"LA{i}") for i in range(1, count + 1)]
        self.positions.getPlotItem().getAxis("bottom").setTicks([ticks])

    def _lay_out(self, theme: ThemeManager) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(8)
        self._loaded_legend: list[QWidget] = []
        for place, (title, plot, tip, references) in enumerate(
            (
                ("Loss", self.loss, "What is minimised, by step: faint for each step, strong for the mean", False),
                (
                    "Drafts accepted per iteration, held-out",
                    self.accepted,
                    "Mean number of drafts that a chain keeps on text that is not trained on, by step",
                    True,
                ),
                (
                    "Held-out acceptance by position",
                    self.positions,
                    "How often draft j and all drafts before it are accepted on text that is not trained on",
                    True,
                ),
            )
        ):
            beside: list[QWidget] = []
            if references and place == 2:
                for kind, text in (
                    ("trained", "in training"),
                    ("untrained", "untrained"),
                    ("loaded", "loaded file"),
                ):
                    sample, name = LineSample(theme, pen_of(kind)), label(text, "faint")
                    beside += [sample, name]
                    if kind == "loaded":
                        self._loaded_legend += [sample, name]
            card = PlotCard(title, plot, 96, tip=tip, beside=beside)
            if place < 2:
                grid.addWidget(card, 0, place)
            else:
                grid.addWidget(card, 1, 0, 1, 2)
        for column in (0, 1):
            grid.setColumnStretch(column, 1)
            grid.setRowStretch(column, 1)


def _numbered(values: Sequence[float]) -> tuple[list[float], list[float]]:
    return [float(i) for i in range(1, len(values) + 1)], list(values)
