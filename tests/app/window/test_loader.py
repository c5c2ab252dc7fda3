"""Loading through the window's loader: real folders, real files, plain errors."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from pytestqt.qtbot import QtBot

from app.engine.jobs import JobControl
from app.state.context import AppContext, ErrorReport
from app.state.loader import BIGRAMS, Loader, ModelChoice
from pass_core.engine import Engine
from pass_core.files import cache_folder
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import LookaheadEmbeddings, TrainingSummary
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, Progress, ProgressCallback


def load(loader: Loader, context: AppContext, folder: Path, qtbot: QtBot) -> LanguageModel:
    with qtbot.waitSignal(context.lookahead_changed, timeout=60_000, check_params_cb=lambda value: value is not None):
        loader.load(ModelChoice(str(folder), "cpu", "float32"))
    assert context.model is not None
    return context.model


def test_a_folder_becomes_model_and_look_ahead(
    loader: Loader, context: AppContext, tiny_folder: Path, qtbot: QtBot
) -> None:
    model = load(loader, context, tiny_folder, qtbot)
    assert model.name
    assert context.lookahead is not None
    assert not context.lookahead.trained
    assert context.lookahead.count == 5
    assert context.busy_with == ""
    loader.unload()
    assert context.model is None
    assert context.lookahead is None


def test_a_trained_file_is_taken_and_a_wrong_one_refused(
    loader: Loader, context: AppContext, tiny_folder: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    model = load(loader, context, tiny_folder, qtbot)
    good = LookaheadEmbeddings(
        torch.zeros(3, model.hidden_size),
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        training=TrainingSummary(steps=1, acceptance=(0.5, 0.25, 0.125)),
    )
    good.save(tmp_path / "good.safetensors")
    with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
        loader.load_lookahead(str(tmp_path / "good.safetensors"))
    assert context.lookahead is not None
    assert context.lookahead.count == 3
    LookaheadEmbeddings(torch.zeros(3, model.hidden_size + 1)).save(tmp_path / "bad.safetensors")
    with qtbot.waitSignal(context.error_raised, timeout=30_000) as raised:
        loader.load_lookahead(str(tmp_path / "bad.safetensors"))
    report: ErrorReport = raised.args[0]
    assert f"hidden size {model.hidden_size + 1}" in report.sentence
    assert "Traceback" in report.details
    assert context.lookahead.count == 3  # what was loaded stays


def bare(model: LanguageModel, folder: Path) -> str:
    """The path of a look-ahead file without a sampler."""
    path = folder / "bare.safetensors"
    LookaheadEmbeddings(
        torch.zeros(3, model.hidden_size), base_model=model.name, base_fingerprint=model.fingerprint
    ).save(path)
    return str(path)


def test_the_models_bigrams_are_read_with_a_file_that_drafts_with_them(
    loader: Loader, context: AppContext, tiny_folder: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    stages: list[str] = []
    loader.progress.connect(lambda progress: stages.append(progress.stage))
    model = load(loader, context, tiny_folder, qtbot)
    assert context.engine is not None
    assert context.engine.bigrams is not None
    assert any("bigrams" in stage for stage in stages)
    assert loader.loading == ""
    stages.clear()
    with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
        loader.load_lookahead(bare(model, tmp_path))
    assert stages == []  # read once for a model


@pytest.fixture
def unread(loader: Loader, context: AppContext, tiny_folder: Path, qtbot: QtBot) -> Engine:
    """The engine of the tiny model, its bigrams not read."""
    load(loader, context, tiny_folder, qtbot)
    shutil.rmtree(cache_folder() / "bigrams")
    assert context.engine is not None
    context.set_engine(Engine(context.engine.model, runtime=context.engine.runtime))
    return context.engine


@contextmanager
def endless_reading() -> Iterator[threading.Event]:
    """Inside, bigrams are read until somebody cancels; the event tells that it has begun."""
    started, tick = threading.Event(), threading.Event()

    def endless(engine: Engine, progress: ProgressCallback, cancel: CancelToken) -> None:
        started.set()
        while not tick.wait(0.01):
            cancel.raise_if_cancelled()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "read_bigrams", endless)
        yield started


def test_reading_bigrams_can_be_cancelled_and_taken_up_again(
    loader: Loader, context: AppContext, unread: Engine, tmp_path: Path, qtbot: QtBot
) -> None:
    with endless_reading() as started:
        loader.load_lookahead(bare(unread.model, tmp_path))
        qtbot.waitUntil(started.is_set, timeout=30_000)
        assert loader.loading == context.busy_with == BIGRAMS
        with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
            loader.cancel()
    assert context.lookahead is not None
    assert context.lookahead.count == 3  # the file is in force without them
    assert (loader.loading, context.busy_with, unread.bigrams) == ("", "", None)
    with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
        loader.read_bigrams()
    assert unread.bigrams is not None


def test_a_second_choice_leaves_the_reading_that_is_going_on_to_be_cancelled(
    loader: Loader, context: AppContext, unread: Engine, tmp_path: Path, qtbot: QtBot
) -> None:
    with endless_reading() as started:
        loader.load_lookahead(bare(unread.model, tmp_path))
        qtbot.waitUntil(started.is_set, timeout=30_000)
        with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
            loader.load_lookahead("")
        assert context.busy_with == BIGRAMS
        with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
            loader.cancel()
    assert context.busy_with == ""


def test_bigrams_that_would_take_long_wait_until_they_are_asked_for(
    loader: Loader,
    context: AppContext,
    unread: Engine,
    tmp_path: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = Engine.read_bigrams

    def slow(engine: Engine, progress: ProgressCallback, cancel: CancelToken) -> Bigrams:
        progress(Progress("Reading", 1, 100, "tokens", seconds_left=31.0))
        cancel.raise_if_cancelled()
        return read(engine)

    monkeypatch.setattr(Engine, "read_bigrams", slow)
    monkeypatch.setattr("app.state.loader.SETTLING_SECONDS", 0.0)
    with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
        loader.load_lookahead(bare(unread.model, tmp_path))
    assert unread.bigrams is None
    with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
        loader.read_bigrams()
    assert unread.bigrams is not None


def test_a_file_chosen_while_the_model_is_busy_waits_for_no_bigrams(
    loader: Loader, context: AppContext, unread: Engine, tmp_path: Path, qtbot: QtBot
) -> None:
    finish = threading.Event()

    def long(control: JobControl) -> None:
        while not finish.wait(0.01):
            control.cancel.raise_if_cancelled()

    job = context.jobs.start("something long", long, exclusive=True)
    with qtbot.waitSignal(context.lookahead_changed, timeout=30_000):
        loader.load_lookahead(bare(unread.model, tmp_path))
    assert context.lookahead is not None
    assert context.lookahead.count == 3
    with qtbot.waitSignal(context.error_raised, timeout=10_000) as raised:
        loader.read_bigrams()
    assert "busy with something long" in raised.args[0].sentence
    assert unread.bigrams is None
    with qtbot.waitSignal(job.done, timeout=30_000):
        finish.set()


def test_a_folder_that_is_no_model_is_a_plain_sentence(
    loader: Loader, context: AppContext, tmp_path: Path, qtbot: QtBot
) -> None:
    with (
        qtbot.waitSignal(loader.failed, timeout=60_000) as failed,
        qtbot.waitSignal(context.error_raised, timeout=60_000) as raised,
    ):
        loader.load(ModelChoice(str(tmp_path), "cpu", "float32"))
    assert failed.args[0] == raised.args[0].sentence
    assert "Traceback" not in raised.args[0].sentence
    assert loader.loading == ""


def test_a_new_choice_replaces_the_load_in_progress(
    loader: Loader, context: AppContext, tiny_folder: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    errors: list[object] = []
    context.error_raised.connect(errors.append)
    loader.load(ModelChoice(str(tmp_path / "nowhere"), "cpu", "float32"))
    loader.load(ModelChoice(str(tmp_path / "nowhere else"), "cpu", "float32"))
    model = load(loader, context, tiny_folder, qtbot)
    assert loader.choice.source == str(tiny_folder)
    assert context.model is model
    assert errors == []
