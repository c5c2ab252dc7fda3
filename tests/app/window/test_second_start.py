"""A second start finds the first window, and one that was killed does not stand in the way."""

from __future__ import annotations

import uuid

from pytestqt.qtbot import QtBot

from app.start.first_window import FirstWindow, raise_first, server_name


def test_a_second_start_asks_the_first_window_to_the_front(qtbot: QtBot) -> None:
    name = f"pass-test-{uuid.uuid4().hex}"
    assert not raise_first(name)
    first = FirstWindow(name)
    with qtbot.waitSignal(first.asked, timeout=10_000):
        assert raise_first(name)
    replaced = FirstWindow(name)  # as after a kill: the name is taken over
    with qtbot.waitSignal(replaced.asked, timeout=10_000):
        assert raise_first(name)
    first.close()
    replaced.close()
    assert not raise_first(name)
    assert server_name() == server_name()
