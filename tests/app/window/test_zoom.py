"""The zoom takes the whole window, and nothing is cut off at 200 %."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QFrame, QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.models.page import ModelsPage
from app.pages import register_pages
from app.state.context import AppContext
from app.state.loader import Loader
from app.theme.scale import STEPS, scaled_sheet, set_factor
from app.widgets.basic import ElidedLabel
from app.widgets.log import LogKeeper
from app.widgets.token_view import TokenView
from app.window import MainWindow

PAGES = ("generate", "chat", "models", "compare", "inspect", "history", "train", "benchmark", "losslessness")


@pytest.fixture
def window(ready: AppContext, loader: Loader, qtbot: QtBot) -> Iterator[MainWindow]:
    window = MainWindow(ready, loader, LogKeeper())
    register_pages(window, window.generate, ready)
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.resize(1000, 700)
    window.show()
    yield window
    for page in window._pages.values():
        page.shut_down()
    ready.theme.set_zoom(1.0)
    window.closed.emit()


def settle() -> None:
    for _ in range(3):  # a layout that answers to another one
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        QApplication.processEvents()


def sizes(window: MainWindow) -> list[tuple[object, ...]]:
    parts = (QLabel, QAbstractButton, QFrame)  # scroll bars of texts come and go by themselves
    shown = [w for w in window.findChildren(QWidget) if w.isVisible() and isinstance(w, parts)]
    return [(type(w).__name__, w.font().pointSizeF(), w.width(), w.height()) for w in shown]


def cut_off(page: QWidget) -> list[str]:
    """Visible words that have less room than they need."""
    found: list[str] = []
    for widget in page.findChildren(QWidget):
        if not widget.isVisible() or not isinstance(widget, QLabel | QAbstractButton):
            continue
        if isinstance(widget, ElidedLabel) or not widget.text():
            continue
        need = widget.minimumSizeHint()
        if isinstance(widget, QLabel) and widget.wordWrap():
            short = widget.height() < widget.heightForWidth(widget.width())
        else:
            short = widget.width() < need.width() or widget.height() < need.height() - 2
        if short:
            found.append(f"{widget.text()[:40]!r}: {widget.size().toTuple()} of {need.toTuple()}")
    return found


def test_everything_grows_and_comes_back(window: MainWindow) -> None:
    window.status.show_memory()  # else it comes in the middle, after a second
    settle()
    before = sizes(window)
    window.activateWindow()
    for _ in range(3):
        QTest.keyClick(window, Qt.Key.Key_Plus, Qt.KeyboardModifier.ControlModifier)
    zoom = window._context.theme.zoom
    assert zoom == STEPS[STEPS.index(1.0) + 3]
    assert window._context.preferences.get("view/zoom", 1.0) == zoom
    settle()
    rail = window._buttons["generate"]
    assert rail.height() == round(56 * zoom)
    assert rail.iconSize().height() == round(22 * zoom)
    assert window.generate.text.font().pointSizeF() == pytest.approx(11.5 * zoom)
    assert window.generate.prompt.editor.font().pointSizeF() == pytest.approx(9.5 * zoom)
    assert window.font().pointSizeF() == pytest.approx(10 * zoom)
    QTest.keyClick(window, Qt.Key.Key_Minus, Qt.KeyboardModifier.ControlModifier)
    assert window._context.theme.zoom < zoom
    window.findChildren(TokenView)[0].zoom(3)
    QTest.keyClick(window, Qt.Key.Key_0, Qt.KeyboardModifier.ControlModifier)
    settle()
    after = sizes(window)
    assert [s for s in after if s not in before] == [s for s in before if s not in after] == []


@pytest.mark.parametrize("zoom", [1.0, 2.0])
def test_nothing_is_cut_off(window: MainWindow, zoom: float, qtbot: QtBot) -> None:
    window._context.theme.set_zoom(zoom)
    for key in PAGES:
        window.show_page(key)
        settle()
        if (models := window.findChild(ModelsPage)) is not None:
            qtbot.waitUntil(lambda: not models._looking.busy, timeout=60_000)
            settle()
        assert not (short := cut_off(window.page(key))), (key, short)
        assert (window.width(), window.height()) == (1000, 700)


def test_lengths_of_the_style_sheet_follow() -> None:
    try:
        set_factor(2.0)
        sheet = 'a { font-size: 8.5pt; padding: 5px 12px; border: 1px solid #112233; } b[x="9px"] { margin: -5px 0; }'
        assert "font-size: 17.00pt; padding: 10px 24px; border: 1px solid #112233" in scaled_sheet(sheet)
    finally:
        set_factor(1.0)
