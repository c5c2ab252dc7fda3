"""The order of the list, tags, and histories of before tags."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from app.history.database import VERSION
from app.history.deleted import bring_back, delete
from app.history.listing import RunEntry, SortKey, Wanted
from app.history.store import HistoryStore
from app.history.tags import LONGEST, clean
from tests.app.history.test_store import numbered

# As the first version made it: a file of that time must stay readable.
FIRST_TABLES = """
CREATE TABLE runs(
    id TEXT PRIMARY KEY, created TEXT NOT NULL, title TEXT NOT NULL, pinned INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL, writer TEXT NOT NULL DEFAULT '', grouped TEXT NOT NULL, prompt TEXT NOT NULL,
    excerpt TEXT NOT NULL DEFAULT '', model TEXT NOT NULL, strategy TEXT NOT NULL, k INTEGER NOT NULL,
    tokens INTEGER NOT NULL DEFAULT 0, calls INTEGER NOT NULL DEFAULT 0, accepted INTEGER NOT NULL DEFAULT 0,
    proposed INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    header TEXT NOT NULL
);
CREATE INDEX runs_by_time ON runs(created);
CREATE TABLE batches(
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY(run, number)
);
"""

FIGURES = (  # tokens, calls, accepted, proposed, seconds, bytes
    (30, 10, 9, 10, 3.0, 500),  # 10 tokens/s, 3 a call, 90 %
    (20, 20, 0, 0, 1.0, 900),  # 20 tokens/s, 1 a call, no drafts
    (40, 10, 1, 10, 8.0, 100),  # 5 tokens/s, 4 a call, 10 %
    (0, 0, 0, 0, 0.0, 700),  # nothing written
)


@pytest.fixture
def store() -> HistoryStore:
    """Four runs, 0 the oldest, whose figures are in another order than their times."""
    store = HistoryStore(None)
    for number, figures in enumerate(FIGURES):
        store.add(numbered(number, title=("beta", "Alpha", "", "gamma")[number], prompt="delta"))
        store._db.execute(
            "UPDATE runs SET tokens = ?, calls = ?, accepted = ?, proposed = ?, seconds = ?, bytes = ? WHERE id = ?",
            (*figures, numbered(number).id),
        )
    return store


def order(store: HistoryStore, sort: SortKey, *, descending: bool = False) -> list[int]:
    return [int(e.id, 16) for e in store.entries(Wanted(sort=sort, descending=descending))]


@pytest.mark.parametrize(
    ("sort", "up", "down"),
    [
        (SortKey.WHEN, [0, 1, 2, 3], [3, 2, 1, 0]),
        (SortKey.TITLE, [1, 0, 2, 3], [3, 2, 0, 1]),  # the third shows its prompt
        (SortKey.TOKENS, [3, 1, 0, 2], [2, 0, 1, 3]),
        (SortKey.SPEED, [2, 0, 1, 3], [1, 0, 2, 3]),  # without a figure: last either way
        (SortKey.PER_CALL, [1, 0, 2, 3], [2, 0, 1, 3]),
        (SortKey.ACCEPTANCE, [2, 0, 3, 1], [0, 2, 3, 1]),
        (SortKey.SIZE, [2, 0, 3, 1], [1, 3, 0, 2]),
    ],
)
def test_every_column_sorts(store: HistoryStore, sort: SortKey, up: list[int], down: list[int]) -> None:
    assert order(store, sort) == up
    assert order(store, sort, descending=True) == down


def test_the_usual_order_has_the_pinned_first(store: HistoryStore) -> None:
    store.pin(numbered(1).id, True)
    assert order(store, SortKey.USUAL) == [1, 3, 2, 0]
    assert order(store, SortKey.WHEN) == [0, 1, 2, 3]
    for sort in SortKey:
        assert sorted(order(store, sort)) == [0, 1, 2, 3]


def test_tags_are_given_found_and_taken(store: HistoryStore) -> None:
    first, second = numbered(0).id, numbered(1).id
    store.tag([first, second], "  good\n one ")
    store.tag([first], "for the paper")
    store.tag([first, "gone"], "good one")
    store.tag([second], " \n ")
    assert store.tags() == {"for the paper": 1, "good one": 2}
    tags = {int(e.id, 16): e.tags for e in store.entries()}
    assert tags == {0: ("for the paper", "good one"), 1: ("good one",), 2: (), 3: ()}
    assert [int(e.id, 16) for e in store.entries(Wanted(tag="good one"))] == [1, 0]
    assert [int(e.id, 16) for e in store.entries(Wanted("PAPER"))] == [0]
    assert store.entries(Wanted("PAPER", tag="absent")) == []
    store.tag([first], "good one", on=False)
    assert store.tags() == {"for the paper": 1, "good one": 1}
    store.delete([second])
    assert store.tags() == {"for the paper": 1}
    assert clean("x" * 100) == "x" * LONGEST


def test_undo_brings_tags_and_pins_back(store: HistoryStore) -> None:
    store.tag([numbered(0).id], "kept")
    store.tag([numbered(0).id], "also")
    store.pin(numbered(0).id, True)
    (gone,) = store.entries(Wanted(tag="kept"))
    deletion = delete(store, [gone])
    assert store.tags() == {}
    bring_back(store, deletion)
    (back,) = store.entries(Wanted(tag="kept"))
    assert (back.id, back.tags, back.pinned) == (gone.id, ("also", "kept"), True)


def first_version(path: Path) -> list[RunEntry]:
    """A file as the first version left it; returns what it listed."""
    store = HistoryStore(path)
    for number in range(3):
        store.add(numbered(number))
    listed = store.entries()
    store.close()
    db = sqlite3.connect(path)
    rows = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in ("runs", "batches")}
    for name in ("tags", "batches", "runs"):
        db.execute(f"DROP TABLE {name}")
    db.executescript(FIRST_TABLES)
    for table, cells in rows.items():
        db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(cells[0]))})", cells)
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    return listed


def test_a_history_of_the_first_version_is_read_and_gets_tags(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    listed = first_version(path)
    store, beside = HistoryStore(path), HistoryStore(path)
    assert store.notice == ""
    assert store.entries() == listed
    assert [store.load(e.id) for e in listed] == [replace(numbered(2 - n)) for n in range(3)]
    store.tag([listed[0].id], "old")
    assert beside.tags() == {"old": 1}
    for s in (store, beside):
        s.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    db.close()
