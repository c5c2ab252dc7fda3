"""The row above the panes: what both share, how often and in which order they run, Compare and Stop."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QSpinBox, QWidget

from app.compare.ready import READY
from app.compare.runner import RoundOrder
from app.engine.measurement import Measurement
from app.state.context import AppContext
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import ElidedLabel, guard_wheel, label, row
from app.widgets.choice import Choice
from app.widgets.run_bar import RunBar

MAX_ROUNDS = 20
USUAL_ROUNDS = 5  # so many that a least and a most say something


class CompareHead(QWidget):
    """Attributes:
    shared, stage: what both panes run with, and what is being done.
    ready, order, rounds: choices.
    bar: Compare, or Stop in its place.
    """

    def __init__(self, context: AppContext, measurement: Measurement, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        theme = context.theme
        self.shared = ElidedLabel("", "hint")
        self.stage = label("", "hint")
        self.ready = Choice(theme)
        self.ready.addItem("Ready comparisons")
        for title, _, _ in READY:
            self.ready.addItem(title)
        self.order = Choice(theme)
        for order in RoundOrder:
            self.order.addItem(order.value)
        self.order.setCurrentText(RoundOrder.ALTERNATE.value)
        self.order.setToolTip("Which pane runs first")
        self.rounds = QSpinBox()
        self.rounds.setRange(1, MAX_ROUNDS)
        self.rounds.valueChanged.connect(lambda n: self.rounds.setSuffix(" round" if n == 1 else " rounds"))
        self.rounds.setValue(USUAL_ROUNDS)
        self.rounds.setAlignment(Qt.AlignmentFlag.AlignRight)
        sized(self.rounds, width=88)
        self.rounds.setToolTip("How often both panes run; figures are medians over the rounds")
        guard_wheel(self.rounds)
        self.bar = RunBar(context, measurement, "Compare", strip=False, tip="Ctrl+Shift+Enter")
        self.compare_button, self.stop_button = self.bar.run, self.bar.stop
        set_icon(self.compare_button, "ph.columns-fill", theme, "on_accent", "on_accent")
        choices = (self.ready, self.order, self.rounds)
        layout = row(self.shared, self.stage, *choices, self.bar)
        layout.setStretch(0, 1)
        self.setLayout(layout)
