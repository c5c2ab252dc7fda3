"""The right side of the Train page: how the run goes, or where the loaded file's drafts fall short."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtWidgets import QVBoxLayout, QWidget

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
        sized(self.choice, width=360)
        run = QWidget()
        column = QVBoxLayout(run)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        for widget in running:
            column.addWidget(widget, 1 if widget is running[-1] else 0)
        self._shown = {TRAINING: run, SHORTFALL: report}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(row(self.choice, 1))
        for widget in self._shown.values():  # a stack would ask for what the higher one would like
            layout.addWidget(widget, 1)
        self.choice.chosen.connect(self.show_view)
        self.show_view(TRAINING)

    def show_view(self, view: str) -> None:
        """One of VIEWS."""
        self.choice.set_value(view)
        for name, widget in self._shown.items():
            widget.setVisible(name == view)
