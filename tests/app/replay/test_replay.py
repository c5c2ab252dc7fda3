"""The replay shows exactly the recorded run, token by token, call by call, and against its true time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytestqt.qtbot import QtBot

from app.replay.controller import ReplayController
from app.replay.timeline import Granularity, Timeline
from tests.core.records import strategies

STEPS = strategies.example_steps()  # 2, 1 and 2 tokens; 0.125 + 0.5, 0.25 and 0.25 seconds


def test_times_and_steps_of_tokens() -> None:
    t = Timeline.of(STEPS)
    assert t.times == (0.625, 0.625, 0.875, 1.125, 1.125)
    assert [t.step_of(i) for i in range(5)] == [0, 0, 1, 2, 2]
    assert [t.token(i).index for i in range(5)] == [0, 1, 2, 3, 4]
    assert [t.shown_at(s) for s in (0.0, 0.62, 0.625, 0.9, 99)] == [0, 0, 2, 3, 5]
    assert t.duration == 1.125


def test_a_step_without_tokens_is_passed_over() -> None:
    t = Timeline.of((*STEPS, replace(STEPS[2], index=3, tokens=())))
    assert t.tokens == 5
    assert t.moved(5, 1, Granularity.CALL) == 5
    assert t.moved(5, -1, Granularity.CALL) == 3
    assert Timeline.of(()).moved(0, 1, Granularity.CALL) == 0


@pytest.mark.parametrize("cut", range(6))
def test_parts_put_together_are_the_run(cut: int) -> None:
    t = Timeline.of((*STEPS[:-1], replace(STEPS[-1], stop_overlap=2)))
    parts = t.part(0, cut) + t.part(cut, 5)
    assert [tok for p in parts for tok in p.tokens] == [tok for s in STEPS for tok in s.tokens]
    assert [p.stop_overlap for p in parts][-1] == 2
    assert sum(p.stop_overlap for p in parts) == 2
    assert t.part(cut, cut) == []


def test_moves_by_call_go_from_end_to_end() -> None:
    t = Timeline.of(STEPS)
    places = [0]
    while places[-1] < t.tokens:
        places.append(t.moved(places[-1], 1, Granularity.CALL))
    assert places == [0, 2, 3, 5]
    assert [t.moved(p, -1, Granularity.CALL) for p in (5, 4, 3, 1, 0)] == [3, 3, 2, 0, 0]


def test_playing_follows_the_recorded_time(qtbot: QtBot) -> None:
    c = ReplayController()
    c.granularity = Granularity.CALL
    c.load(STEPS, at=0)
    seen: list[int] = []
    c.moved.connect(seen.append)
    for _ in range(5):
        c.advance(0.25)
    assert seen == [2, 3, 5]
    c.load(STEPS, at=0)
    c.granularity = Granularity.TOKEN
    seen.clear()
    for _ in range(12):
        c.advance(0.1)
    assert seen == [1, 2, 3, 4, 5]


def test_play_runs_to_the_end_and_stops_by_itself(qtbot: QtBot) -> None:
    c = ReplayController()
    c.load(STEPS)
    c.speed = 20.0
    with qtbot.waitSignal(c.playing_changed, timeout=10_000, check_params_cb=lambda on: not on):
        c.play()  # begins anew, as the end is shown
        assert c.shown == 0
    assert c.shown == 5


def test_stepping_pauses_and_seeking_stays_in_range(qtbot: QtBot) -> None:
    c = ReplayController()
    c.load(STEPS, at=0)
    c.play()
    c.step(1)
    assert not c.playing
    assert c.shown == 1
    c.seek(99)
    assert c.shown == 5
    c.step(1)
    assert c.shown == 5
    c.seek(-1)
    assert c.shown == 0


def test_a_growing_run_is_followed_only_at_its_end(qtbot: QtBot) -> None:
    c = ReplayController()
    c.load(STEPS[:1])
    c.extend(STEPS[:2])
    assert c.shown == 3
    c.seek(1)
    c.extend(STEPS)
    assert (c.shown, c.timeline.tokens) == (1, 5)
