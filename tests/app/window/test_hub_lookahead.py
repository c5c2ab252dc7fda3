"""Look-ahead files from a hub in the window: the picker asks for a name, the loader shows the download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PySide6.QtWidgets import QLineEdit
from pytestqt.qtbot import QtBot

from app.state.context import AppContext
from app.state.loader import DOWNLOADING, Loader, ModelChoice
from app.state.remembered import load_lookahead_choice, save_lookahead
from app.theme.apply import ThemeManager
from app.widgets.embedding_card import EmbeddingCard, lookahead_name
from pass_core.lookahead.embeddings import LookaheadEmbeddings, TrainingSummary
from pass_core.models.language_model import LanguageModel
from pass_core.progress import Progress
from tests.app.window.test_loader import load
from tests.core.models.hub_server import Hub, serving

TIMEOUT = 60_000
NAME = "hf:me/drafts"
FILE = "hf:me/drafts/mine.safetensors"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "hub", monkeypatch) as server:
        yield server


def offer(server: Hub, model: LanguageModel, folder: Path) -> None:
    """Put a file of the model onto the hub."""
    made = LookaheadEmbeddings(
        torch.zeros(3, model.hidden_size),
        base_model=model.name,
        base_fingerprint=model.fingerprint,
        training=TrainingSummary(steps=1, acceptance=(0.5, 0.25, 0.125)),
    )
    made.save(folder / "mine.safetensors")
    server.repos["me/drafts"] = {"mine.safetensors": (folder / "mine.safetensors").read_bytes()}


def test_a_file_from_the_hub_is_loaded_shown_and_remembered(
    loader: Loader,
    context: AppContext,
    tiny_folder: Path,
    tmp_path: Path,
    server: Hub,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(server, load(loader, context, tiny_folder, qtbot), tmp_path)
    titles: list[str] = []
    seen: list[Progress] = []
    loader.loading_changed.connect(titles.append)
    loader.progress.connect(seen.append)
    loader.lookahead_chosen.connect(lambda path: save_lookahead(context, path))
    with qtbot.waitSignal(loader.lookahead_chosen, timeout=TIMEOUT) as chosen:
        loader.load_lookahead(NAME)
    assert chosen.args == [NAME]
    assert context.lookahead is not None
    assert context.lookahead.origin == FILE
    assert lookahead_name(context.lookahead) == "mine"
    assert DOWNLOADING in titles
    assert "Downloading" in seen[0].stage
    assert context.activity.now is None
    choice = ModelChoice(str(tiny_folder), "cpu", "float32")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert load_lookahead_choice(context, choice) == NAME  # it is in the cache
    with qtbot.waitSignal(loader.lookahead_chosen, timeout=TIMEOUT):
        loader.load(choice, NAME)
    assert context.lookahead is not None
    assert context.lookahead.origin == FILE


def test_a_download_can_be_given_up_and_a_bad_name_is_said(
    loader: Loader, context: AppContext, tiny_folder: Path, tmp_path: Path, server: Hub, qtbot: QtBot
) -> None:
    model = load(loader, context, tiny_folder, qtbot)
    offer(server, model, tmp_path)
    before = context.lookahead
    server.hold = True
    loader.load_lookahead(NAME)
    qtbot.waitUntil(server.half_sent.is_set, timeout=TIMEOUT)
    with qtbot.waitSignal(loader.loading_changed, timeout=TIMEOUT, check_params_cb=lambda title: title == ""):
        loader.cancel()
    assert context.lookahead is before
    server.go.set()
    for name, words in (("hf:me", "Write hf:user/name"), ("hf:me/other", "no model me/other on the hub")):
        with qtbot.waitSignal(context.error_raised, timeout=TIMEOUT) as raised:
            loader.load_lookahead(name)
        assert words in raised.args[0].sentence
    qtbot.waitUntil(lambda: loader.loading == "", timeout=TIMEOUT)
    assert context.lookahead is before


@pytest.mark.parametrize("typed", ["me/drafts", " hf:me/drafts "])
def test_the_picker_asks_for_a_name(typed: str, theme: ThemeManager, qtbot: QtBot) -> None:
    card = EmbeddingCard(theme)
    qtbot.addWidget(card)
    card._fill_menu()
    action = next(a for a in card.picker.menu().actions() if "hub" in a.text())
    assert action.isEnabled()
    dialog = card.ask_hub_name()
    field = dialog.findChild(QLineEdit)
    assert field is not None
    field.setText(typed)
    with qtbot.waitSignal(card.file_requested) as requested:
        dialog.accept()
    assert requested.args == ["hf:me/drafts"]
