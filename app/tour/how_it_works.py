"""“How PASS works”: one step of the user's own last run, drawn and told."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QFrame, QGridLayout, QScrollArea, QVBoxLayout, QWidget

from app.inspector.tree_view import TreeView
from app.theme.apply import ThemeManager
from app.theme.scale import scaled
from app.tour.one_step import OneStep, telling_step
from app.widgets.basic import Card, label
from pass_core.decoding.events import StepEvent

NOTHING = (
    "Your last run drafted nothing, so there is no step to show. Choose PASS with k of 1 or more, switch the automatic "
    "choice off, and run again."
)

WIDTH = 760
TREE_HEIGHT = 320
SCROLL_BAR = 16


class HowItWorks(QDialog):
    """Opened with `open()`; Escape closes it.

    Attributes:
        shown: the step, None where the run drafted nothing.
        tree: its drafts.
    """

    def __init__(self, steps: Sequence[StepEvent], prompt: str, theme: ThemeManager, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("How PASS works")
        self.shown = telling_step(steps, prompt)
        self.tree = TreeView(theme)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 12)
        layout.setSpacing(12)
        if self.shown is None:
            layout.addWidget(label("How PASS works", "heading"))
            layout.addWidget(label(NOTHING, wrap=True))
            layout.addStretch(1)
        else:
            self._tell(layout, self.shown)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout.addWidget(buttons)
        width = scaled(WIDTH)
        self.resize(width, max(layout.totalHeightForWidth(width), layout.totalSizeHint().height()))

    def _tell(self, layout: QVBoxLayout, one: OneStep) -> None:
        layout.addWidget(label(f"How PASS works: step {one.number + 1} of your own run", "heading"))
        layout.addWidget(
            label(
                "One frozen model guesses several tokens ahead and checks its guesses in the same forward pass.",
                "hint",
                wrap=True,
            )
        )
        card = Card()
        card.body.setContentsMargins(1, 1, 1, 1)
        scroll = QScrollArea()
        scroll.setWidget(self.tree)
        scroll.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        card.body.addWidget(scroll)
        layout.addWidget(card)
        self.tree.show_step(one.step, one.root)
        scroll.setFixedHeight(min(self.tree.height() + SCROLL_BAR, scaled(TREE_HEIGHT)))
        grid = QGridLayout()
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(8)
        grid.setColumnStretch(1, 1)
        told = (("1  Rows", one.rows), ("2  Drafts", one.drafts), ("3  Walk", one.walk), ("4  Saved", one.saved))
        for number, (title, sentence) in enumerate(told):
            grid.addWidget(label(title, "heading"), number, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(label(sentence, wrap=True), number, 1)
        layout.addLayout(grid)
        layout.addStretch(1)
