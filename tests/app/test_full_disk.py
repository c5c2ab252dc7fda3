"""The disk becomes full at every write of the program: a plain sentence, nothing half-made, what was there stays.

Beyond a size no file of this process can grow, so that the write fails where it is; docs/tools/robustness/disk_full.py
does the same on a small file system.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from app.history.store import HistoryError, HistoryStore
from tests.app.full_disk import PLACES, SILENT, files_below

PLAIN = r"the disk is full\. Make room|disk of .* is full\. Make room"


SLOW = frozenset({"conversion of a GGUF file"})


def failure(write: Callable[[], object]) -> Exception | None:
    try:
        write()
    except Exception as error:
        return error
    return None


@pytest.mark.usefixtures("private_cache", "qtbot")
@pytest.mark.parametrize("name", PLACES)
def test_a_full_disk(name: str, tmp_path: Path, small_files: Callable[[int], None]) -> None:
    place = PLACES[name](tmp_path)
    place.write()
    place.read()
    before = files_below(tmp_path)
    failed = 0
    for size in (1_000,) if name in SLOW else (0, 1_000, 9_000):
        small_files(size)
        error = failure(place.write)
        small_files(-1)
        assert files_below(tmp_path) == before
        place.read()
        failed += error is not None
        if name == "history":
            assert isinstance(error, (sqlite3.Error, HistoryError))
        elif error is not None:
            assert re.search(PLAIN, str(error)), repr(error)
    assert bool(failed) == (name not in SILENT)
    place.write()
    place.read()


def test_a_history_that_cannot_be_opened_for_want_of_room_is_not_set_aside(
    tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    path = tmp_path / "history.sqlite3"
    HistoryStore(path).close()
    small_files(1_000)
    with pytest.raises(HistoryError, match="the disk is full"):
        HistoryStore(path)
    small_files(-1)
    assert [p.name for p in tmp_path.iterdir() if "damaged" in p.name] == []
    store = HistoryStore(path)
    assert store.notice == ""
    store.close()
