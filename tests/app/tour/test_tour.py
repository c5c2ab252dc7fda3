"""Where the tour's bubble stands."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QRect, QSize

from app.tour.tour import beside

ROOM = QRect(0, 0, 1000, 700)
BUBBLE = QSize(320, 160)


@pytest.mark.parametrize(
    "area",
    [
        QRect(80, 40, 340, 140),
        QRect(700, 40, 290, 600),
        QRect(80, 640, 340, 36),
        QRect(0, 0, 80, 700),
        QRect(20, 20, 960, 200),
        QRect(20, 480, 960, 200),
    ],
)
def test_it_stands_beside_its_place_inside_the_window(area: QRect) -> None:
    bubble = QRect(beside(area, BUBBLE, ROOM), BUBBLE)
    assert ROOM.contains(bubble)
    assert not bubble.intersects(area)


def test_it_stands_in_a_place_that_fills_the_window() -> None:
    assert QRect(0, 0, 1000, 700).contains(QRect(beside(ROOM, BUBBLE, ROOM), BUBBLE))
