"""One long text is cut so that there is something to train on and something to hold out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.training.own_text import ENOUGH_DOCUMENTS, SHORTEST_TEXT, divided, pieces_of, survey
from pass_core.training.corpus import Document, read_documents, split


def words(count: int, start: int = 0) -> str:
    return "\n".join(f"Line {n} tells of {(n * n) % 9973} gulls and {n * 31 % 877} boats." for n in range(start, count))


@pytest.mark.parametrize("lines", [60, 400, 3000, 60_000])
def test_one_file_becomes_training_and_held_out_pieces_with_nothing_lost(tmp_path: Path, lines: int) -> None:
    book = tmp_path / "book.txt"
    book.write_text(words(lines), encoding="utf-8")
    told = survey(str(book))
    assert told.problem == ""
    folder = divided(str(book), tmp_path / "kept")
    documents = read_documents(folder)
    train, held_out = split(documents)
    if told.cut:
        assert (len(train), len(held_out)) == (told.train, told.held_out)
    assert train
    assert held_out
    joined = "\n".join(d.text for d in sorted(documents, key=lambda d: d.name))
    assert joined.split() == book.read_text(encoding="utf-8").split()
    assert divided(str(book), tmp_path / "kept") == folder


def test_a_text_without_lines_or_spaces_is_cut_too() -> None:
    train, held_out = split(pieces_of([Document("x", "prose", "".join(map(chr, range(0x4E00, 0x4E00 + 5000))))]))
    assert train
    assert held_out


def test_many_documents_stay_as_they_are(tmp_path: Path) -> None:
    for n in range(ENOUGH_DOCUMENTS):
        (tmp_path / f"{n}.txt").write_text(words(40 * n + 40, 40 * n), encoding="utf-8")
    assert divided(str(tmp_path), tmp_path / "kept") == str(tmp_path)
    told = survey(str(tmp_path))
    assert not told.cut
    assert f"{ENOUGH_DOCUMENTS} documents" in told.sentence


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Too short.", encoding="utf-8")
    assert f"at least {SHORTEST_TEXT:,}" in survey(str(short)).problem
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"MZ\x00\x00\x01\x02" * 4000)
    assert "no text" in survey(str(binary)).problem
    same = tmp_path / "same.txt"
    same.write_text("The same sea, the same shore, the same boats and the same gulls again. " * 400, encoding="utf-8")
    assert "repeat each other" in survey(str(same)).problem
    assert "no file" in survey(str(tmp_path / "gone.txt")).problem


def test_text_that_a_model_wrote_is_left_to_the_trainer(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"fingerprint": "x"}) + "\n", encoding="utf-8")
    assert survey(str(rows)).problem == ""
    assert divided(str(rows), tmp_path / "kept") == str(rows)
