"""One thread for all that torch does: order, short work between steps, and an end that nothing can hold up."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

from pytestqt.qtbot import QtBot

from app.engine.jobs import JobControl
from app.state.context import AppContext
from app.state.loader import Loader
from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.settings import StopConditions
from tests.app.window.test_session import LONG, setup

# The program itself, with a job that never looks at its cancel token, as inside a library's call.
HELD = """
import sys, threading
from app.application import Program, _run
from app.start.arguments import parse
from app.state.loader import Loader

Loader.load = lambda self, choice, lookahead=None: None
start = Program.start

def begin(self):
    start(self)
    holding = threading.Event()
    def hold(control):
        holding.set()
        threading.Event().wait()
    self.context.jobs.start("holding out", hold, exclusive=True)
    holding.wait()
    self.window.close()

Program.start = begin
_run(parse(["--exit-after-run"]))
"""


def test_a_run_and_every_job_share_one_thread(ready: AppContext, qtbot: QtBot) -> None:
    names: list[int] = []
    stop = StopConditions(4, ignore_eos=True)

    def live() -> object:
        names.append(threading.get_ident())
        return setup().settings

    with qtbot.waitSignal(ready.session.run_finished, timeout=30_000):
        ready.session.start(replace(ready.request(setup()), stop=stop, live=live))  # type: ignore[arg-type]
    for exclusive in (True, False):
        job = ready.jobs.start("asking", lambda control: names.append(threading.get_ident()), exclusive=exclusive)
        with qtbot.waitSignal(job.done, timeout=10_000):
            pass
    assert len(names) > 2
    assert len(set(names)) == 1
    assert names[0] != threading.get_ident()


def test_a_generation_lets_short_work_in_between_two_steps(ready: AppContext, qtbot: QtBot) -> None:
    with qtbot.waitSignal(ready.session.steps_arrived, timeout=30_000):
        run = ready.session.start(replace(ready.request(setup()), stop=LONG))
    job = ready.jobs.start("reading a file", lambda control: "read")
    with qtbot.waitSignal(job.succeeded, timeout=30_000):
        pass
    assert not run.done
    with qtbot.waitSignal(run.finished, timeout=30_000):
        ready.session.stop()


def test_a_job_lets_short_work_in_where_it_looks_whether_it_shall_end(context: AppContext, qtbot: QtBot) -> None:
    import torch

    def long(control: JobControl) -> None:
        with torch.inference_mode():
            while not control.cancel.cancelled:
                pass
        control.cancel.raise_if_cancelled()

    job = context.jobs.start("training", long, exclusive=True)
    short = context.jobs.start("reading a file", lambda control: torch.ones(2).is_inference())
    with qtbot.waitSignal(short.succeeded, timeout=10_000) as read:
        pass
    assert read.args == [False]
    assert job.running
    with qtbot.waitSignal(job.cancelled, timeout=10_000):
        job.cancel()


def test_a_model_is_freed_in_the_engine_thread(
    context: AppContext, loader: Loader, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    """Freeing gigabytes takes its time, and graphs and kernels belong to the thread that made them."""
    closed: list[int] = []

    class Watched(Engine):
        def close(self) -> None:  # the model is shared with other tests, so it stays
            closed.append(threading.get_ident())

    context.set_engine(Watched(tiny_model))
    asked = context.jobs.start("asking", lambda control: threading.get_ident())
    with qtbot.waitSignal(asked.succeeded, timeout=10_000) as engine_thread:
        pass
    loader.unload()
    assert context.model is None  # at once: nobody begins anything with it
    qtbot.waitUntil(lambda: bool(closed), timeout=10_000)
    qtbot.waitUntil(lambda: not context.busy_with, timeout=10_000)
    assert closed == engine_thread.args


def test_jobs_run_one_after_another(context: AppContext, qtbot: QtBot) -> None:
    order: list[str] = []
    gate = threading.Event()

    def first(control: JobControl) -> None:
        gate.wait(10)
        order.append("first")

    context.jobs.start("first", first)
    second = context.jobs.start("second", lambda control: order.append("second"))
    third = context.jobs.start("third", lambda control: order.append("third"))
    third.cancel()  # before its turn: it never begins
    with qtbot.waitSignals([second.succeeded, third.cancelled], timeout=10_000):
        gate.set()
    assert order == ["first", "second"]


def test_work_that_never_ends_does_not_hold_the_program() -> None:
    ended = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "did not end in time" in ended.stderr
