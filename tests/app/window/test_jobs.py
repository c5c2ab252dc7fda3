"""Jobs: order of signals, awaiting, cancellation, errors."""

from __future__ import annotations

import asyncio
import threading

import pytest
from pytestqt.qtbot import QtBot

from app.engine.jobs import JobControl
from app.engine.tasks import spawn
from app.state.context import AppContext
from pass_core.progress import Cancelled, Progress


def test_everything_arrives_in_order_in_the_gui_thread(context: AppContext, qtbot: QtBot) -> None:
    gate = threading.Event()
    seen: list[tuple[str, object, str]] = []

    def work(control: JobControl) -> int:
        gate.wait(10)
        control.progress(Progress("counting", 1, 2))
        control.emit("half")
        control.progress(Progress("counting", 2, 2))
        return 42

    job = context.jobs.start("counting", work)
    here = threading.current_thread().name
    job.progress.connect(lambda p: seen.append(("progress", p.done, threading.current_thread().name)))
    job.received.connect(lambda e: seen.append(("event", e, threading.current_thread().name)))
    job.succeeded.connect(lambda v: seen.append(("succeeded", v, threading.current_thread().name)))
    with qtbot.waitSignal(job.done, timeout=10_000):
        gate.set()
    assert seen == [
        ("progress", 1, here),
        ("event", "half", here),
        ("progress", 2, here),
        ("succeeded", 42, here),
    ]
    assert context.jobs.running() == []


def test_errors_and_cancellation_are_told_apart(context: AppContext, qtbot: QtBot) -> None:
    def fail(control: JobControl) -> None:
        raise ValueError("no")

    def give_up(control: JobControl) -> None:
        control.cancel._event.wait(10)
        control.cancel.raise_if_cancelled()

    job = context.jobs.start("failing", fail)
    with qtbot.waitSignal(job.failed, timeout=10_000) as failed:
        pass
    assert isinstance(failed.args[0], ValueError)
    job = context.jobs.start("waiting", give_up, exclusive=True)
    with qtbot.waitSignal(job.cancelled, timeout=10_000):
        job.cancel()
    assert context.jobs.exclusive_title == ""


def test_a_coroutine_awaits_a_job(context: AppContext, loop: asyncio.AbstractEventLoop, qtbot: QtBot) -> None:
    results: list[object] = []

    async def use() -> None:
        results.append(await context.jobs.start("adding", lambda control: 1 + 1).result())
        job = context.jobs.start("waiting", lambda control: control.cancel._event.wait(10) and _raise())
        job.cancel()
        with pytest.raises(Cancelled):
            await job.result()
        results.append("cancelled")

    spawn(use(), results.append)
    qtbot.waitUntil(lambda: len(results) == 2, timeout=10_000)
    assert results == [2, "cancelled"]


def test_errors_of_coroutines_are_reported(loop: asyncio.AbstractEventLoop, qtbot: QtBot) -> None:
    errors: list[BaseException] = []

    async def fail() -> None:
        raise RuntimeError("lost")

    spawn(fail(), errors.append)
    qtbot.waitUntil(lambda: bool(errors), timeout=10_000)
    assert str(errors[0]) == "lost"


def _raise() -> None:
    raise Cancelled("cancelled by the user")
