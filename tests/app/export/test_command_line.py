"""A run as a command: the real command line writes the same run again."""

from __future__ import annotations

import itertools
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from app.export.command_line import command_of_record, command_of_setup, quoted
from app.state.setup import GenerationSetup
from pass_core.cli.main import main
from pass_core.models.language_model import LanguageModel
from pass_core.models.shipped import untrained_lookahead
from pass_core.records.runs import RunRecord, loads_record
from pass_core.settings import DecodingSettings, LookaheadPart, SamplingSettings, StopConditions, Strategy, Verification
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tiny.tiny_llama(tokenizer=True, context=512), tmp_path_factory.mktemp("my models") / "tiny it's")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[RunRecord, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out = capsys.readouterr().out
    assert not ended.value.code
    return loads_record(out), json.loads(out)["text_hash"]


@pytest.mark.parametrize(
    "options",
    [
        ("--strategy", "autoregressive", "--temperature", "0"),
        ("--strategy", "pass", "-k", "3", "--no-auto", "--row-budget", "9", "--prompt-lookup", "--top-k", "0"),
        ("--strategy", "pass-two-call", "--verification", "rejection", "--disable-part", "bigrams", "--chat"),
        ("--strategy", "transformers-prompt-lookup", "-k", "4", "--temperature", "0.9", "--seed", "3"),
        ("--strategy", "pass", "--top-p", "0.7", "--min-p", "0.05", "--temperature", "1.3", "--top-k", "0"),
        ("--strategy", "pass", "--stop", "zz  'q'", "--stop", "\n\n§", "--seed", "12345678901234567890"),
    ],
)
def test_the_command_writes_the_same_run_again(
    capsys: pytest.CaptureFixture[str], folder: Path, options: tuple[str, ...]
) -> None:
    prompt = "It's “here”: $HOME\n`x` \\ and\ttabs"
    fixed = ("--model", str(folder), "--device", "cpu", "--dtype", "float32", "--max-new-tokens", "12", "--ignore-eos")
    first, hash = run(capsys, "generate", *fixed, "--prompt", prompt, *options, "--json")
    command = shlex.split(command_of_record(first))
    assert command[:3] == ["python", "-m", "pass_core"]
    again, again_hash = run(capsys, *command[3:], "--json")
    assert again.text == first.text
    assert again_hash == hash
    for name in ("prompt", "typed", "seed", "settings", "stop", "model", "lookahead"):
        assert getattr(again, name) == getattr(first, name), name


def test_the_present_choices_name_model_file_and_every_setting(tiny_model: LanguageModel) -> None:
    setup = GenerationSetup(
        prompt_text="Once",
        seed=-1,
        settings=DecodingSettings(
            Strategy.TWO_CALL,
            k=2,
            sampling=SamplingSettings(0.7, 40),
            verification=Verification.REJECTION,
            disabled_parts=frozenset({LookaheadPart.DEEP}),
        ),
        stop=StopConditions(77, ("x",), True),
    )
    file = replace(untrained_lookahead(tiny_model), origin="/files/my own.safetensors", training=None)
    words = shlex.split(command_of_setup(setup, tiny_model, file))
    given = dict(itertools.pairwise(words))
    expected = {
        "--model": tiny_model.source,
        "--dtype": "float32",
        "--strategy": "pass-two-call",
        "-k": "2",
        "--temperature": "0.7",
        "--top-k": "40",
        "--verification": "rejection",
        "--seed": str(2**64 - 1),
        "--max-new-tokens": "77",
        "--stop": "x",
        "--disable-part": "deep",
        "--embeddings": "/files/my own.safetensors" if file.trained else "untrained",
        "--prompt": "Once",
    }
    assert {name: given.get(name) for name in expected} == expected
    assert "--ignore-eos" in words
    assert "--chat" not in words


def test_powershell_doubles_quotes() -> None:
    assert quoted(["a", "it's", "b c"], windows=True) == "a 'it''s' 'b c'"
