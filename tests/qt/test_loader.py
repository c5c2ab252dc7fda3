"""Loading through the window's loader: real folders, real files, plain errors."""

from __future__ import annotations

from pathlib import Path

import torch
from pytestqt.qtbot import QtBot

from app.context import AppContext, ErrorReport
from app.engine.loader import Loader, ModelChoice
from pass_core.lookahead import LookaheadEmbeddings, TrainingSummary
from pass_core.models.language_model import LanguageModel


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
