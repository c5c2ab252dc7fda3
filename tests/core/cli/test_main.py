"""The command line as a user meets it: help, errors, streams, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pass_core.cli.console import amount, clock
from pass_core.cli.main import main
from pass_core.models.language_model import LanguageModel
from pass_core.records.runs import loads_record
from pass_core.runtime.native.build import reason_missing
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model on disk."""
    return tiny.save(tiny.tiny_llama(tokenizer=True, context=512), tmp_path_factory.mktemp("cli") / "tiny")


class Outcome:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process."""

    def command(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return command


def generate(run: Any, folder: Path, *more: object) -> Outcome:
    fixed = ("--model", folder, "--device", "cpu", "--dtype", "float32", "--prompt", "Once upon a time", "--ignore-eos")
    return run("generate", *fixed, *more)


def test_help_names_every_command_without_loading_torch() -> None:
    code = (
        "import sys\nfrom pass_core.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'PySide6'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    for name in ("generate", "models", "fetch", "train", "bench", "verify", "humaneval"):
        assert f" {name} " in out


def test_a_pipe_gets_the_text_alone(run: Any, folder: Path, tiny_model: LanguageModel) -> None:
    result = generate(run, folder, "--max-new-tokens", 12, "--temperature", 0, "--quiet")
    import torch

    ids = torch.tensor([tiny_model.tokenizer("Once upon a time")["input_ids"]])
    reference = tiny_model.model.generate(
        ids, max_new_tokens=12, do_sample=False, eos_token_id=None, attention_mask=torch.ones_like(ids)
    )[0, ids.shape[1] :]
    expected = bytes(t for t in reference.tolist() if t < 256).decode(errors="replace")
    assert (result.code, result.err) == (0, "")
    assert result.out == expected + "\n"


def test_every_strategy_prints_the_same_text_for_a_seed(run: Any, folder: Path) -> None:
    strategies = ("autoregressive", "pass-two-call", "pass")
    texts = {generate(run, folder, "--strategy", s, "--seed", 7, "--max-new-tokens", 30, "-q").out for s in strategies}
    assert len(texts) == 1
    assert texts != {generate(run, folder, "--seed", 8, "--max-new-tokens", 30, "-q").out}


def test_the_hash_of_the_text_is_the_same_whatever_the_strategy_and_shown(run: Any, folder: Path) -> None:
    options = ("--seed", 7, "--max-new-tokens", 30)
    written = [
        json.loads(generate(run, folder, *options, "--strategy", s, "--json").out)
        for s in ("autoregressive", "pass-two-call", "pass")
    ]
    hashes = {data["text_hash"] for data in written}
    assert len(hashes) == 1
    assert f"text {hashes.pop()}" in generate(run, folder, *options).err


def test_json_is_one_object_with_everything_in_it(run: Any, folder: Path) -> None:
    result = generate(
        run, folder, "--json", "--seed", 3, "--max-new-tokens", 20, "--strategy", "pass-two-call", "-k", 3
    )
    data = json.loads(result.out)
    assert len(data["tokens"]) == 20
    assert {"id", "text", "provenance", "draft_position", "p_target", "p_draft"} <= set(data["tokens"][0])
    assert "".join(t["text"] for t in data["tokens"]) == data["text"]
    assert sum(len(s["tokens"]) for s in data["steps"]) == 20
    summary = data["summary"]
    expected = {
        "new_tokens": 20, "device": "cpu", "dtype": "float32", "strategy": "pass-two-call", "verification": "coupled",
        "k": 3, "seed": 3, "stop_reason": "max_new_tokens", "calls": sum(s["calls"] for s in data["steps"]),
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    for key in ("accepted", "proposed", "prefill_seconds", "decode_seconds", "tokens_per_second", "tokens_per_call"):
        assert summary[key] >= 0
    assert summary["acceptance_rate"] == summary["accepted"] / summary["proposed"]
    assert loads_record(result.out).text == data["text"]


def test_a_stop_string_is_cut_off_everywhere(run: Any, folder: Path) -> None:
    whole = json.loads(generate(run, folder, "--json", "--max-new-tokens", 40, "--temperature", 0).out)["text"]
    stop = whole[10:13]
    expected = whole[: whole.index(stop)]
    options = ("--max-new-tokens", 40, "--temperature", 0, "--stop", stop)
    data = json.loads(generate(run, folder, *options, "--json").out)
    assert data["text"] == expected
    assert data["summary"]["stop_reason"] == "stop_string"
    assert generate(run, folder, *options, "-q").out == expected + "\n"


def test_chat_uses_the_template(run: Any, folder: Path) -> None:
    data = json.loads(generate(run, folder, "--json", "--chat", "--max-new-tokens", 4).out)
    assert data["prompt"] == "[user]Once upon a time<|end|>[assistant]"
    assert data["typed"] == "Once upon a time"


def test_notes_and_figures_go_to_standard_error(run: Any, folder: Path) -> None:
    result = generate(run, folder, "--max-new-tokens", 8, "-k", 9, "--seed", 5)
    assert "No trained look-ahead embeddings for tiny" in result.err
    assert "k = 9 is more than the embeddings have (L = 5)" in result.err
    assert "8 tokens" in result.err
    assert "seed 5" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--temperature", "3"), "temperature must be between 0 and 2"),
        (("--top-k", "201"), "top-k must be between"),
        (("--top-p", "0"), "top-p must be above 0 and at most 1"),
        (("--min-p", "1.1"), "min-p must be between 0"),
        (("--max-new-tokens", "0"), "max new tokens must be at least 1"),
        (("--embeddings", "/no/such.safetensors"), "There is no file"),
        (("--device", "nonsense"), "is no device"),
        (("--model", "/no/such/folder"), "There is no model"),
    ],
)
def test_errors_are_one_plain_sentence(run: Any, folder: Path, options: tuple[str, ...], message: str) -> None:
    result = generate(run, folder, *options, "-q")
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("Error: ")
    assert result.err.count("\n") == 1
    assert message in result.err


def test_debug_adds_the_traceback(run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASS_CORE_DEBUG", "")  # so that what the command sets is undone
    result = generate(run, folder, "--temperature", "3", "--debug")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "SettingsError" in result.err


def test_wrong_usage_ends_with_two(run: Any) -> None:
    assert run("generate", "--strategy", "bogus").code == 2
    assert run("nonsense").code == 2
    assert run("generate", "--help").code == 0


def test_a_model_that_cannot_draft_decodes_plainly_unless_told_otherwise(run: Any, tmp_path: Path) -> None:
    folder = tiny.save(tiny.tiny_llama(tokenizer=True, attention_chunk_size=16), tmp_path / "chunks")
    plain = generate(run, folder, "--max-new-tokens", 8)
    assert plain.code == 0
    assert "decodes plainly: llama attends within chunks of 16 tokens" in plain.err
    asked = generate(run, folder, "--max-new-tokens", 8, "--strategy", "pass", "-q")
    assert asked.code == 1
    assert "cannot run PASS" in asked.err


def test_models_lists_what_is_known_and_here(run: Any, private_cache: Path) -> None:
    rows = json.loads(run("models", "--json").out)
    default = next(r for r in rows if r["default"])
    assert default["id"] == "smollm2-135m-instruct"
    assert default["folder"] is None
    lines = run("models").out.splitlines()
    assert len(lines) == len(rows)
    assert lines[0].split("\t")[0] == "smollm2-135m-instruct"


def test_what_the_weights_became_is_told_while_generating_and_in_the_list(
    run: Any, private_cache: Path, tmp_path: Path
) -> None:
    if reason_missing():
        pytest.skip("the compiled library is not here")
    from tests.core.models.gguf_files import gguf_model, write_gguf

    file = write_gguf(tmp_path / "tiny.gguf", gguf_model(hidden=64))
    said = run("generate", "--model", file, "--device", "cpu", "--prompt", "Once", "--max-new-tokens", 4)
    assert said.code == 0
    told = next(line for line in said.err.splitlines() if "computes with" in line)
    row = next(r for r in json.loads(run("models", "--json").out) if r["id"] == str(file))
    assert row["weights"]
    assert row["weights"] in told
    asked = ("--quantize", "gguf", "--prompt", "Once", "--max-new-tokens", 4)
    named = run("generate", "--model", file, "--device", "cpu", *asked).err
    assert "tiny computes with the GGUF file's own weights (F32), nothing rounded again." in named
    assert "computes with" not in run("generate", "--model", file, "--device", "cpu", *asked, "-q").err


def test_fetch_prints_the_folder(run: Any, folder: Path) -> None:
    result = run("fetch", folder)
    assert (result.code, result.out) == (0, f"{folder}\n")


def test_the_prompt_may_be_piped_in(folder: Path, private_cache: Path) -> None:
    command = [sys.executable, "-m", "pass_core", "generate", "--model", str(folder), "--max-new-tokens", "4"]
    command += ["--dtype", "float32", "--json"]
    done = subprocess.run(command, input="Hé", capture_output=True, text=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout)["prompt"] == "Hé"


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a POSIX signal")
def test_ctrl_c_stops_cleanly_with_what_there_is(folder: Path, private_cache: Path) -> None:
    command = [sys.executable, "-m", "pass_core", "generate", "--model", str(folder), "--prompt", "Once upon a time"]
    options = ["--max-new-tokens", "400", "--ignore-eos", "--device", "cpu", "--dtype", "float32"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    first = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (first + rest).endswith(b"\n")
    assert b"ended: cancelled" in errors
    assert b"Traceback" not in errors


def test_amounts_and_times_read_well() -> None:
    assert [amount(b, "B") for b in (900, 92_871_040, 1_500_000_000)] == ["900 B", "92.9 MB", "1.5 GB"]
    assert amount(272, "tensors") == "272 tensors"
    assert [clock(s) for s in (7.4, 754, 3723)] == ["0:07", "12:34", "1:02:03"]
