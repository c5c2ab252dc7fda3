"""Folders that must not be loaded: the window says why, soon, and stays usable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.state.context import AppContext, ErrorReport
from app.state.loader import Loader, ModelChoice
from tests import tiny

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({mark!r}).touch()

class MineConfig(LlamaConfig):
    model_type = "mine-all-mine"

class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "my-model")


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refused(loader: Loader, context: AppContext, folder: Path, qtbot: QtBot) -> str:
    with qtbot.waitSignal(context.error_raised, timeout=60_000) as raised:
        loader.load(ModelChoice(str(folder), "cpu", "float32"))
    qtbot.waitUntil(lambda: context.busy_with == "", timeout=10_000)
    assert context.model is None
    report: ErrorReport = raised.args[0]
    return report.sentence


def test_code_of_a_folder_never_runs_and_the_command_that_would_is_named(
    loader: Loader, context: AppContext, folder: Path, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    mark = tmp_path / "it-ran"
    (folder / "mine.py").write_text(CODE.format(mark=str(mark)))
    names = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}
    edit(folder, model_type="mine-all-mine", architectures=["MineForCausalLM"], auto_map=names)
    sentence = refused(loader, context, folder, qtbot)
    assert "--trust-remote-code" in sentence
    assert "the window never does" in sentence
    assert not mark.exists()


def test_a_million_layers_are_refused_soon_and_the_next_folder_loads(
    loader: Loader, context: AppContext, folder: Path, tiny_folder: Path, qtbot: QtBot
) -> None:
    """As `config_million_layers.json` among the failing inputs: it loaded for ever."""
    edit(folder, num_hidden_layers=1_000_000)
    sentence = refused(loader, context, folder, qtbot)
    assert "1000000" in sentence.replace(",", "").replace(" ", "")
    with qtbot.waitSignal(context.lookahead_changed, timeout=60_000, check_params_cb=lambda value: value is not None):
        loader.load(ModelChoice(str(tiny_folder), "cpu", "float32"))
    assert context.model is not None
