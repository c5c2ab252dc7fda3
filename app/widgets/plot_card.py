"""A plot in a card: its title above it on the left, and what explains it on the right."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtWidgets import QSizePolicy, QWidget

from app.theme.scale import sized
from app.widgets.basic import Card, label, row

USUAL_MARGINS = (10, 8, 10, 6)


class PlotCard(Card):
    """Grows with its room.

    Args:
        least: the plot's least height, in pixels of the usual size.
        beside: stands right of the title.
    """

    def __init__(
        self,
        title: str,
        plot: QWidget,
        least: int,
        *,
        tip: str = "",
        beside: Iterable[QWidget] = (),
        margins: tuple[int, int, int, int] = USUAL_MARGINS,
        spacing: int = 2,
    ) -> None:
        super().__init__()
        self.body.setContentsMargins(*margins)
        self.body.setSpacing(spacing)
        heading = label(title, "hint")
        heading.setProperty("role", "plotTitle")
        heading.setToolTip(tip)
        self.body.addLayout(row(heading, 1, *beside))
        plot.setAccessibleName(title)
        sized(plot, min_height=least)
        plot.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.body.addWidget(plot, 1)
