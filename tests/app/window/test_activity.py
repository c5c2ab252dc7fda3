"""One indicator: whatever runs is named in the status line, with how far it is, and Stop there ends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.benchmark.page import BenchmarkPage
from app.compare.page import ComparePage
from app.engine.jobs import JobControl
from app.losslessness.page import LosslessnessPage
from app.state.activity import Doing
from app.state.context import AppContext
from app.state.loader import Loader, ModelChoice
from app.training.page import TrainPage
from app.widgets.log import LogKeeper
from app.widgets.status import describe
from app.window import MainWindow
from pass_core.models.shipped import default_lookahead
from pass_core.progress import Progress
from pass_core.settings import StopConditions
from tests.app.window.states import STATES, begin


@pytest.fixture
def window(ready: AppContext, loader: Loader, qtbot: QtBot) -> MainWindow:
    """The window with every page that can begin something."""
    window = MainWindow(ready, loader, LogKeeper())
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.add_page("compare", "Compare", "ph.columns", ComparePage(ready))
    window.add_page("train", "Train", "ph.graduation-cap", TrainPage(ready))
    window.add_page("benchmark", "Benchmark", "ph.chart-line-up", BenchmarkPage(ready))
    window.add_page("losslessness", "Lossless", "ph.shield-check", LosslessnessPage(ready))
    assert ready.model is not None
    ready.set_lookahead(default_lookahead(ready.model))
    window.show()
    return window


@pytest.mark.parametrize("state", STATES)
def test_whatever_runs_is_named_and_can_be_stopped(
    state: str, window: MainWindow, ready: AppContext, qtbot: QtBot, tmp_path: Path
) -> None:
    title = begin(state, window, qtbot, tmp_path)
    assert ready.activity.now is not None
    assert ready.activity.now.title == title
    assert window.status.state.full_text().lower().startswith(title)
    assert window.status.stop.isVisible()
    assert window.status.bar.isVisible()
    with qtbot.waitSignal(ready.busy_changed, timeout=60_000, check_params_cb=lambda busy: not busy):
        window.status.stop.click()
    qtbot.waitUntil(lambda: ready.activity.now is None, timeout=60_000)
    assert not window.status.stop.isVisible()
    assert not ready.working


@pytest.mark.parametrize("state", STATES)
def test_the_window_closes_in_every_state(
    state: str, window: MainWindow, ready: AppContext, qtbot: QtBot, tmp_path: Path
) -> None:
    begin(state, window, qtbot, tmp_path)
    with qtbot.waitSignal(window.closed, timeout=60_000):
        window.close()
    assert not ready.working  # the clean way, not by the end of patience
    assert ready.shut_down(10)


def test_the_window_closes_while_a_model_loads(
    context: AppContext, loader: Loader, tiny_folder: Path, qtbot: QtBot
) -> None:
    window = MainWindow(context, loader, LogKeeper())
    qtbot.addWidget(window)
    loader.load(ModelChoice(str(tiny_folder), "cpu", "float32"))
    qtbot.waitUntil(lambda: context.jobs.exclusive is not None, timeout=10_000)
    assert context.activity.now is not None
    assert context.activity.now.title == "loading a model"
    with qtbot.waitSignal(window.closed, timeout=60_000):
        window.close()
    assert context.shut_down(30)


def test_nothing_begins_in_a_window_that_closes(
    window: MainWindow, ready: AppContext, qtbot: QtBot, tmp_path: Path
) -> None:
    """A comparison went on with its next pane once."""
    begin("comparison", window, qtbot, tmp_path)
    started: list[object] = []
    ready.session.run_started.connect(started.append)
    with qtbot.waitSignal(window.closed, timeout=60_000):
        window.close()
    assert started == []


def test_progress_of_a_job_reaches_the_line(window: MainWindow, ready: AppContext, qtbot: QtBot) -> None:
    def work(control: JobControl) -> None:
        control.progress(Progress("Counting", 3, 12, "sheep", 40.0))
        while not control.cancel.cancelled:
            pass

    job = ready.jobs.start("something long", work, exclusive=True)
    with qtbot.waitSignal(job.progress, timeout=10_000):
        pass
    assert window.status.state.full_text() == "Something long: counting, 3 of 12 sheep, 40 s left"
    assert window.status.bar.value() == 250
    with qtbot.waitSignal(job.done, timeout=10_000):
        window.status.stop.click()
        assert window.status.state.full_text() == "Something long: stopping…"


def test_what_is_not_known_is_not_said() -> None:
    assert describe(Doing("training")) == "Training…"
    assert describe(Doing("training", "paused")) == "Training: paused"


def test_figures_belong_to_the_page_in_front(window: MainWindow, ready: AppContext, qtbot: QtBot) -> None:
    window.generate.controls.ignore_eos.setChecked(True)
    window.generate.controls.length.set_value(8)
    window.generate.controls.changed.emit()
    with qtbot.waitSignal(ready.session.run_finished, timeout=60_000):
        window.generate.run()
    shown = window.status.speed.text()
    assert window.status.speed.isVisible()
    with qtbot.waitSignal(ready.session.run_finished, timeout=60_000):
        request = ready.request()
        from dataclasses import replace

        ready.session.start(replace(request, stop=StopConditions(3, ignore_eos=True)))
    assert window.status.speed.text() == shown  # another page's run
    window.show_page("compare")
    assert not window.status.speed.isVisible()
