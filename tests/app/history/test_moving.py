"""The history goes to another folder with all its runs, also while one is written; nothing is lost when it cannot."""

from __future__ import annotations

import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from app.history.store import HistoryError, HistoryStore
from pass_core.decoding.summary import summarize
from pass_core.records.runs import RunStatus
from tests.app.history.test_store import numbered


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "old" / "history.sqlite3"


def test_everything_is_taken_along_and_a_run_goes_on(path: Path, tmp_path: Path) -> None:
    store = HistoryStore(path)
    done, going = numbered(1), numbered(2)
    store.add(done)
    store.pin(done.id, True)
    store.begin(going)
    half = len(going.steps) // 2
    assert store.append(going.id, going.steps[:half], summarize(going.steps[:half]), "")
    target = tmp_path / "new" / "below" / "history.sqlite3"
    assert str(target.parent) in store.move_to(target)
    assert not list(path.parent.iterdir()), "nothing stays behind"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert store.load(going.id).status is RunStatus.RUNNING
    assert store.append(going.id, going.steps[half:], summarize(going.steps), going.text)
    store.finish(going.id)
    store.close()
    again = HistoryStore(target)
    assert again.load(done.id) == done
    assert again.load(going.id) == replace(going, status=RunStatus.FINISHED)
    assert [e.pinned for e in again.entries()] == [True, False]
    again.close()
    db = sqlite3.connect(target)
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,), "it still shrinks when runs go"
    db.close()


def test_a_history_that_is_there_is_opened_and_the_old_one_stays(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "history.sqlite3"
    other = HistoryStore(target)
    other.add(numbered(7))
    other.close()
    store = HistoryStore(path)
    store.add(numbered(1))
    assert "stay in" in store.move_to(target)
    assert [e.id for e in store.entries()] == [numbered(7).id]
    assert "is in" in store.move_to(target)
    store.move_to(path)
    assert [e.id for e in store.entries()] == [numbered(1).id]
    store.close()


def test_another_window_on_the_file_keeps_it_where_it_is(path: Path, tmp_path: Path) -> None:
    store, second = HistoryStore(path), HistoryStore(path)
    store.add(numbered(1))
    with pytest.raises(HistoryError, match="Another window"):
        store.move_to(tmp_path / "new" / "history.sqlite3")
    second.add(numbered(2))
    assert len(store.entries()) == 2
    second.close()
    store.close()


def test_a_folder_that_cannot_be_written_is_refused(path: Path, tmp_path: Path) -> None:
    store = HistoryStore(path)
    store.add(numbered(1))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(HistoryError, match="cannot be moved"):
        store.move_to(tmp_path / "file" / "history.sqlite3")
    store.add(numbered(2))
    store.close()
    again = HistoryStore(path)
    assert len(again.entries()) == 2
    again.close()
