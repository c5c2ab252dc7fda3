"""Opening the history's SQLite file: its tables and version, a damaged file set aside, who writes which run."""

from __future__ import annotations

import os
import sqlite3
from datetime import datetime
from pathlib import Path

import psutil

from pass_core.files import WriteError, make_private, require_writable

VERSION = 2
ROOM_BYTES = 256 * 1024  # of the files that SQLite keeps beside an open database
_TABLES = """
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
_SINCE = {  # what each version has added
    2: """
CREATE TABLE tags(
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, tag TEXT NOT NULL, PRIMARY KEY(run, tag)
);
CREATE INDEX runs_by_tag ON tags(tag);
""",
}


class HistoryError(RuntimeError):
    """The history cannot do what was asked; the message says why and what to do."""


def open_database(path: Path | None) -> tuple[sqlite3.Connection, str]:
    """Open or create a history file; a damaged one is set aside first.

    Returns:
        The connection, and a sentence for the user about the opening ("" for none).

    Raises:
        HistoryError: the file cannot be opened or was written by a newer version.
    """
    try:
        return _open(path), ""
    except sqlite3.OperationalError as error:
        _refuse_full_disk(path)  # SQLite calls it an I/O error, as it does a damaged file
        if "disk I/O error" not in str(error) and "malformed" not in str(error):
            raise HistoryError(
                f"The history file {path} cannot be opened ({error}). Check that its folder is writable."
            ) from error
        return _set_aside(path)
    except sqlite3.DatabaseError:
        return _set_aside(path)
    except OSError as error:
        _refuse_full_disk(path)
        raise HistoryError(
            f"The history folder {path and path.parent} cannot be made ({error.strerror or error})."
        ) from error


def _refuse_full_disk(path: Path | None) -> None:
    """
    Raises:
        HistoryError: there is no room to open the file in.
    """
    if path is None or not path.parent.exists():
        return
    try:
        require_writable(path, ROOM_BYTES)
    except WriteError as error:
        raise HistoryError(f"The history cannot be opened: {error}") from error


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its other files the same mode
        make_private(path)
    # The store moves into the writer's thread after it was opened; no two threads ever use it at the same time.
    db = sqlite3.connect(path or ":memory:", timeout=10, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise HistoryError(
                f"The history file {path} was written by a newer version of PASS Playground. "
                "Update the program to open it."
            )
        if version == 0:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect only before the first table
        if version < VERSION:
            _bring_up_to_date(db)
        damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        db.execute("SELECT COUNT(*) FROM runs").fetchone()
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        db.close()
        raise
    return db


def _bring_up_to_date(db: sqlite3.Connection) -> None:
    """Add what a new or an older file lacks; another window may do the same at the same moment."""
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    scripts = [_TABLES] if version == 0 else []
    scripts += [script for number, script in _SINCE.items() if number > version]
    try:
        for statement in "".join(scripts).split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _set_aside(path: Path | None) -> tuple[sqlite3.Connection, str]:
    assert path is not None
    aside = path.with_name(f"{path.stem}-damaged-{datetime.now():%Y%m%d-%H%M%S-%f}{path.suffix}")
    try:
        os.replace(path, aside)
        for tail in ("-wal", "-shm"):
            leftover = path.with_name(path.name + tail)
            if leftover.exists():
                os.replace(leftover, aside.with_name(aside.name + tail))
        db = _open(path)
    except (OSError, sqlite3.Error) as error:
        raise HistoryError(f"The history file {path} is damaged and cannot be set aside ({error}).") from error
    return db, f"The history file was damaged. It was set aside as {aside.name}, and a new one was begun."


def process_mark(pid: int) -> str:
    """A process for ever: its number, and when it began (numbers are used again)."""
    return f"{pid}:{psutil.Process(pid).create_time():.2f}"


def alive(mark: str) -> bool:
    """Whether the process of a mark still runs."""
    try:
        return process_mark(int(mark.partition(":")[0])) == mark
    except (ValueError, psutil.Error):
        return False
