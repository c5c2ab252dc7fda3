"""The preferences: each choice applies and is remembered, folders move, and everything goes back to its default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.history.service import FILE_NAME, HistoryService
from app.pages import register_pages
from app.preferences.dialog import PreferencesDialog
from app.state.context import AppContext
from app.state.folders import Place, folder_of
from app.state.loader import Loader
from app.state.preferences import Preferences
from app.theme.apply import ThemeMode
from app.training.page import TrainPage
from app.widgets.log import LogKeeper
from app.widgets.long_work_notice import NOTICE
from app.window import MainWindow
from tests.app.window.cut_off import cut_off, settle


@pytest.fixture
def window(
    ready: AppContext, loader: Loader, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MainWindow]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ready.preferences = Preferences(tmp_path / "settings.ini")
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
    window.set_theme(ThemeMode.LIGHT)
    window.set_zoom(1.0)
    window.closed.emit()


def opened(window: MainWindow, qtbot: QtBot) -> PreferencesDialog:
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    QTest.keyClick(window, Qt.Key.Key_Comma, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: window.findChild(PreferencesDialog) is not None)
    dialog = window.findChild(PreferencesDialog)
    assert dialog is not None
    return dialog


def test_choices_apply_are_remembered_and_go_back(window: MainWindow, ready: AppContext, qtbot: QtBot) -> None:
    dialog = opened(window, qtbot)
    preferences = ready.preferences
    dialog.theme._buttons["dark"].click()
    assert ready.theme.current.dark
    dialog.zoom.setCurrentIndex(dialog.zoom.findText("125 %"))
    dialog.zoom.activated.emit(dialog.zoom.currentIndex())
    assert ready.theme.zoom == 1.25
    dialog.threads.setValue(1)
    assert "restart" in dialog.threads_hint.text()
    dialog.notice.click()
    told = (preferences.get("theme", ""), preferences.get("view/zoom", 0.0), preferences.get("machine/threads", 0))
    assert told == ("dark", 1.25, 1)
    assert preferences.get(NOTICE, True) is False
    dialog.reset.click()
    assert ready.theme.mode is ThemeMode.SYSTEM
    told = (preferences.get("theme", ""), preferences.get("view/zoom", 0.0), preferences.get("machine/threads", 9))
    assert told == ("system", 1.0, 0)
    assert dialog.notice.isChecked()
    assert preferences.get(NOTICE, False) is True
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()


def test_folders_are_shown_and_changed(window: MainWindow, ready: AppContext, qtbot: QtBot, tmp_path: Path) -> None:
    dialog = opened(window, qtbot)
    rows, history = dialog.folders, window.findChild(HistoryService)
    train = window.page("train")
    assert history is not None
    assert isinstance(train, TrainPage)
    assert set(rows.paths) == set(Place)
    old, new = tmp_path / "data" / "pass-playground", tmp_path / "elsewhere"
    assert rows.paths[Place.HISTORY].full_text() == str(old)
    qtbot.waitUntil((old / FILE_NAME).exists)
    rows.take(Place.HISTORY, new)
    qtbot.waitUntil(lambda: (new / FILE_NAME).exists() and not (old / FILE_NAME).exists())
    qtbot.waitUntil(lambda: rows.paths[Place.HISTORY].full_text() == str(new))
    assert folder_of(Place.HISTORY, ready.preferences) == new
    rows.take(Place.TRAINED, tmp_path / "mine")
    train.form.set_model_name("a model")
    assert train.form.out().parent == tmp_path / "mine"
    dialog.reset.click()
    qtbot.waitUntil(lambda: (old / FILE_NAME).exists() and not (new / FILE_NAME).exists())
    qtbot.waitUntil(lambda: rows.paths[Place.HISTORY].full_text() == str(old))
    assert train.form.out().parent == old / "trained"


def test_nothing_is_cut_off_and_threads_of_the_environment_are_said(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for zoom in (1.0, 2.0):
        window.set_zoom(zoom)
        dialog = opened(window, qtbot)
        assert not dialog.threads.isEnabled()
        assert "OMP_NUM_THREADS is set to 1" in dialog.threads_hint.text()
        settle()
        assert not (short := cut_off(dialog)), (zoom, short)
        dialog.reject()
        qtbot.waitUntil(lambda: window.findChild(PreferencesDialog) is None)
