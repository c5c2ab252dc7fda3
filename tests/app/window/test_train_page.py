"""The Train page on a tiny model, with the real trainer."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PySide6.QtCore import QMimeData, QPoint, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from pytestqt.qtbot import QtBot

from app.engine.session import RunRefused
from app.state.context import AppContext
from app.state.loader import Loader
from app.state.setup import GenerationSetup
from app.training.controller import TrainingState
from app.training.page import CHOICES, TrainPage
from app.training.plan import TrainingPlan, check_writable
from app.training.unfinished import UNFINISHED
from app.training.views import SHORTFALL
from app.widgets.log import LogKeeper
from app.window import MainWindow
from pass_core.lookahead.embeddings import TrainingSummary
from pass_core.lookahead.format import load_lookahead
from pass_core.settings import StopConditions
from pass_core.training.checkpoint import load_checkpoint
from pass_core.training.config import TrainingConfig, TrainingError, TrainingKind
from pass_core.training.events import Ending, Estimate, Evaluated, Finished, StateHeadStep, StepDone
from pass_core.training.state_config import StateHeadConfig
from tests.core.decoding.engine import ALL_PARTS, random_lookahead
from tests.core.training.state_runs import shaken_head

TIMEOUT = 60_000
SMALL = TrainingConfig(
    kind=TrainingKind.EMBEDDINGS,
    lookahead=3,
    steps=3,
    batch=2,
    rows=12,
    length=32,
    warmup=1,
    evaluate_every=1,
    evaluate_contexts=12,
    checkpoint_every=1,
)
MANY = 100_000


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder of short documents that differ."""
    folder = tmp_path / "text"
    folder.mkdir()
    for n in range(12):
        words = " ".join(f"{(n * 37 + i * i) % 997} birds" for i in range(40))
        (folder / f"{n}.txt").write_text(f"Page {n}. {words}", encoding="utf-8")
    return folder


@pytest.fixture
def page(ready: AppContext, qtbot: QtBot, text: Path, tmp_path: Path) -> Iterator[TrainPage]:
    page = TrainPage(ready)
    qtbot.addWidget(page)
    page.form.take(TrainingPlan(SMALL, str(text), 12, tmp_path / "made.safetensors"))
    page.resize(1200, 740)
    page.show()
    yield page
    page.shut_down()
    qtbot.waitUntil(lambda: not ready.jobs.running(), timeout=TIMEOUT)


def run_to_the_end(page: TrainPage, qtbot: QtBot) -> Finished:
    with qtbot.waitSignal(page.controller.ended, timeout=TIMEOUT) as ended:
        page.start()
    return ended.args[0]


def a_step(page: TrainPage, qtbot: QtBot) -> AbstractContextManager[object]:
    """Waits for the next step to be reported."""
    return qtbot.waitSignal(
        page.controller.reported, timeout=TIMEOUT, check_params_cb=lambda e: isinstance(e, StepDone)
    )


def begin_a_long_run(page: TrainPage, qtbot: QtBot) -> None:
    page.form.budget.set_value("steps")
    page.form.steps.setValue(MANY)
    with a_step(page, qtbot):
        page.start()


def test_a_run_reports_and_leaves_a_file_that_loads(page: TrainPage, ready: AppContext, qtbot: QtBot) -> None:
    events: list[object] = []
    page.controller.reported.connect(events.append)
    finished = run_to_the_end(page, qtbot)
    assert finished.ending is Ending.COMPLETED
    assert [e.step for e in events if isinstance(e, StepDone)] == [1, 2, 3]
    assert [e.step for e in events if isinstance(e, Evaluated)] == [0, 3]
    assert page.plots.steps == [1, 2, 3]
    assert page.plots.untrained is page.plots.acceptances[0]
    assert finished.path is not None
    made = load_lookahead(finished.path)
    assert made.count == 3
    assert made.trained
    assert made.training is not None
    assert "--look-ahead 3" in made.training.command
    assert page.status.try_now.isVisible()
    assert ready.busy_with == ""
    assert ready.preferences.get(UNFINISHED, {"x": 1}) == {}
    wanted: list[str] = []
    ready.load_lookahead_requested.connect(wanted.append)
    ready.page_requested.connect(wanted.append)
    page.status.try_now.click()
    assert wanted == [str(finished.path), "generate"]
    with qtbot.waitSignal(page.compare_requested) as compared:
        page.status.compare_clicked.emit("untrained")
    assert compared.args == ["untrained", str(finished.path)]


def test_pause_holds_it_and_go_on_moves_it(page: TrainPage, qtbot: QtBot) -> None:
    begin_a_long_run(page, qtbot)
    page.status.pause.click()
    assert page.controller.state is TrainingState.PAUSED
    assert page.status.badge.text() == "paused"
    with a_step(page, qtbot):
        page.status.pause.click()
    assert page.controller.state is TrainingState.RUNNING


def test_cancel_keeps_a_checkpoint_from_which_it_goes_on(
    page: TrainPage, ready: AppContext, qtbot: QtBot, tmp_path: Path
) -> None:
    begin_a_long_run(page, qtbot)
    page.status.pause.click()
    with qtbot.waitSignal(page.controller.ended, timeout=TIMEOUT) as ended:
        page.takes.bar.stop.click()
    finished = ended.args[0]
    assert finished.ending is Ending.CANCELLED
    assert load_checkpoint(finished.checkpoint).step == finished.step
    assert str(finished.checkpoint) in page.status.text.text()
    assert page.takes.resume_button.isVisible()
    with a_step(page, qtbot):
        page.takes.resume_button.click()
    assert page.plots.steps == list(range(1, finished.step + 2))
    assert not page.takes.resume_button.isVisible()


def test_a_run_stopped_in_its_state_head_goes_on_there(page: TrainPage, qtbot: QtBot) -> None:
    page.form.state_head.setChecked(True)

    def of_head(step: int) -> AbstractContextManager[object]:
        return qtbot.waitSignal(
            page.controller.reported,
            timeout=TIMEOUT,
            check_params_cb=lambda e: isinstance(e, StateHeadStep) and e.step >= step,
        )

    with of_head(1):
        page.start()
    with qtbot.waitSignal(page.controller.ended, timeout=TIMEOUT) as ended:
        page.takes.bar.stop.click()
    finished = ended.args[0]
    assert finished.ending is Ending.CANCELLED
    done = load_checkpoint(finished.checkpoint, StateHeadConfig).step
    events: list[object] = []
    page.controller.reported.connect(events.append)
    with of_head(done + 1):
        page.takes.resume_button.click()
    assert not [e for e in events if isinstance(e, StepDone)]
    assert next(e.step for e in events if isinstance(e, StateHeadStep)) == done + 1


def test_an_interrupted_run_is_found_again_by_another_window(page: TrainPage, ready: AppContext, qtbot: QtBot) -> None:
    begin_a_long_run(page, qtbot)
    with qtbot.waitSignal(page.controller.ended, timeout=TIMEOUT):
        page.controller.cancel()
    other = TrainPage(ready)
    qtbot.addWidget(other)
    plan = other.unfinished()
    assert plan is not None
    assert plan.config.steps == MANY
    with a_step(other, qtbot):
        other.resume()
    assert other.plots.untrained is not None
    with qtbot.waitSignal(other.controller.ended, timeout=TIMEOUT):
        other.shut_down()
    plan.checkpoint.unlink()
    assert other.unfinished() is None


def test_generation_is_refused_while_it_trains(page: TrainPage, ready: AppContext, qtbot: QtBot) -> None:
    ready.setup.set(GenerationSetup("The sea", stop=StopConditions(4)))
    begin_a_long_run(page, qtbot)
    with pytest.raises(RunRefused, match="training"):
        ready.session.start(ready.request())
    assert ready.busy_with == "training"


def test_training_is_refused_while_text_is_generated(page: TrainPage, ready: AppContext, qtbot: QtBot) -> None:
    ready.session.start(ready.request(GenerationSetup("The sea", stop=StopConditions(200, ignore_eos=True))))
    with qtbot.waitSignal(ready.error_raised, timeout=TIMEOUT) as raised:
        page.start()
    assert "busy with a generation" in raised.args[0].sentence
    assert page.controller.state is TrainingState.IDLE
    with qtbot.waitSignal(ready.session.run_finished, timeout=TIMEOUT):
        ready.session.stop()


def test_looking_at_the_page_leaves_the_model_free(page: TrainPage, ready: AppContext, qtbot: QtBot) -> None:
    started: list[object] = []
    ready.jobs.started.connect(started.append)
    page.page_shown()
    page.form.steps.setValue(4)
    own = page.findChildren(QTimer, options=Qt.FindChildOption.FindDirectChildrenOnly)
    assert not [timer for timer in own if timer.isActive()]  # nothing is going to begin, either
    assert started == []
    assert "not measured yet" in page.takes.estimate.text()
    assert page.takes.time_button.isEnabled()


def test_the_estimate_is_made_when_it_is_asked_for(page: TrainPage, ready: AppContext, qtbot: QtBot) -> None:
    with qtbot.waitSignal(page.controller.estimated, timeout=TIMEOUT) as told:
        page.takes.time_button.click()
        assert ready.activity.now is not None
        assert ready.activity.now.title == "measuring a training step"
    estimate: Estimate = told.args[1]
    assert estimate.seconds_per_step > 0
    assert page.takes.estimate.text().startswith("About ")
    assert "3 steps" in page.takes.estimate.text()
    assert "memory" in page.takes.memory.text()
    page.form.steps.setValue(4)
    assert "4 steps" in page.takes.estimate.text()
    page.page_hidden()


def test_a_measurement_gives_way_to_a_start(page: TrainPage, qtbot: QtBot) -> None:
    page.measure()
    assert page.controller.measuring
    assert run_to_the_end(page, qtbot).ending is Ending.COMPLETED


def test_too_little_text_is_said_in_plain_words(
    page: TrainPage, ready: AppContext, qtbot: QtBot, tmp_path: Path
) -> None:
    lonely = tmp_path / "lonely.txt"
    lonely.write_text("Too short.", encoding="utf-8")
    page.form.set_data(str(lonely))
    with qtbot.waitSignal(ready.error_raised, timeout=TIMEOUT) as raised, qtbot.waitSignal(page.controller.ended):
        page.start()
    assert "held-out" in raised.args[0].sentence
    assert "--data" not in raised.args[0].sentence
    assert page.controller.state is TrainingState.IDLE
    qtbot.waitUntil(lambda: not page.takes.start_button.isEnabled(), timeout=TIMEOUT)  # that text cannot be tried again
    page.form.set_data("")
    assert page.takes.start_button.isEnabled()


@pytest.mark.filterwarnings("ignore:.*QDragEnterEvent.*:DeprecationWarning")  # there is no other constructor
def test_text_can_be_dropped(page: TrainPage, text: Path, tmp_path: Path) -> None:
    page.form.set_data("")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    for path, taken in ((model, False), (tmp_path / "file.gguf", False), (text, True), (text / "1.txt", True)):
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        what = (Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
        enter = QDragEnterEvent(QPoint(5, 5), *what)
        page.dragEnterEvent(enter)
        assert enter.isAccepted() is taken
        page.dropEvent(QDropEvent(QPoint(5, 5).toPointF(), *what))
        assert (page.form.data() == str(path)) is taken


def test_one_long_file_is_cut_and_trained_on(page: TrainPage, qtbot: QtBot, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("\n".join(f"Line {n}: {n * n % 977} gulls, {n * 31 % 877} boats." for n in range(300)), "utf-8")
    with qtbot.waitSignal(page._surveyor.succeeded, timeout=TIMEOUT):
        page.form.set_data(str(book))
    assert "Cut into" in page.form.fit.text()
    assert "held out" in page.form.fit.text()
    finished = run_to_the_end(page, qtbot)
    assert finished.path is not None
    training = load_lookahead(finished.path).training
    assert training is not None
    folder = Path(shlex.split(training.command)[shlex.split(training.command).index("--data") + 1])
    assert len(list(folder.glob("*.txt"))) > 5  # the recipe's own text: the command line makes the same file


def test_a_text_that_does_not_fit_is_refused_when_it_is_chosen(page: TrainPage, qtbot: QtBot, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Too short.", encoding="utf-8")
    with qtbot.waitSignal(page._surveyor.succeeded, timeout=TIMEOUT):
        page.form.set_data(str(short))
    assert "10 characters" in page.form.fit.text()
    assert not page.takes.start_button.isEnabled()
    page.form.set_data("")
    assert page.form.fit.text() == ""
    assert page.takes.start_button.isEnabled()


def test_the_choices_are_remembered(page: TrainPage, ready: AppContext, qtbot: QtBot, text: Path) -> None:
    page.form.kind.set_value("adapter")
    page.form.count.set_value(7)
    page.form.minutes.setValue(12.5)
    page.form.sampler.setChecked(True)
    page.form.set_data(str(text))
    chosen = page.form.choices()
    assert ready.preferences.get(CHOICES, {}) == chosen
    other = TrainPage(ready)
    qtbot.addWidget(other)
    assert other.form.choices() == chosen
    ready.preferences.set(CHOICES, {"kind": 3, "lookahead": "many", "path": None, "steps": 40})
    third = TrainPage(ready)
    qtbot.addWidget(third)
    assert third.form.steps.value() == 40
    assert third.form.kind.value() == "embeddings"


def test_a_file_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(TrainingError, match="Choose another place"):
        check_writable(tmp_path / "blocked" / "out.safetensors")


def test_plans_survive_writing_and_reading(tmp_path: Path) -> None:
    plan = TrainingPlan(replace(SMALL, minutes=2.5), "self", 40, tmp_path / "a.safetensors")
    assert TrainingPlan.from_json(plan.to_json()) == plan
    assert TrainingPlan.from_json("{}") is None
    assert plan.held_out == 10


def test_closing_the_window_ends_the_run_with_a_checkpoint(
    ready: AppContext, loader: Loader, qtbot: QtBot, text: Path, tmp_path: Path
) -> None:
    window = MainWindow(ready, loader, LogKeeper())
    qtbot.addWidget(window)
    page = TrainPage(ready)
    window.add_page("train", "Train", "ph.graduation-cap", page)
    page.form.take(TrainingPlan(replace(SMALL, checkpoint_every=MANY), str(text), 12, tmp_path / "made.safetensors"))
    begin_a_long_run(page, qtbot)
    with qtbot.waitSignal(window.closed, timeout=TIMEOUT):
        window.close()
    assert load_checkpoint(tmp_path / "made.checkpoint").step >= 1
    assert not ready.jobs.running()


def test_the_drafts_of_the_loaded_file_are_measured_and_drawn(
    page: TrainPage, ready: AppContext, qtbot: QtBot, private_cache: Path
) -> None:
    model = ready.engine.model if ready.engine is not None else None
    assert model is not None
    lookahead = replace(random_lookahead(model, 3, ALL_PARTS), state=shaken_head(model).weights(torch.float32))
    ready.set_lookahead(lookahead)
    panel = page.report
    assert panel.report is None
    page.views.choice.chosen.emit(SHORTFALL)
    assert panel.isVisible()
    assert not panel.plots.isVisible()
    with qtbot.waitSignal(panel.job.ended, timeout=TIMEOUT):
        panel.bar.run.click()
    report = panel.report
    assert report is not None
    assert report.texts > 0
    assert panel.plots.isVisible()
    plots = panel.plots
    drawn = {line.name: line.points[1] for line in plots.match._lines}
    assert drawn["look-ahead rows"] == list(report.match)
    assert drawn["ideal guess, blind between"] == list(report.floor.blind)
    assert report.state is not None
    assert drawn["state head"] == list(report.state.match)
    drawn = {line.name: line.points for line in plots.rows._lines}
    assert drawn["look-ahead rows"] == ([1, 2, 3], [report.by_rows[n] for n in (1, 2, 3)])
    assert drawn["state head"] == ([0], [report.by_rows[0]])
    assert len(plots.recall._lines) == 8
    assert f"{report.by_rows[3]:.2f} drafts accepted a chain with 3 look-ahead rows" in panel.text.text()
    ready.set_lookahead(replace(lookahead, training=TrainingSummary(steps=3)))
    assert panel.report is None  # another file
    ready.set_lookahead(lookahead)
    assert panel.report == report  # kept for this one
    assert page.start_action.isEnabled()
