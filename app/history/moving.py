"""Taking the history file to another folder."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from app.history.database import HistoryError


def copy_database(db: sqlite3.Connection, path: Path) -> None:
    """Write all of `db` into a new file that only the user may read.

    Raises:
        HistoryError: it cannot be written; nothing is left of it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        db.execute("VACUUM INTO ?", (str(path),))
    except sqlite3.Error as error:
        path.unlink(missing_ok=True)
        raise _cannot(path, error) from error


def require_alone(db: sqlite3.Connection) -> None:
    """Make sure that no other window has the file of `db` open, and let go of its write-ahead log.

    Raises:
        HistoryError: one has.
    """
    try:
        db.execute("PRAGMA busy_timeout = 0")
        db.execute("PRAGMA journal_mode = DELETE")  # SQLite does that only for the last connection
    except sqlite3.OperationalError as error:
        raise HistoryError("Another window uses this history. Close it, then move the history.") from error
    finally:
        db.execute("PRAGMA busy_timeout = 10000")


def _cannot(path: Path, error: Exception) -> HistoryError:
    return HistoryError(
        f"The history cannot be moved to {path.parent} ({error}). Choose a folder that you may write to."
    )
