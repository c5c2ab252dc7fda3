"""`train` from the command line: a file from a folder of text, its figures, and plain refusals."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from pass_core.cli.main import main
from pass_core.lookahead.format import load_lookahead
from pass_core.training.checkpoint import load_checkpoint
from pass_core.training.recipes import RECIPES, Recipe
from tests import tiny
from tests.core.training.runs import own_corpus


@pytest.fixture
def folders(tmp_path: Path, private_cache: Path) -> tuple[Path, Path]:
    """(a tiny model's folder, a folder of texts)."""
    model = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "model")
    texts = tmp_path / "texts"
    texts.mkdir()
    rng = random.Random(0)
    for i in range(30):
        words = ("".join(rng.choices("abcdefgh", k=4)) for _ in range(60))
        (texts / f"{i}.txt").write_text(" ".join(words), encoding="utf-8")
    return model, texts


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    return int(ended.value.code or 0)


def test_trains_measures_and_continues(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, texts = folders
    out = tmp_path / "mine.safetensors"
    common = ["--model", str(model), "--data", str(texts), "--device", "cpu", "--length", "48", "--rows", "24"]
    common += ["--contexts", "30"]
    made = ["--out", str(out), "--kind", "deep", "--sampler", "--sampler-inner", "8", "-L", "3"]
    assert run(*common, *made, "--steps", "6", "--evaluate-every", "3") == 0
    said = capsys.readouterr().out
    assert "are held out. Memory" in said
    assert "step 6/6" in said
    assert "held out after 3" in said
    lookahead = load_lookahead(out)
    assert [p.name for p in lookahead.parts()] == ["embeddings", "deep", "sampler"]
    assert lookahead.count == 3
    assert lookahead.training is not None
    assert "texts" in lookahead.training.data
    assert run(*common, "--evaluate", str(out)) == 0
    assert "places that decoding meets" in capsys.readouterr().out
    report = tmp_path / "report.md"
    assert run(*common, "--evaluate", str(out), "--unseen", "1", "--report", str(report)) == 0
    assert "ideal guess, blind between" in report.read_text(encoding="utf-8")
    again = tmp_path / "again.safetensors"
    assert run(*common, "--out", str(again), "--init", str(out), "-L", "4", "--steps", "2") == 0
    assert load_lookahead(again).count == 4


def test_a_recipe_gives_what_is_not_typed(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, texts = folders
    out = tmp_path / "mine.safetensors"
    typed = ["--steps", "2", "--rows", "24", "--length", "48", "--contexts", "30", "--rank", "2"]
    common = ["--model", str(model), "--data", str(texts), "--device", "cpu"]
    typed += ["--state-places", "64", "--state-steps", "2", "--state-depth", "2", "--state-inner", "8"]
    assert run(*common, "--recipe", "standard", "--sampler-inner", "8", *typed, "--out", str(out)) == 0
    state = load_lookahead(out).state
    if state is not None:  # two steps may not be better than none
        assert (state.depth, len(state.guess.step[0]), len(state.fit.step[0])) == (2, 8, 512)
    assert "State head: done (completed) after 2 steps" in " ".join(capsys.readouterr().out.split())
    made = load_checkpoint(out.with_suffix(".checkpoint")).config
    wanted = RECIPES[Recipe.STANDARD].config
    assert (made.steps, made.rows, made.rank, made.sampler_inner) == (2, 24, 2, 8)
    assert (made.kind, made.with_sampler, made.vector_lr) == (wanted.kind, True, wanted.vector_lr)
    assert made.acceptance_share == wanted.acceptance_share
    capsys.readouterr()


def test_recipes_say_what_they_take_here(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = folders
    assert run("--model", str(model), "--device", "cpu", "--recipes", "--quiet") == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, recipe in RECIPES.items():
        assert f"{name}: {recipe.summary}" in said
    assert "10,080,000 rows" in said


def test_a_state_head_is_added_to_a_file_and_measured(
    private_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny.tiny_gpt2(tokenizer=True, layers=1)
    corpus = own_corpus(model, sequences=80, held=24, length=48)
    texts = tmp_path / "own.jsonl"  # what the model wrote itself, as the program keeps it
    lines: list[dict[str, object]] = [{"fingerprint": model.fingerprint}]
    for split, ids, start in [("train", t, 4) for t in corpus.train] + [("held", h.ids, 4) for h in corpus.held_out]:
        lines.append({"split": split, "domain": "prose", "document": "x", "start": start, "ids": ids.tolist()})
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    folder = tiny.save(model, tmp_path / "learns fast")
    common = ["--model", str(folder), "--data", str(texts), "--device", "cpu", "--length", "48", "--contexts", "100"]
    start, out, report = (tmp_path / name for name in ("start.safetensors", "out.safetensors", "report.json"))
    rows = ["--kind", "embeddings", "--no-bigrams", "-L", "3", "--rows", "24", "--steps", "2"]
    assert run(*common, "--out", str(start), *rows) == 0
    head = ["--state-head", "--state-steps", "60", "--state-inner", "16", "--state-fit-inner", "8"]
    head += ["--state-places", "128", "--state-lr", "0.03"]
    capsys.readouterr()
    assert run(*common, "--out", str(out), "--init", str(start), *head, "--evaluate-every", "20") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "state head, step 60/60" in said
    assert "one of 3 best is right" in said
    kept = load_lookahead(out).tensors()
    assert run(*common, "--out", str(out), "--init", str(start), *head, "--evaluate-every", "20", "--resume") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "State head: done (completed) after 60 steps" in said
    assert "state head, step" not in said  # nothing was left to do
    assert all(torch.equal(kept[name], tensor) for name, tensor in load_lookahead(out).tensors().items())
    before, made = load_lookahead(start), load_lookahead(out)
    assert torch.equal(before.embeddings, made.embeddings)
    assert made.state is not None
    assert made.training is not None
    assert before.training is not None
    assert len(made.training.state_acceptance) == made.state.depth == 4
    assert made.training.steps == before.training.steps == 2
    assert run(*common, "--evaluate", str(out), "--no-bigrams") == 0
    said = " ".join(capsys.readouterr().out.split())
    for title in ("At evenly spread places", "At the places that decoding meets"):
        assert f"State head, no look-ahead rows. {title} of held-out text" in said
    assert run(*common, "--evaluate", str(out), "--no-bigrams", "--report", str(report)) == 0
    data = json.loads(report.read_text(encoding="utf-8"))
    assert [len(row) for row in data["state"]["siblings"]] == [4, 4, 4]
    assert [len(row) for row in data["siblings"]] == [3, 3, 3]
    page = report.with_suffix(".md")
    assert run(*common, "--evaluate", str(out), "--no-bigrams", "--report", str(page)) == 0
    assert "## Without look-ahead rows: the state head" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "x.safetensors", "--report", "r.md"), "--evaluate FILE"),
        (("--evaluate", "x.safetensors", "--report", "r.txt"), ".md or .json"),
        ((), "--out FILE"),
        (("--out", "x.bin"), "must end with .safetensors"),
        (("--out", "x.safetensors", "-L", "40"), "between 1 and 16"),
    ],
)
def test_refusals_are_plain(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
