"""The engine thread: real short runs on a tiny model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import QTimer
from pytestqt.qtbot import QtBot

from app.engine.jobs import JobControl, JobRefused
from app.engine.run import Run
from app.engine.session import EngineState, RunRefused
from app.engine.worker import Ended
from app.state.context import AppContext
from app.state.setup import GenerationSetup
from pass_core.decoding.events import StepEvent, StopReason
from pass_core.engine import Engine
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy
from tests.app.window.events import step, token

LONG = StopConditions(max_new_tokens=200, ignore_eos=True)


def setup(n: int = 24, **changes: object) -> GenerationSetup:
    settings = replace(DecodingSettings(strategy=Strategy.TWO_CALL, k=3), **changes)
    return GenerationSetup("The cat", settings=settings, seed=7, stop=StopConditions(n, ignore_eos=True))


def test_a_run_delivers_what_decode_yields(ready: AppContext, qtbot: QtBot) -> None:
    arrived: list[StepEvent] = []
    ready.session.steps_arrived.connect(lambda run, steps: arrived.extend(steps))
    with qtbot.waitSignal(ready.session.run_finished, timeout=30_000) as done:
        run = ready.session.start(ready.request(setup()))
    assert done.args == [run]
    assert arrived == run.events
    assert run.error is None
    assert run.done
    assert ready.session.state is EngineState.IDLE
    assert ready.model is not None
    alone = list(ready.engine.decode("The cat", run.request.settings, stop=run.request.stop, seed=7))
    assert run.text == "".join(t.text for s in alone for t in s.tokens)
    assert run.summary.new_tokens == 24


def test_figures_are_told_before_the_end_and_seldom(ready: AppContext, qtbot: QtBot) -> None:
    told: list[tuple[int, bool]] = []
    ready.session.run_progressed.connect(lambda run: told.append((run.totals.new_tokens, run.done)))
    drains: list[int] = []
    ready.session.steps_arrived.connect(lambda run, steps: drains.append(len(steps)))
    with qtbot.waitSignal(ready.session.run_finished, timeout=30_000):
        ready.session.start(ready.request(setup()))
    assert told[-1] == (24, False)
    assert len(told) <= len(drains) + 1


def test_stop_ends_within_a_call(ready: AppContext, qtbot: QtBot) -> None:
    session = ready.session
    session.steps_arrived.connect(lambda *_: session.stop())
    with qtbot.waitSignal(session.run_finished, timeout=30_000):
        run = session.start(replace(ready.request(setup()), stop=LONG))
        assert session.running
    assert run.events[-1].stop_reason is StopReason.CANCELLED
    assert run.summary.new_tokens < 200


def test_settings_reach_the_worker_between_steps(ready: AppContext, qtbot: QtBot) -> None:
    session = ready.session
    hot = DecodingSettings(strategy=Strategy.AUTOREGRESSIVE, k=1, sampling=SamplingSettings(0.0, 0))

    def change(run: Run, steps: list[StepEvent]) -> None:
        session.set_settings(hot)

    session.steps_arrived.connect(change)
    with qtbot.waitSignal(session.run_finished, timeout=30_000):
        run = session.start(replace(ready.request(setup()), stop=LONG))
    first, last = run.events[0].settings, run.events[-2].settings
    assert first.strategy is Strategy.TWO_CALL
    assert (last.strategy, last.sampling) == (hot.strategy, hot.sampling)


def test_stale_events_are_dropped(ready: AppContext, qtbot: QtBot) -> None:
    session = ready.session
    seen: list[int] = []
    session.steps_arrived.connect(lambda run, steps: seen.append(run.id))
    with qtbot.waitSignal(session.run_finished, timeout=30_000):
        run = session.start(ready.request(setup(4)))
    before = len(run.events)
    session._queue.append((run.id, step(99, [token(0, "late")])))
    session.drain()
    with qtbot.waitSignal(session.run_finished, timeout=30_000):
        second = session.start(ready.request(setup(4)))
        session._queue.appendleft((run.id, Ended(None)))
        session._queue.appendleft((run.id, step(99, [token(0, "late")])))
    assert len(run.events) == before
    assert all(e.index < 99 for e in second.events)
    assert second.summary.new_tokens == 4


def test_refusals_are_plain(context: AppContext, tiny_model: object, qtbot: QtBot) -> None:
    with pytest.raises(RunRefused, match="No model is loaded"):
        context.session.start(context.request(setup()))
    context.set_engine(Engine(tiny_model))
    with qtbot.waitSignal(context.session.run_finished, timeout=30_000):
        context.session.start(context.request(setup()))
        with pytest.raises(RunRefused, match="running already"):
            context.session.start(context.request(setup()))
        with pytest.raises(JobRefused, match="busy with a generation"):
            context.jobs.start("training", lambda control: None, exclusive=True)


def test_a_job_that_holds_the_model_refuses_runs(ready: AppContext, qtbot: QtBot) -> None:
    def work(control: JobControl) -> str:
        while not control.cancel.cancelled:
            control.cancel._event.wait(1)
        control.cancel.raise_if_cancelled()
        return ""

    job = ready.jobs.start("training", work, exclusive=True)
    assert ready.busy_with == "training"
    with pytest.raises(RunRefused, match="busy with training"):
        ready.session.start(ready.request(setup()))
    with qtbot.waitSignal(job.cancelled, timeout=10_000):
        job.cancel()
    assert ready.busy_with == ""


def test_an_error_in_the_engine_ends_the_run(ready: AppContext, qtbot: QtBot) -> None:
    with qtbot.waitSignal(ready.session.run_finished, timeout=30_000):
        run = ready.session.start(replace(ready.request(setup()), prompt="x" * 10_000))
    assert run.error is not None or run.events[-1].stop_reason is StopReason.CONTEXT_FULL
    with qtbot.waitSignal(ready.session.run_finished, timeout=30_000):
        again = ready.session.start(ready.request(setup(4)))
    assert again.error is None


def test_shut_down_during_a_run_leaves_no_thread(ready: AppContext, qtbot: QtBot) -> None:
    with qtbot.waitSignal(ready.session.steps_arrived, timeout=30_000):
        ready.session.start(replace(ready.request(setup()), stop=LONG))
    assert ready.shut_down(10)
    assert not ready.session.running


def test_the_gui_thread_is_never_blocked_by_start(ready: AppContext, qtbot: QtBot) -> None:
    order: list[str] = []
    QTimer.singleShot(0, lambda: order.append("tick"))
    ready.session.run_finished.connect(lambda run: order.append("finished"))
    with qtbot.waitSignal(ready.session.run_finished, timeout=30_000):
        ready.session.start(ready.request(setup()))
        order.append("returned")
    assert order == ["returned", "tick", "finished"]
