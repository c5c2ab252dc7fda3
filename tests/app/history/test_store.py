"""The history file keeps runs exactly, stays within its bound, and never stands in the way of a start."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from app.history.database import process_mark
from app.history.listing import Wanted
from app.history.recorder import HistoryRecorder
from app.history.store import HistoryError, HistoryStore
from pass_core.decoding.summary import summarize
from pass_core.records.runs import RunRecord, RunStatus
from tests.core.records import strategies


def numbered(number: int, **changes: object) -> RunRecord:
    """A run with its own id and time; higher numbers are newer."""
    record = strategies.example_record()
    return replace(record, id=f"{number:032x}", created=record.created.replace(minute=number), **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.sqlite3"


@given(strategies.records)
@hypothesis_settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_added_run_is_read_back_exactly(record: RunRecord) -> None:
    store = HistoryStore(None)
    store.add(record)
    kept = replace(record, status=RunStatus.INTERRUPTED) if record.status is RunStatus.RUNNING else record
    assert store.load(record.id) == kept
    store.close()


def test_a_run_grows_by_steps_and_survives_a_restart(path: Path) -> None:
    record = numbered(1)
    store = HistoryStore(path)
    store.begin(record)
    for i in range(len(record.steps)):
        assert store.append(record.id, record.steps[i : i + 1], summarize(record.steps[: i + 1]), record.text)
        assert store.load(record.id).steps == record.steps[: i + 1]
        assert store.load(record.id).status is RunStatus.RUNNING
    store.finish(record.id)
    store.close()

    store = HistoryStore(path)
    assert store.load(record.id) == record
    (entry,) = store.entries()
    assert (entry.tokens, entry.calls, entry.accepted, entry.proposed) == (5, 4, 2, 5)
    assert entry.seconds == 1.0
    assert entry.excerpt == " café is open."
    assert entry.bytes > 0
    store.close()


def test_a_run_whose_process_is_gone_is_interrupted(path: Path) -> None:
    first = HistoryStore(path)
    first.begin(numbered(1))
    first.begin(numbered(2))
    first.close()
    with sqlite3.connect(path) as db:  # the second belongs to a process that lives: process 1 is always there
        db.execute("UPDATE runs SET writer = ? WHERE id = ?", (process_mark(1), numbered(2).id))
        db.execute("UPDATE runs SET writer = '999999999:1.00' WHERE id = ?", (numbered(1).id,))
    db.close()
    store = HistoryStore(path)
    assert store.load(numbered(1).id).status is RunStatus.INTERRUPTED
    assert store.load(numbered(2).id).status is RunStatus.RUNNING
    store.close()


def test_list_search_pin_rename_delete(path: Path) -> None:
    store = HistoryStore(path)
    for i, title in enumerate(["first", "100 % sure", "a_b"]):
        store.add(numbered(i, title=title))
    assert [e.title for e in store.entries()] == ["a_b", "100 % sure", "first"]
    store.pin(numbered(0).id, True)
    assert [e.title for e in store.entries()] == ["first", "a_b", "100 % sure"]
    assert [e.title for e in store.entries(Wanted("100 %"))] == ["100 % sure"]
    assert [e.title for e in store.entries(Wanted("A_B"))] == ["a_b"]
    assert [e.title for e in store.entries(Wanted("café first"))] == ["first"]
    assert store.entries(Wanted("absent")) == []
    store.rename(numbered(0).id, "other")
    assert store.load(numbered(0).id).title == "other"
    store.delete([numbered(0).id, numbered(1).id])
    assert [e.title for e in store.entries()] == ["a_b"]
    with pytest.raises(HistoryError, match="not in the history"):
        store.load(numbered(0).id)
    store.close()


def test_a_deleted_run_takes_no_more_steps(path: Path) -> None:
    store = HistoryStore(path)
    record = numbered(1)
    store.begin(record)
    store.delete([record.id])
    assert not store.append(record.id, record.steps, record.summary, "")
    store.finish(record.id)
    assert store.entries() == []
    store.close()


def test_an_import_never_overwrites(path: Path) -> None:
    store = HistoryStore(path)
    first, second = store.add(numbered(1)), store.add(numbered(1, title="again"))
    assert first != second
    assert {store.load(first).title, store.load(second).title} == {"example", "again"}
    store.close()


def test_the_oldest_unpinned_run_goes_when_it_gets_too_big(path: Path) -> None:
    noise = random.Random(0)
    incompressible = [numbered(i, prompt=noise.randbytes(150_000).hex()) for i in range(5)]
    store = HistoryStore(path, limit=1_000_000)
    store.add(incompressible[0])
    store.pin(incompressible[0].id, True)
    for record in incompressible[1:]:
        store.add(record)
    assert store.size() <= 1_000_000
    kept = [e.id for e in store.entries()]
    assert kept == [incompressible[i].id for i in (0, 4, 3)]
    assert path.stat().st_size < 1_300_000  # the file itself shrinks
    assert store.set_limit(500_000) == 2
    assert [e.id for e in store.entries()] == [incompressible[0].id]
    assert store.set_limit(1) == 0  # pinned runs stay whatever the limit
    store.close()


FIXTURE = Path(__file__).parents[2] / "fixtures" / "history-of-2026-11.sqlite3"


def test_a_history_of_before_still_reads(path: Path) -> None:
    """Written by the code of November 2026, before the codec."""
    path.parent.mkdir()
    shutil.copy(FIXTURE, path)
    store = HistoryStore(path)
    assert store.notice == ""
    assert [(e.title, e.pinned, e.status.value) for e in store.entries()] == [
        ("from before", True, "interrupted"),
        ("killed", False, "interrupted"),
        ("streamed", False, "finished"),
    ]
    whole = replace(strategies.example_record(), id="2" * 32, title="streamed")
    assert store.load("2" * 32) == whole
    assert store.load("3" * 32).steps == whole.steps[:1]
    store.add(numbered(9))
    store.close()


def test_only_the_user_can_read_the_history(path: Path) -> None:
    store = HistoryStore(path)
    store.begin(numbered(1))
    modes = {p.name: p.stat().st_mode & 0o777 for p in path.parent.iterdir()}
    assert set(modes) >= {path.name, f"{path.name}-wal"}
    assert set(modes.values()) == {0o600}
    store.close()
    path.chmod(0o644)
    HistoryStore(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        "status = 'half'",
        "status = NULL",
        "created = 'yesterday'",
        "created = 7",
        "strategy = 'guess'",
        "k = 'many'",
        "seconds = 'long'",
        "tokens = x'00'",
        "title = x'05'",
        "prompt = x'ff'",
    ],
)
def test_a_damaged_cell_hides_one_run_and_not_all(path: Path, damage: str) -> None:
    store = HistoryStore(path)
    for i in range(3):
        store.add(numbered(i, title=f"run {i}"))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE name = 'runs'")
    db.close()
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE runs SET {damage} WHERE id = ?", (numbered(1).id,))
    db.close()
    store = HistoryStore(path)
    assert [e.title for e in store.entries()] == ["run 2", "run 0"]
    assert store.load(numbered(0).id).title == "run 0"
    store.delete([numbered(1).id])
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE batches SET data = x'00' WHERE run = ?",
        "UPDATE batches SET data = 'text' WHERE run = ?",
        "UPDATE batches SET data = substr(data, 1, 40) WHERE run = ?",
        "UPDATE runs SET header = '{' WHERE id = ?",
        "UPDATE runs SET header = '[1]' WHERE id = ?",
        "UPDATE runs SET header = '[[[[' || hex(zeroblob(50000)) WHERE id = ?",
        "UPDATE runs SET status = 'half' WHERE id = ?",
    ],
)
def test_a_damaged_run_is_said_to_be_and_the_others_open(path: Path, damage: str) -> None:
    store = HistoryStore(path)
    for i in range(2):
        store.add(numbered(i))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute(damage, (numbered(1).id,))
    db.close()
    store = HistoryStore(path)
    with pytest.raises(HistoryError, match=r"damaged.*Delete it"):
        store.load(numbered(1).id)
    store.finish(numbered(1).id)  # must not make it worse, nor stop the recorder
    assert store.load(numbered(0).id) == numbered(0)
    store.close()


def test_texts_with_lone_surrogates_and_numbers_that_are_none_are_kept(path: Path) -> None:
    record = numbered(1, title="\ud800", prompt="a\udfffb", group="\udc00")
    record = replace(record, steps=(replace(record.steps[0], seconds=float("nan"), calls=2**53 - 1),) * 3)
    store = HistoryStore(path)
    store.add(record)
    assert [e.title for e in store.entries(Wanted("a\udfffb"))] == ["\ufffd"]
    store.rename(record.id, "b\ud800")
    assert store.load(record.id).title == "b\ufffd"
    store.close()


def test_a_full_disk_costs_no_step_that_was_committed(path: Path, small_files: Callable[[int], None]) -> None:
    """The first commit fits, the second does not; after room was made everything is there."""
    said: list[str] = []
    record = numbered(1)
    noise = random.Random(0)
    big = replace(record.steps[1], reason=noise.randbytes(300_000).hex())
    recorder = HistoryRecorder(path, notify=said.append, commit_seconds=0.0)
    done = threading.Event()
    recorder.begin(record.id, lambda: replace(record, steps=()))
    recorder.steps(record.id, record.steps[:1])
    recorder.ask(lambda store: store.load(record.id), lambda result, error: done.set())
    assert done.wait(30)
    small_files(200_000)
    recorder.steps(record.id, (big,))
    answers: list[object] = []
    again = threading.Event()
    recorder.ask(lambda store: store.load(record.id).steps, lambda r, e: (answers.append(r), again.set()))
    assert again.wait(30)
    assert answers == [record.steps[:1]]
    small_files(-1)
    recorder.steps(record.id, record.steps[2:])
    recorder.end(record.id)
    recorder.close()
    assert len(said) == 1
    assert "Check the free space" in said[0]
    store = HistoryStore(path)
    assert store.notice == ""
    assert store.load(record.id).steps == (record.steps[0], big, record.steps[2])
    assert store.load(record.id).status is RunStatus.FINISHED
    store.close()


@pytest.mark.parametrize("damage", ["not a database", "torn page"])
def test_a_damaged_file_is_set_aside(path: Path, damage: str) -> None:
    store = HistoryStore(path)
    for i in range(40):
        store.add(numbered(i))
    store.close()
    content = bytearray(path.read_bytes())
    if damage == "not a database":
        content[:] = b"\x00garbage" * 1000
    else:
        content[5000:60000] = b"\xff" * 55000
    path.write_bytes(content)
    store = HistoryStore(path)
    assert "damaged" in store.notice
    assert store.entries() == []
    store.add(numbered(1))
    store.close()
    (aside,) = path.parent.glob("history-damaged-*.sqlite3")
    assert aside.name in store.notice
    assert aside.read_bytes() == bytes(content)


def test_a_newer_file_is_left_alone(path: Path) -> None:
    HistoryStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(HistoryError, match="newer version"):
        HistoryStore(path)
    assert [p.name for p in path.parent.glob("history-damaged*")] == []
