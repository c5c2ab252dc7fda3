"""The zoom takes the whole window, and nothing is cut off at 200 %."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QFrame,
    QLabel,
    QPushButton,
    QSpinBox,
    QTableWidget,
    QTabWidget,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.models.page import ModelsPage
from app.pages import register_pages
from app.state.context import AppContext
from app.state.loader import Loader
from app.theme.apply import ThemeManager
from app.theme.scale import STEPS, scaled_sheet, set_factor
from app.widgets.log import LogKeeper
from app.widgets.token_view import TokenView
from app.window import MainWindow
from tests.app.window.cut_off import cut_off, settle

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


def sizes(window: MainWindow) -> list[tuple[object, ...]]:
    parts = (QLabel, QAbstractButton, QFrame)  # scroll bars of texts come and go by themselves
    shown = [w for w in window.findChildren(QWidget) if w.isVisible() and isinstance(w, parts)]
    return [(type(w).__name__, w.font().pointSizeF(), w.width(), w.height()) for w in shown]


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


@pytest.mark.parametrize(
    ("zoom", "size"),
    [(1.0, (1000, 700)), (2.0, (1000, 700)), (2.0, (1280, 800))],
    ids=["small", "small window", "large"],
)
def test_nothing_is_cut_off(window: MainWindow, zoom: float, size: tuple[int, int], qtbot: QtBot) -> None:
    window._context.theme.set_zoom(zoom)
    window.resize(*size)
    assert window.devicePixelRatio() == float(os.environ.get("QT_SCALE_FACTOR", "1"))
    for key in PAGES:
        window.show_page(key)
        settle()
        if (models := window.findChild(ModelsPage)) is not None:
            qtbot.waitUntil(lambda: not models._looking.busy, timeout=60_000)
            settle()
        for tabs in window.page(key).findChildren(QTabWidget) or [None]:
            for number in range(tabs.count() if tabs is not None else 1):
                if tabs is not None:
                    tabs.setCurrentIndex(number)
                    settle()
                assert not (short := cut_off(window.page(key))), (key, number, short)
        assert (window.width(), window.height()) == size


def test_nothing_is_cut_off_on_a_screen_of_two_device_pixels() -> None:
    """The factor holds for a whole process, so this is one of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::test_nothing_is_cut_off[large]"],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"QT_SCALE_FACTOR": "2"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 passed" in done.stdout


def test_lengths_of_the_style_sheet_follow() -> None:
    try:
        set_factor(2.0)
        sheet = 'a { font-size: 8.5pt; padding: 5px 12px; border: 1px solid #112233; } b[x="9px"] { margin: -5px 0; }'
        assert "font-size: 17.00pt; padding: 10px 24px; border: 1px solid #112233" in scaled_sheet(sheet)
    finally:
        set_factor(1.0)


def test_what_is_cut_off_is_found(theme: ThemeManager, qtbot: QtBot) -> None:
    page = QWidget()
    qtbot.addWidget(page)
    page.resize(400, 300)
    label, choice, number, table = QLabel("some words", page), QComboBox(page), QSpinBox(page), QTableWidget(1, 1, page)
    choice.addItem("a long choice")
    number.setRange(0, 10**8)
    number.setValue(10**8)
    table.setHorizontalHeaderLabels(["a long head"])
    table.setColumnWidth(0, 20)
    for place, (widget, width) in enumerate(((label, 20), (choice, 40), (number, 30), (table, 200))):
        widget.setGeometry(10, 10 + 40 * place, width, 35)
    button = QPushButton("beyond", page)
    button.setGeometry(350, 200, 100, 40)
    page.show()
    found = cut_off(page)
    for word in ("some words", "choice", "number", "head", "beyond"):
        assert any(word in told for told in found), (word, found)
    label.resize(label.sizeHint())
    assert not any("some words" in told for told in cut_off(page))
