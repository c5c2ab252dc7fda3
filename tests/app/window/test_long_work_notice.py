"""The notice when long work ends: only of long work, only to who looks elsewhere, never with the focus."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget
from pytestqt.qtbot import QtBot

from app.application import window_icon
from app.engine.measurement import MeasurementJob
from app.state.context import AppContext
from app.widgets.log import LogKeeper
from app.widgets.long_work_notice import LONG_SECONDS, NOTICE, LongWorkNotice


class Clock:
    """Seconds that the test decides."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(qtbot: QtBot) -> QWidget:
    window = QWidget()
    window.setWindowIcon(window_icon())
    qtbot.addWidget(window)
    window.show()
    return window


@pytest.fixture
def told(window: QWidget, context: AppContext, clock: Clock) -> Iterator[list[str]]:
    notice = LongWorkNotice(window, context, clock)
    told: list[str] = []
    notice.given.connect(told.append)
    yield told
    notice._away.stop()


def work_for(
    seconds: float, context: AppContext, clock: Clock, qtbot: QtBot, *, fails: bool = False, stops: bool = False
) -> None:
    """A job in the engine thread, which takes as long by the clock."""
    go = threading.Event()

    def work(control: object) -> None:
        assert go.wait(30)
        control.cancel.raise_if_cancelled()  # type: ignore[attr-defined]
        if fails:
            raise RuntimeError("no such luck")

    job = MeasurementJob(context, "a benchmark")
    assert job.start(work)
    clock.now += seconds
    if stops:
        context.activity.stop()
    with qtbot.waitSignal(job.ended, timeout=30_000):
        go.set()


def look_elsewhere() -> None:
    """As when another program's window comes to the front: offscreen there is none."""
    QApplication.setActiveWindow(None)  # type: ignore[arg-type]
    assert QApplication.activeWindow() is None


@pytest.mark.filterwarnings("ignore:.*setActiveWindow:DeprecationWarning")
def test_long_work_is_told_to_who_looks_elsewhere(
    window: QWidget, told: list[str], context: AppContext, clock: Clock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerted: list[QWidget] = []
    monkeypatch.setattr(QApplication, "alert", lambda w, *_: alerted.append(w))
    look_elsewhere()
    work_for(LONG_SECONDS - 1, context, clock, qtbot)
    assert told == alerted == []
    work_for(90, context, clock, qtbot)
    work_for(90, context, clock, qtbot, fails=True)
    work_for(90, context, clock, qtbot, stops=True)
    assert told == [
        "A benchmark has ended after 1 min 30 s.",
        "A benchmark failed after 1 min 30 s.",
        "A benchmark was stopped after 1 min 30 s.",
    ]
    assert alerted == [window] * 3
    assert QApplication.activeWindow() is None
    context.preferences.set(NOTICE, False)
    work_for(90, context, clock, qtbot)
    assert len(told) == 3


def test_who_looks_is_not_told_but_the_log_is(
    window: QWidget, told: list[str], context: AppContext, clock: Clock, qtbot: QtBot
) -> None:
    keeper = LogKeeper()
    logger = logging.getLogger("app.notice")
    logger.addHandler(keeper)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow)
        work_for(90, context, clock, qtbot)
    finally:
        logger.removeHandler(keeper)
        logger.setLevel(before)
    assert told == []
    assert "A benchmark has ended after 1 min 30 s." in keeper.text()


@pytest.mark.filterwarnings("ignore:.*setActiveWindow:DeprecationWarning")
@pytest.mark.qt_log_ignore("systemTrayWindowChanged", extend=True)  # of a platform without a tray
def test_a_desktop_with_a_tray_shows_a_message(
    window: QWidget, told: list[str], context: AppContext, clock: Clock, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", lambda: True)
    monkeypatch.setattr(QSystemTrayIcon, "showMessage", lambda self, title, text, *_: shown.append(text))
    look_elsewhere()
    work_for(90, context, clock, qtbot)
    assert shown == told == ["A benchmark has ended after 1 min 30 s."]
    assert QApplication.activeWindow() is None
