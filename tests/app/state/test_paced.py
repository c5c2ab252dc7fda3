"""Drawing takes a part of the machine: a timer that waits longer where drawing is dear."""

from __future__ import annotations

import time

import pytest
from pytestqt.qtbot import QtBot

from app.state import paced
from app.state.paced import PacedTimer


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paced.os, "cpu_count", lambda: 2)


def fire(timer: PacedTimer, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call that takes so long, by the test's own clock."""
    now = [10.0]
    monkeypatch.setattr(time, "thread_time", lambda: now[0])
    timer._fire()
    now[0] += seconds
    timer._drawn()


@pytest.mark.usefixtures("cores")
def test_dear_drawing_is_rarer(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    timer = PacedTimer(None, 30, 200, 0.05)
    assert timer.interval_ms == 30
    for _ in range(20):
        fire(timer, 0.010, monkeypatch)
    assert timer.interval_ms == pytest.approx(100, rel=0.25)  # 10 ms are a twentieth of two cores each 100 ms
    for _ in range(20):
        fire(timer, 1.0, monkeypatch)
    assert timer.interval_ms == 200
    for _ in range(40):
        fire(timer, 0.0001, monkeypatch)
    assert timer.interval_ms == pytest.approx(30, rel=0.25)


def test_requests_before_it_fires_are_one(qtbot: QtBot) -> None:
    timer = PacedTimer(None, 1, 10, 0.5, once=True)
    fired: list[int] = []
    timer.due.connect(lambda: fired.append(1))
    with qtbot.waitSignal(timer.due):
        timer.request()
        timer.request()
    assert fired == [1]
    with qtbot.waitSignal(timer.due):
        timer.request()
    timer.request()
    timer.stop()
    assert not timer._timer.isActive()
    assert fired == [1, 1]
