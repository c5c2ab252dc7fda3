"""The tour in the real window: once, five places, to be skipped, and nothing blocked."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QRect, Qt
from pytestqt.qtbot import QtBot

from app.pages import register_pages
from app.state.context import AppContext, ErrorReport
from app.state.loader import Loader
from app.state.preferences import Preferences
from app.tour.entries import tour_once
from app.tour.tour import Tour, start_tour
from app.widgets.log import LogKeeper
from app.window import MainWindow


@pytest.fixture
def window(context: AppContext, loader: Loader, qtbot: QtBot) -> MainWindow:
    window = MainWindow(context, loader, LogKeeper())
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.show()
    return window


def press(tour: Tour, qtbot: QtBot) -> None:
    qtbot.mouseClick(tour.next, Qt.MouseButton.LeftButton)


@pytest.mark.parametrize("size", [(1280, 800), (1000, 700)])
def test_five_places_are_shown_inside_the_window(
    window: MainWindow, context: AppContext, qtbot: QtBot, size: tuple[int, int]
) -> None:
    window.resize(*size)
    tour = start_tour(window, context.theme)
    titles: list[str] = []
    for number in range(5):
        assert tour.number == number
        assert window.rect().contains(QRect(tour.pos(), tour.size()))
        titles.append(tour.title.text())
        if number < 4:
            press(tour, qtbot)
    assert len(set(titles)) == 5
    assert tour.next.text() == "Done"
    with qtbot.waitSignal(tour.destroyed):
        press(tour, qtbot)


def test_it_goes_back_follows_the_window_and_ends_with_escape(
    window: MainWindow, context: AppContext, qtbot: QtBot
) -> None:
    tour = start_tour(window, context.theme)
    press(tour, qtbot)
    qtbot.mouseClick(tour.back, Qt.MouseButton.LeftButton)
    assert tour.number == 0
    window.resize(950, 600)
    assert window.rect().contains(QRect(tour.pos(), tour.size()))
    with qtbot.waitSignal(tour.destroyed):
        qtbot.keyClick(tour, Qt.Key.Key_Escape)


def test_the_first_start_alone_begins_it(window: MainWindow, context: AppContext, qtbot: QtBot, tmp_path: Path) -> None:
    assert tour_once(window, context) is None  # nothing is remembered, so nobody looks
    context.preferences = Preferences(tmp_path / "settings.ini")
    tour = tour_once(window, context)
    assert tour is not None
    with qtbot.waitSignal(tour.destroyed):
        qtbot.mouseClick(tour.skip, Qt.MouseButton.LeftButton)
    context.preferences.save()
    context.preferences = Preferences(tmp_path / "settings.ini")
    assert tour_once(window, context) is None


def test_help_has_both(window: MainWindow, context: AppContext, qtbot: QtBot) -> None:
    register_pages(window, window.generate, context)
    texts = [a.text() for a in window.help_menu.actions()]
    assert texts[:2] == ["Tour of the window", "How PASS works, by your last run…"]
    window.help_menu.actions()[1].trigger()
    assert "Run something first" in window.banner.sentence.text()
    window.banner.show_error(ErrorReport(""))  # a remark's timer would outlive the test
    window.banner.hide()
    window.help_menu.actions()[0].trigger()
    tour = window.findChild(Tour)
    assert tour is not None
    with qtbot.waitSignal(tour.destroyed):
        tour.end()
    window.closed.emit()
