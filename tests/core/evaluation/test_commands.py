"""bench, verify and humaneval as a user types them, on a tiny model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pass_core.cli.main import main
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny.tiny_llama(tokenizer=True, context=2048)
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def test_bench_writes_all_its_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {kind: tmp_path / f"bench.{kind}" for kind in ("json", "csv", "md", "svg")}
    code = run(
        "bench", "--quick", "--model", folder, "--dtype", "float32", "--prompts", 1, "--tokens", 8, "--quiet",
        "--json", files["json"], "--csv", files["csv"], "--markdown", files["md"], "--figure", files["svg"],
    )  # fmt: skip
    assert code == 0
    raw = json.loads(files["json"].read_text())
    assert raw["complete"]
    assert {r["source"] for r in raw["results"]} == {"ours", "transformers"}
    assert raw["roofline"]["bandwidth"] > 0
    assert raw["environment"]["embeddings"]["untrained"]["trained"] is False
    assert files["md"].read_text() == capsys.readouterr().out
    assert all(f.stat().st_size > 200 for f in files.values())


def test_bench_refuses_nonsense(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "--model", folder, "--k", "many") == 2
    assert "many" in capsys.readouterr().err
    assert run("bench", "--model", folder, "--sets", "poems", "--quiet") == 1
    assert "prose, code, chat" in capsys.readouterr().err


def test_verify_says_lossless_and_keeps_the_findings(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "verify.json"
    arguments = ["verify", "--quick", "--model", folder, "--prompts", 1, "--tokens", 8, "--draws", 5, "--texts", 1]
    assert run(*arguments, "--quiet", "--json", file) == 0
    assert "Lossless" in capsys.readouterr().out
    raw = json.loads(file.read_text())
    assert raw["passed"]
    assert {c["proof"] for c in raw["checks"]} == {"greedy", "coupled", "distribution"}


def test_verify_fails_with_status_1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pass_core.decoding.targets import RowDistributions

    honest = RowDistributions.sample_path

    def other_noise(rows: RowDistributions, seed: int, position: int, tokens: Any = (), parents: Any = ()) -> list[int]:
        """Verification that samples with noise of its own."""
        return honest(rows, seed + bool(tokens), position, tokens, parents)

    monkeypatch.setattr(RowDistributions, "sample_path", other_noise)
    arguments = [
        "verify",
        "--quick",
        "--model",
        folder,
        "--prompts",
        1,
        "--tokens",
        12,
        "--proofs",
        "coupled",
        "--quiet",
    ]
    assert run(*arguments) == 1


def test_humaneval_without_consent_only_measures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "h.json"
    arguments = [
        "humaneval",
        "--model",
        folder,
        "--dtype",
        "float32",
        "--problems",
        1,
        "--max-new-tokens",
        8,
        "--quiet",
    ]
    assert run(*arguments, "--json", file) == 0
    assert "not run" in capsys.readouterr().err
    raw = json.loads(file.read_text())
    assert raw["same_text"] == [1, 1]
    assert raw["completions"][0]["verdict"] is None
    assert run(*arguments, "--yes-run-generated-code", "--json", file) == 0
    assert json.loads(file.read_text())["completions"][0]["verdict"] == "failed"
