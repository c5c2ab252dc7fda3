"""A model with Python code of its own runs only after its name was typed on a terminal, and decodes plainly."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pass_core.cli.main import main
from pass_core.models.errors import ModelUnsupported
from pass_core.models.loading import load_model
from pass_core.models.own_code import own_code_of
from tests import tiny

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path(__file__).with_name("{mark}").touch()
Path({mark_path!r}).touch()

class MineConfig(LlamaConfig):
    model_type = "mine-all-mine"

class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig
"""
Answer = Callable[[str], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny Llama under another name, with its classes in a file of the folder that leaves a mark when it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "my-model")
    (folder / "mine.py").write_text(CODE.format(mark="copy-ran", mark_path=str(tmp_path / "it-ran")))
    names = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}
    edit(folder / "config.json", model_type="mine-all-mine", architectures=["MineForCausalLM"], auto_map=names)
    return folder


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What a person types: standard input is a terminal that has it."""
    ends = pty.openpty()
    terminal = os.fdopen(ends[1], "r", closefd=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    yield lambda text: os.write(ends[0], f"{text}\n".encode()) and None
    terminal.close()
    for end in ends:
        os.close(end)


def generate(folder: Path, *more: str) -> int:
    words = ["--prompt", "Hello", "--max-new-tokens", "6", "--temperature", "0", "--dtype", "float32"]
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--model", str(folder), *words, *more])
    return int(ended.value.code or 0)


def test_nothing_runs_without_the_switch(folder: Path, tmp_path: Path, typed: Answer) -> None:
    typed("my-model")
    assert generate(folder) == 1
    with pytest.raises(ModelUnsupported, match=r"--trust-remote-code.*the window never does"):
        load_model(folder, device="cpu", dtype="float32")
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("answer", ["", "y", "yes", "my-mode", "MY-MODEL"])
def test_nothing_runs_after_another_word(
    answer: str, folder: Path, tmp_path: Path, typed: Answer, capfd: pytest.CaptureFixture[str]
) -> None:
    typed(answer)
    assert generate(folder, "--trust-remote-code") == 1
    said = " ".join(capfd.readouterr().err.split())
    assert "mine.py" in said
    assert "the name was not typed" in said
    assert not (tmp_path / "it-ran").exists()


def test_nothing_runs_where_nobody_can_type(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("my-model\n"))
    assert generate(folder, "--trust-remote-code") == 1
    assert "only on a terminal" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "it-ran").exists()


def test_the_typed_name_runs_it_plainly_and_rightly(
    folder: Path, tmp_path: Path, typed: Answer, capfd: pytest.CaptureFixture[str]
) -> None:
    typed("my-model")
    assert generate(folder, "--trust-remote-code", "--quiet") == 0
    assert (tmp_path / "it-ran").exists()
    text = capfd.readouterr().out
    same = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "llama")
    assert generate(same, "--strategy", "autoregressive", "--quiet") == 0
    assert capfd.readouterr().out == text
    model = load_model(folder, device="cpu", dtype="float32", own_code=True)
    assert not model.capabilities.supports_pass
    assert "code of its own" in model.capabilities.reason


def test_a_model_that_transformers_knows_runs_no_code_with_the_switch_either(
    folder: Path, tmp_path: Path, typed: Answer
) -> None:
    edit(folder / "config.json", model_type="llama")
    assert not own_code_of(folder)
    assert generate(folder, "--trust-remote-code", "--quiet") == 0
    load_model(folder, device="cpu", dtype="float32", own_code=True)
    assert not (tmp_path / "it-ran").exists()


def test_code_from_another_place_is_never_run(folder: Path, tmp_path: Path, typed: Answer) -> None:
    edit(folder / "config.json", auto_map={"AutoConfig": "some/where--mine.MineConfig"})
    typed("my-model")
    assert generate(folder, "--trust-remote-code") == 1
    with pytest.raises(ModelUnsupported, match="another place"):
        own_code_of(folder)
    assert not (tmp_path / "it-ran").exists()
