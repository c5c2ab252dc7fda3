"""The three columns of the Generate page: choices, text, plots."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QScrollArea, QSplitter, QVBoxLayout, QWidget

from app.theme.scale import scaled, sized
from app.widgets.basic import Card, ElidedLabel, row
from app.widgets.figures import Figures
from app.widgets.live_plots import LivePlots
from app.widgets.token_view import TokenView

PLOTS_FROM_WIDTH = 1128


class GenerateColumns(QSplitter):
    """Choices on the left with their buttons below, the text in the middle, plots on the right."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setChildrenCollapsible(False)
        self.setHandleWidth(8)
        self._centre_column = QVBoxLayout()
        self._right = QWidget()

    def set_choices(self, cards: Sequence[QWidget], buttons: Sequence[QWidget]) -> None:
        """The left column; the first button gets twice the second's width."""
        stack = QWidget()
        stack.setObjectName("scrollBody")
        column = QVBoxLayout(stack)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(8)
        for card in cards:
            column.addWidget(card)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what is in it takes the keys
        scroll.setWidget(stack)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        sized(scroll, min_height=200)
        left = QWidget()
        left_column = QVBoxLayout(left)
        left_column.setContentsMargins(8, 8, 0, 8)
        left_column.setSpacing(8)
        left_column.addWidget(scroll, 1)
        below = row(*buttons)
        below.setStretch(0, 2)
        below.setStretch(1, 1)
        below.setContentsMargins(0, 0, 8, 0)
        left_column.addLayout(below)
        sized(left, min_width=352)
        sized(left, max_width=480)
        self.addWidget(left)

    def set_text(
        self, figures: Figures, head: Sequence[QWidget], text: TokenView, reason: ElidedLabel, tools: Sequence[QWidget]
    ) -> None:
        """The middle column; `head` stands above the text, `tools` below it."""
        card = Card()
        card.body.setContentsMargins(1, 8, 1, 1)
        card.body.setSpacing(4)
        for widget in head:
            top = row(widget)
            top.setContentsMargins(16, 2, 16, 4)
            card.body.addLayout(top)
        line = QFrame()
        line.setProperty("role", "line")
        card.body.addWidget(line)
        card.body.addWidget(text, 1)
        why = row(reason)
        why.setContentsMargins(16, 0, 16, 0)
        card.body.addLayout(why)
        foot = row(tools[0], 1, *tools[1:], spacing=4)
        foot.setContentsMargins(16, 0, 8, 4)
        card.body.addLayout(foot)
        centre = QWidget()
        centre.setLayout(self._centre_column)
        self._centre_column.setContentsMargins(0, 8, 0, 8)
        self._centre_column.setSpacing(8)
        self._centre_column.addWidget(figures)
        self._centre_column.addWidget(card, 1)
        sized(centre, min_width=520)
        self.addWidget(centre)

    def set_plots(self, plots: LivePlots) -> None:
        """The right column; called last."""
        column = QVBoxLayout(self._right)
        column.setContentsMargins(0, 8, 8, 8)
        column.addWidget(plots)
        sized(self._right, min_width=232)
        self.addWidget(self._right)
        for number, stretch in enumerate((0, 3, 2)):
            self.setStretchFactor(number, stretch)
        self.setSizes([360, 560, 280])

    def fit(self, width: int, *, wanted: bool) -> None:
        """Below the width that all three columns need, the text goes before the plots."""
        shown = wanted and width >= scaled(PLOTS_FROM_WIDTH)
        self._right.setVisible(shown)
        self._centre_column.setContentsMargins(0, 8, 0 if shown else 8, 8)
