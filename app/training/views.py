"""The right side of the Train page: how the run goes, or where the loaded file's drafts fall short."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from app.theme.scale import sized
from app.widgets.basic import Segmented, row

TRAINING, SHORTFALL = "training", "shortfall"
VIEWS = (
    (TRAINING, "Training", "How the run goes"),
    (SHORTFALL, "Where drafts fall short", "The loaded file's drafts beside the best possible guesses"),
)


class TrainingViews(QWidget):
    """Attributes:
    choice: which of the two is shown.
    """

    def __init__(self, running: Sequence[QWidget], report: QWidget, parent: QWidget | None = None) -> None:
        """Args:
        running: the widgets of a run, from the top; the last one takes the room.
        """
        super().__init__(parent)
        self.choice = Segmented(VIEWS)
        sized(self.choice, max_width=360)
        run = QWidget()
        column = QVBoxLayout(run)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for widget in running:
            column.addWidget(widget, 1 if widget is running[-1] else 0)
        self._stack = QStackedWidget()
        self._stack.addWidget(run)
        self._stack.addWidget(report)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(row(self.choice, 1))
        layout.addWidget(self._stack, 1)
        self.choice.chosen.connect(self.show_view)

    def show_view(self, view: str) -> None:
        """One of VIEWS."""
        self.choice.set_value(view)
        self._stack.setCurrentIndex([name for name, _, _ in VIEWS].index(view))
