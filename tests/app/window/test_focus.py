"""Keyboard: every tab stop of every page shows that it has the focus, and their order follows the eye."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.chat.exchange_view import Composer
from app.pages import register_pages
from app.state.context import AppContext
from app.state.loader import Loader
from app.widgets.log import LogKeeper
from app.window import MainWindow

# With the fewest tab stops that each has while a model is loaded and nothing has run.
PAGES = {
    "generate": 25,
    "chat": 4,
    "models": 2,
    "compare": 12,
    "inspect": 2,
    "history": 4,
    "train": 10,
    "benchmark": 10,
    "losslessness": 3,
}
SLACK = 6  # pixels by which neighbours of one line may differ


@pytest.fixture
def window(ready: AppContext, loader: Loader, qtbot: QtBot) -> Iterator[MainWindow]:
    window = MainWindow(ready, loader, LogKeeper())
    register_pages(window, window.generate, ready)
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.resize(1280, 800)
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    yield window
    for page in window._pages.values():
        page.shut_down()
    window.closed.emit()


def stops(page: QWidget) -> list[QWidget]:
    """The page's tab stops, in the order in which Tab visits them."""
    found: list[QWidget] = []
    widget = page.nextInFocusChain()
    while widget is not page:
        if (
            page.isAncestorOf(widget)
            and widget.isVisible()
            and widget.isEnabled()
            and widget.focusPolicy() & Qt.FocusPolicy.TabFocus
            and widget.focusProxy() is None
        ):
            found.append(widget)
        widget = widget.nextInFocusChain()
    return found


def place(page: QWidget, widget: QWidget) -> QRect:
    return QRect(widget.mapTo(page, QPoint(0, 0)), widget.size())


def name(widget: QWidget) -> str:
    text = getattr(widget, "text", lambda: "")
    told = widget.accessibleName() or (text() if callable(text) else "") or widget.toolTip()
    return f"{type(widget).__name__} “{str(told)[:40]}”"


def without_a_sign(page: QWidget) -> list[str]:
    """Stops that look with the focus as they do without it."""
    silent: list[str] = []
    for widget in stops(page):
        page.setFocus(Qt.FocusReason.OtherFocusReason)
        QApplication.processEvents()
        without = widget.grab().toImage()
        widget.setFocus(Qt.FocusReason.TabFocusReason)
        QApplication.processEvents()
        assert QApplication.focusWidget() is widget, name(widget)
        if widget.grab().toImage() == without:
            silent.append(name(widget))
    return silent


def jumps(page: QWidget) -> list[str]:
    """Tab goes right or down; up only into a column further right, left only to a line further down."""
    found: list[str] = []
    for a, b in itertools.pairwise(stops(page)):
        before, after = place(page, a), place(page, b)
        up = after.bottom() < before.top() + SLACK
        same_line = not up and after.top() < before.bottom() - SLACK
        right = after.left() > before.right() - SLACK
        if (up and not right) or (same_line and after.right() < before.left() + SLACK):
            found.append(f"{name(a)} {before.getRect()} → {name(b)} {after.getRect()}")
    return found


def test_no_ring_shows_before_a_key_is_pressed(window: MainWindow, qtbot: QtBot) -> None:
    """Nor after the mouse has gone from page to page; Tab then begins at the top of the page."""
    assert QApplication.focusWidget() is window.generate
    for key, button in window._buttons.items():
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        QApplication.processEvents()
        focus = QApplication.focusWidget()
        assert focus is window.page(key) or (key, type(focus)) == ("chat", Composer), (key, name(focus))
    window.show_page("compare")
    qtbot.keyClick(window, Qt.Key.Key_Tab)
    assert QApplication.focusWidget() is stops(window.page("compare"))[0]
    rail = window._buttons["compare"]
    rail.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.keyClick(window._buttons["train"], Qt.Key.Key_Space)
    assert window._current is window.page("train")
    assert QApplication.focusWidget() is rail, "who walks the rail by keys stays there"


def test_every_stop_shows_focus_and_the_order_follows_the_eye(window: MainWindow) -> None:
    """One window for all pages: building it takes longer than looking."""
    for key, least in PAGES.items():
        window.show_page(key)
        page = window.page(key)
        QApplication.processEvents()
        assert len(stops(page)) >= least, key
        assert not (silent := without_a_sign(page)), (key, silent)
        assert not (jumped := jumps(page)), (key, jumped)
