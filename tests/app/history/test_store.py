"""The history file keeps runs exactly, stays within its bound, and never stands in the way of a start."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from app.history import store as store_module
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
        db.execute("UPDATE runs SET writer = ? WHERE id = ?", (store_module._process_mark(1), numbered(2).id))
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
    assert [e.title for e in store.entries("100 %")] == ["100 % sure"]
    assert [e.title for e in store.entries("A_B")] == ["a_b"]
    assert [e.title for e in store.entries("café first")] == ["first"]
    assert store.entries("absent") == []
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
