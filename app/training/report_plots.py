"""Where a look-ahead file's drafts fall short, as pictures: by position, by candidates, by look-ahead rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QGridLayout, QWidget

from app.theme.apply import ThemeManager
from app.theme.roles import Theme
from app.training.plots import LineSample
from app.widgets.basic import label
from app.widgets.plot_card import PlotCard
from app.widgets.plots import ThemedPlot

if TYPE_CHECKING:
    from pass_core.training.report import DraftReport

ROWS, STATE = 1, 2  # colours of drafts from look-ahead rows and from the state head
SHOWN = (8, 4, 2, 1)  # numbers of candidates that have a line each


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot: name, colour (a number of the theme's series; None for grey), style, opacity, (x, y)."""

    name: str
    colour: int | None
    style: Qt.PenStyle
    points: tuple[Sequence[float], Sequence[float]]
    alpha: int = 255

    def pen(self, theme: Theme) -> QPen:
        """As it is drawn in a theme."""
        colour = QColor(theme.text_muted if self.colour is None else theme.series[self.colour])
        colour.setAlpha(self.alpha)
        return pg.mkPen(colour, width=1.6 if self.colour is None else 2, style=self.style)


def by_position(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """(positions from 1, values)."""
    return [float(i) for i in range(1, len(values) + 1)], list(values)


def match_lines(report: DraftReport) -> list[Line]:
    """How often each draft is the target's token, beside the best possible guesses."""
    lines = [
        Line("ideal guess, knowing the token before", None, Qt.PenStyle.DotLine, by_position(report.floor.one_token)),
        Line("ideal guess, blind between", None, Qt.PenStyle.DashLine, by_position(report.floor.blind)),
        Line("look-ahead rows", ROWS, Qt.PenStyle.SolidLine, by_position(report.match)),
    ]
    if report.state is not None:
        lines.append(Line("state head", STATE, Qt.PenStyle.SolidLine, by_position(report.state.match)))
    return lines


def recall_lines(report: DraftReport) -> list[Line]:
    """How often the target's token is among the n best drafts, one line for each n and source."""
    lines: list[Line] = []
    for colour, name, recall in (
        (ROWS, "look-ahead rows", report.recall),
        (STATE, "state head", () if report.state is None else report.state.recall),
    ):
        for n, values in zip(report.best, recall, strict=False):
            if n in SHOWN:
                alpha = 255 - 45 * SHOWN[::-1].index(n)
                lines.append(Line(f"{name}, {n} best", colour, Qt.PenStyle.SolidLine, by_position(values), alpha))
    return lines


def row_lines(report: DraftReport) -> list[Line]:
    """Drafts accepted a chain by number of look-ahead rows."""
    solid = Qt.PenStyle.SolidLine
    rows = {n: value for n, value in report.by_rows.items() if n}
    lines = [Line("look-ahead rows", ROWS, solid, (list(rows), list(rows.values())))]
    if 0 in report.by_rows:
        lines.append(Line("state head", STATE, solid, ([0], [report.by_rows[0]])))
    return lines


class LinePlot(ThemedPlot):
    """Some lines with points; the y axis starts at 0."""

    def __init__(self, theme: ThemeManager, *, percent: bool, x_label: str) -> None:
        self._lines: list[Line] = []
        self._items: list[pg.PlotDataItem] = []
        self._percent = percent
        super().__init__(theme, x_label=x_label)

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Draw these instead of those before."""
        for item in self._items:
            self.removeItem(item)
        self._lines = list(lines)
        self._items = [
            self.plot(np.asarray(line.points[0], float), np.asarray(line.points[1], float), symbol="o", symbolSize=5)
            for line in lines
        ]
        xs = [x for line in lines for x in line.points[0]] or [1.0]
        self.setXRange(min(xs) - 0.3, max(xs) + 0.3, padding=0)  # pyright: ignore[reportCallIssue]
        item = self.getPlotItem()
        assert item is not None
        item.getAxis("bottom").setTicks([[(x, f"{x:g}") for x in sorted(set(xs))]])
        top = max((y for line in lines for y in line.points[1]), default=1.0)
        self.set_top(1.0 if self._percent else max(0.5, round(2.2 * top) / 2), percent=self._percent)
        self.restyle(self.theme.current)

    def restyle(self, theme: Theme) -> None:
        super().restyle(theme)
        for item, line in zip(self._items, self._lines):
            pen = line.pen(theme)
            item.setPen(pen)
            item.setSymbolPen(pg.mkPen(pen.color()))
            item.setSymbolBrush(pen.color())


class ReportPlots(QWidget):
    """Three plots of one report.

    Attributes:
        match, recall, rows: the plots.
    """

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.match = LinePlot(theme, percent=True, x_label="draft")
        self.recall = LinePlot(theme, percent=True, x_label="draft")
        self.rows = LinePlot(theme, percent=False, x_label="look-ahead rows of a chain (0: state head)")
        solid, none = Qt.PenStyle.SolidLine, ([0.0], [0.0])
        sources = [Line("look-ahead rows", ROWS, solid, none), Line("state head", STATE, solid, none)]
        ideals = [
            Line("ideal, token before known", None, Qt.PenStyle.DotLine, none),
            Line("ideal, blind", None, Qt.PenStyle.DashLine, none),
        ]
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(8)
        tip = "How often draft j is the model's token, accepted before or not, beside the best that anyone could guess"
        grid.addWidget(self._card(theme, "Match by position", self.match, tip, [*sources, *ideals]), 0, 0, 1, 2)
        tip = "How often the model's token is among the 8, 4, 2 and 1 best drafts (lines from the top)"
        grid.addWidget(self._card(theme, "Among the 8, 4, 2, 1 best", self.recall, tip, []), 1, 0)
        tip = "A chain of m look-ahead rows drafts its first m tokens; without any, the state head drafts"
        grid.addWidget(self._card(theme, "Drafts accepted a chain", self.rows, tip, []), 1, 1)
        for place in (0, 1):
            grid.setColumnStretch(place, 1)
            grid.setRowStretch(place, 1)

    def show_report(self, report: DraftReport) -> None:
        """Draw a report."""
        self.match.show_lines(match_lines(report))
        self.recall.show_lines(recall_lines(report))
        self.rows.show_lines(row_lines(report))

    def _card(self, theme: ThemeManager, title: str, plot: LinePlot, tip: str, legend: Sequence[Line]) -> PlotCard:
        beside: list[QWidget] = []
        for line in legend:
            beside += [LineSample(theme, line.pen), label(line.name, "faint")]
        plot.setToolTip(tip)
        return PlotCard(title, plot, 96, tip=tip, beside=beside)
