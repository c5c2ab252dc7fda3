"""Reading text, splitting it by document, and text that the model writes itself."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from pass_core.models.language_model import LanguageModel
from pass_core.models.prompts import encode, starting_ids
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.training.config import TrainingError
from pass_core.training.corpus import Document, alike, is_held_out, read_documents, shingles, split, tokenize
from pass_core.training.selfwritten import (
    SelfPlan,
    make_corpus,
    own_text,
    read_rows,
    write_corpus,
)
from pass_core.training.sources import Sources, draw_prefixes, shipped_sources
from pass_core.training.writing import continue_text
from tests import tiny

PLAN = SelfPlan(sequences=9, held_out=6, length=64, batch=3)


def words(seed: int, count: int = 300) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefghij", k=5)) for _ in range(count))


def test_split_is_by_document_and_ignores_order() -> None:
    documents = [Document(f"d{i}", "prose", words(i)) for i in range(200)]
    train, held = split(documents)
    again_train, again_held = split(list(reversed(documents)))
    assert {d.name for d in train} == {d.name for d in again_train}
    assert {d.name for d in held} == {d.name for d in again_held}
    assert not {d.name for d in train} & {d.name for d in held}
    assert 5 <= len(held) <= 45
    assert all(is_held_out(d.name) for d in held)


def test_near_duplicates_do_not_cross_the_split() -> None:
    documents = [Document(f"d{i}", "prose", words(i)) for i in range(60)]
    _, held = split(documents)
    victim = held[0]
    copy_name = next(n for n in (f"copy{i}" for i in range(99)) if not is_held_out(n))
    copy = Document(copy_name, "prose", victim.text.replace(" ", "  ").upper() + " one more sentence at the end")
    train, held_after = split([*documents, copy])
    assert copy in train
    assert victim not in held_after
    assert len(held_after) == len(held) - 1


def test_likeness_of_texts() -> None:
    one = shingles(words(1))
    assert alike(one, one) == 1.0
    assert alike(one, shingles(words(2))) == 0.0
    assert alike(shingles("short text"), shingles("Short, text!")) == 1.0


def test_one_document_alone_still_gives_both_sides() -> None:
    _, held = split([Document("train-a", "prose", words(1)), Document("train-b", "prose", words(2))])
    assert len(held) >= 1


def test_reads_text_code_jsonl_and_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("prose here", encoding="utf-8")
    (tmp_path / "sub" / "b.py").write_text("print(1)\n", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n{"content": "two", "id": "x"}\n', encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty.txt").write_text("  \n", encoding="utf-8")
    found = {d.name: (d.domain, d.text) for d in read_documents(str(tmp_path))}
    assert found == {
        "a.txt": ("prose", "prose here"),
        "c.jsonl#0": ("prose", "one"),
        "x": ("code", "two"),
        str(Path("sub", "b.py")): ("code", "print(1)\n"),
    }


def test_a_long_text_becomes_several_documents(tmp_path: Path) -> None:
    text = "\n\n".join(words(i, 2000) for i in range(20))
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    documents = read_documents(str(tmp_path / "long.txt"))
    assert len(documents) > 3
    assert "".join(d.text for d in documents) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"body": "x"}\n', "text"), ("{broken\n", "cannot be read")],
)
def test_unreadable_jsonl_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match=message):
        read_documents(str(tmp_path / "x.jsonl"))


LINES = '{"text": "one café"}\n{"text": "two"}\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.py", "x.log"])
def test_marks_and_gzip_are_understood(name: str, packed: bool, encoding: str, tmp_path: Path) -> None:
    content = (LINES if name == "x.jsonl" else "one café\r\n").encode(encoding)
    path = tmp_path / (name + ".GZ" if packed else name)
    path.write_bytes(gzip.compress(content) if packed else content)
    texts = [d.text for d in read_documents(str(path))]
    assert texts == (["one café", "two"] if name == "x.jsonl" else ["one café\n"])
    if name != "x.log":
        assert [d.text for d in read_documents(str(tmp_path))] == texts


def test_surrogates_and_broken_bytes_become_replacement_characters(tmp_path: Path) -> None:
    row = json.dumps({"text": "a\ud800b", "id": "\udfff"}).encode()
    (tmp_path / "x.jsonl").write_bytes(row + b'\n{"text": "c\xffd"}\n')
    documents = read_documents(str(tmp_path / "x.jsonl"))
    assert [(d.name, d.text) for d in documents] == [("\ufffd", "a\ufffdb"), ("x.jsonl#1", "c\ufffdd")]
    split(documents)  # hashes names and words


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.txt")).write_text("words", encoding="utf-8")
    split(read_documents(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", b"\x7fELF\0\0\0\1", "is no text.*binary"),
        ("x.txt", "text".encode("utf-16-le"), "is no text"),
        ("x.txt", bytes(range(128, 256)), "is no text"),
        ("x.jsonl", b'{"text": "a"}\n\0\0', "is no text.*line 2"),
        ("x.jsonl", b"[" * 100_000, "line 1 cannot be read"),
        ("x.jsonl", b'{"text": 5}\n', "no “text”"),
        # Workers must collect the same names, whenever they start: mtime=0.
        ("x.txt.gz", gzip.compress(b"words" * 1000, mtime=0)[:-9], "cannot be read"),
        ("x.txt.gz", b"\x1f\x8b\x08\0rubbish rubbish", "cannot be read"),
        ("x.txt.gz", gzip.compress(bytes(60_000_000), mtime=0), "larger than 50 MB"),
        ("x.jsonl.gz", gzip.compress(b" " * 60_000_000, mtime=0), "larger than 50 MB"),
    ],
)
def test_what_is_no_text_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        read_documents(str(tmp_path / name))


@pytest.mark.parametrize("source", ["n" * 5000, "a\0b", "~nobody-of-this-name/x"])
def test_names_that_no_file_can_have(source: str) -> None:
    with pytest.raises(TrainingError, match="self, a path"):
        read_documents(source)


def test_missing_source_says_what_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="self, a path"):
        read_documents(str(tmp_path / "nothing"))
    with pytest.raises(TrainingError, match="no text"):
        read_documents(str(tmp_path))


def test_tokenize_takes_documents_in_turn(tiny_model: LanguageModel) -> None:
    long, short = Document("l", "prose", "a" * 100), Document("s", "prose", "b" * 40)
    sequences = tokenize(tiny_model, [long, short], 32, most=3)
    assert [chr(int(s[0])) for s in sequences] == ["a", "b", "a"]
    assert [len(s) for s in sequences] == [32, 32, 32]


def test_text_begins_as_a_prompt_does() -> None:
    """Gemma and Llama write nonsense without their start token; decoding always has it."""
    model = tiny.tiny_llama(tokenizer=True)
    assert starting_ids(model) == []
    assert own_text(model, SelfPlan(), Path("kept")).name.endswith("-256.jsonl")
    backend = model.tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(single="<|end|> $A <|end|>", special_tokens=[("<|end|>", 256)])
    assert encode(model, "the sea")[0] == 256
    assert starting_ids(model) == [256]
    documents = [Document(str(n), "prose", f"{n} " + "the sea and the ships " * 20) for n in range(3)]
    for sequence in tokenize(model, documents, 32, most=9):
        assert int(sequence[0]) == 256
        assert 256 not in sequence[1:]
        assert len(sequence) <= 32
    sources = Sources({"prose": documents, "code": []}, [], [])
    ids, _, opening = draw_prefixes(model, sources, "prose", 4, random.Random(0))
    assert ids[:, 0].tolist() == [256] * 4
    assert not (ids[:, 1:] == 256).any()
    assert opening == 0
    assert own_text(model, SelfPlan(), Path("kept")).name.endswith("-started.jsonl")  # what was kept before has none


def test_continuations_follow_the_model_and_its_sampling() -> None:
    """At a temperature near 0 the continuation is the model's greedy one, cached or not."""
    model = tiny.tiny_llama()
    prefixes = torch.randint(0, 64, (3, 5), generator=torch.Generator().manual_seed(0))
    cold = torch.full((3,), 1e-4)
    ids = continue_text(model, prefixes, 20, cold, torch.tensor([0, 10, 1]), torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(model.model(ids).logits[:, 4:-1].argmax(-1), ids[:, 5:])


def test_self_written_text_is_kept_resumed_and_split(private_cache: Path, tmp_path: Path) -> None:
    model = tiny.tiny_llama(tokenizer=True)
    file = tmp_path / "self.jsonl"
    token = CancelToken()
    seen: list[Progress] = []

    def stop(report: Progress) -> None:
        seen.append(report)
        token.cancel()

    with pytest.raises(Cancelled):
        write_corpus(model, PLAN, file, progress=stop, cancel=token)
    partial = file.read_text(encoding="utf-8").splitlines()
    with file.open("a", encoding="utf-8") as f:
        f.write('{"split": "train", "ids": [1,')  # as a kill leaves it
    corpus = write_corpus(model, PLAN, file)
    assert file.read_text(encoding="utf-8").splitlines()[: len(partial)] == partial
    assert len(corpus.train) == 9
    assert len(corpus.held_out) == 6
    again = write_corpus(model, PLAN, file)
    assert all(torch.equal(a, b) for a, b in zip(corpus.train, again.train, strict=True))
    rows = read_rows(file, model)
    held = {r["document"] for r in rows if r["split"] == "held" and r["domain"] != "chat"}
    assert not held & {r["document"] for r in rows if r["split"] == "train"}
    assert {r["domain"] for r in rows} == {"chat", "prose", "code"}


def test_another_models_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"fingerprint": "0" * 16}) + "\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="another model"):
        write_corpus(tiny.tiny_llama(tokenizer=True), PLAN, file)


def test_shipped_prefixes_share_no_document(tiny_model: LanguageModel) -> None:
    train, held = shipped_sources(tiny_model)
    for domain in ("prose", "code"):
        names = {d.name for d in train.documents[domain]}
        assert names
        assert held.documents[domain]
        assert not names & {d.name for d in held.documents[domain]}
    assert not set(train.openings) & set(held.openings)
    assert bytes(train.headers[0]) == b"[user]"


def test_a_folder_of_text_becomes_a_corpus(tmp_path: Path) -> None:
    model = tiny.tiny_llama(tokenizer=True)
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(words(i), encoding="utf-8")
    corpus = make_corpus(model, str(tmp_path), length=48, sequences=20, plan=PLAN, folder=tmp_path)
    assert len(corpus.train) == 20
    assert corpus.held_out
    assert all(len(h.ids) == h.start + 96 for h in corpus.held_out)
    with pytest.raises(TrainingError, match="--data self"):
        make_corpus(model, str(tmp_path / "1.txt"), length=5000, sequences=20, plan=PLAN, folder=tmp_path)
