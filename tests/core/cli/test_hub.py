"""Look-ahead files on a hub from the command line: loading one by its name, and offering one for upload."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pass_core.cli.main import main
from pass_core.cli.upload import Upload
from pass_core.lookahead.embeddings import TrainingSummary
from tests import tiny
from tests.core.decoding.engine import random_lookahead
from tests.core.models.hub_server import TOKEN, Hub, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(tmp_path / "hub", monkeypatch) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, private_cache: Path) -> Path:
    """A tiny model's folder, with a look-ahead file for it beside."""
    model = tiny.tiny_llama(tokenizer=True)
    made = random_lookahead(model)
    replace(made, training=TrainingSummary(acceptance=(0.5,)), base_fingerprint=model.fingerprint).save(
        tmp_path / "mine.safetensors"
    )
    return tiny.save(model, tmp_path / "model")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(ended.value.code or 0)


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


def test_generate_takes_a_name_on_the_hub(
    folder: Path, server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.repos["me/drafts"] = {"mine.safetensors": (tmp_path / "mine.safetensors").read_bytes()}
    asked = [
        "generate",
        "--prompt",
        "The sea",
        "--model",
        str(folder),
        "--device",
        "cpu",
        "--max-new-tokens",
        "4",
        "--embeddings",
    ]
    assert run(*asked, "hf:me/drafts") == 0
    assert "Downloading hf:me/drafts" in capsys.readouterr().err
    assert run(*asked, "hf:me") == 1
    assert "Write hf:user/name" in capsys.readouterr().err
    assert run(*asked, "hf:me/other") == 1
    assert "no model me/other on the hub" in capsys.readouterr().err


def test_an_upload_waits_for_the_name_to_be_typed(
    folder: Path, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.safetensors"
    for typed, done in (("y\n", False), ("\n", False), ("me/new\n", True)):
        monkeypatch.setattr("sys.stdin", Terminal(typed))
        Upload.checked("hf:me/new", yes=False).offer(path)
        said = capsys.readouterr()
        assert "SHA-256" in said.out
        assert "# Look-ahead embeddings for" in said.out
        assert ("me/new" in server.repos) is done
        assert ("Nothing was uploaded" in said.err) is not done
    assert server.repos["me/new"]["mine.safetensors"] == path.read_bytes()
    assert "Load it with --embeddings hf:me/new/mine.safetensors" in said.out


def test_a_training_uploads_its_file_and_where_nobody_can_be_asked_only_with_yes(
    folder: Path, server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for n in range(12):
        (texts / f"{n}.txt").write_text(" ".join(f"{(n * 37 + i * i) % 997} birds" for i in range(60)), "utf-8")
    out = tmp_path / "new.safetensors"
    asked = ["train", "--model", str(folder), "--device", "cpu", "--data", str(texts), "--length", "32", "--rows", "12"]
    asked += ["--no-bigrams", "--steps", "2", "--contexts", "12", "--out", str(out), "--push", "me/made"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(*asked) == 1
    assert "Add --yes" in capsys.readouterr().err
    assert not out.exists()
    assert run(*asked, "--yes") == 0
    assert server.repos["me/made"]["new.safetensors"] == out.read_bytes()
    assert b"python -m pass_core train" in server.repos["me/made"]["README.md"]
    assert run("train", "--evaluate", "hf:me/made", "--push", "me/made", "--yes") == 1
    assert "measured file of this machine" in capsys.readouterr().err
