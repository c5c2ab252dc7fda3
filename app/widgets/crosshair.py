"""One place of the text, marked in several plots at once, with what each of them has there."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QObject, QPointF, Signal
from PySide6.QtGui import QColor

from app.theme.apply import ThemeManager
from app.theme.fonts import sans
from app.widgets.plots import RatePlot

Readout = Callable[[int], str]


class Crosshair(QObject):
    """A line in each of the plots; the mouse over one of them moves it in all.

    Attributes:
        place: the step that is marked, by its place in `tokens`; None for none.

    Signals:
        token_hovered(object): the token (1-based) under the mouse, None when it left.
    """

    token_hovered = Signal(object)

    def __init__(self, theme: ThemeManager, plots: Sequence[tuple[RatePlot, Readout]]) -> None:
        super().__init__(plots[0][0])  # its connections end with the plots
        self._theme, self._plots = theme, list(plots)
        self.tokens: Sequence[int] = ()
        self.place: int | None = None
        self._lines: list[pg.InfiniteLine] = []
        self._texts: list[pg.TextItem] = []
        for plot, _ in self._plots:
            line = pg.InfiniteLine(angle=90)
            text = pg.TextItem(anchor=(0, 0))
            for item in (line, text):
                item.setZValue(20)
                item.hide()
                plot.addItem(item, ignoreBounds=True)
            self._lines.append(line)
            self._texts.append(text)
            plot.scene().sigMouseMoved.connect(lambda place, p=plot: self._moved(p, place))
            plot.viewport().installEventFilter(self)
        theme.changed.connect(self._restyle)
        self._restyle()

    def texts(self) -> list[str]:
        """What stands in each plot now."""
        return [t.toPlainText() if t.isVisible() else "" for t in self._texts]

    def follow(self, tokens: Sequence[int], readouts: Sequence[Readout]) -> None:
        """Another run: its tokens after each step, and what each plot has there."""
        self.tokens = tokens
        self._plots = [(plot, readout) for (plot, _), readout in zip(self._plots, readouts)]
        self._hide()

    def show_token(self, token: int | None) -> None:
        """Mark the step that wrote a token (1-based); None takes the mark away."""
        if token is None or not self.tokens:
            self._hide()
            return
        self.place = min(bisect_left(self.tokens, token), len(self.tokens) - 1)
        x = self.tokens[self.place]
        for (plot, readout), line, text in zip(self._plots, self._lines, self._texts):
            line.setValue(x)
            text.setText(readout(self.place))
            (left, right), (_, top) = plot.viewRange()
            text.setAnchor((1, 0) if x > (left + right) / 2 else (0, 0))
            text.setPos(x, top)
            line.show()
            text.show()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """The mouse left a plot."""
        if event.type() is QEvent.Type.Leave and self.place is not None:
            self._hide()
            self.token_hovered.emit(None)
        return False

    def _moved(self, plot: RatePlot, place: QPointF) -> None:
        box = plot.getPlotItem().getViewBox()
        if not box.sceneBoundingRect().contains(place):
            return
        token = max(1, round(box.mapSceneToView(place).x()))
        if self.tokens and token <= self.tokens[-1]:
            self.show_token(token)
            self.token_hovered.emit(token)

    def _hide(self) -> None:
        self.place = None
        for item in (*self._lines, *self._texts):
            item.hide()

    def _restyle(self, *_: object) -> None:
        theme = self._theme.current
        for line, text in zip(self._lines, self._texts):
            line.setPen(pg.mkPen(theme.accent, width=1))
            text.setColor(QColor(theme.text))
            text.fill = pg.mkBrush(QColor(theme.raised))
            text.setFont(sans(8))


def told(
    tokens: Sequence[int], now: Sequence[float], overall: Sequence[float], form: Callable[[float], str]
) -> Readout:
    """What a curve has at a step: “token 37: 41.2”, and below it “overall 38.0”."""

    def number(value: float) -> str:
        return "–" if math.isnan(value) else form(value)

    return lambda place: f"token {tokens[place]}: {number(now[place])}\noverall {number(overall[place])}"
