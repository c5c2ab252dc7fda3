"""Tags of runs: short words of a person's own, kept in the history's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from pass_core.text import well_formed

LONGEST = 40


def clean(tag: str) -> str:
    """A tag as it is kept: one line, no control characters, not too long; "" where nothing is left."""
    words = "".join(c if c.isprintable() else " " for c in well_formed(tag)).split()
    return " ".join(words)[:LONGEST].rstrip()


def add(db: sqlite3.Connection, run_ids: Iterable[str], tag: str) -> None:
    """Tag runs; those that have the tag keep it. Runs that are gone are passed over."""
    if tag := clean(tag):
        db.executemany(
            "INSERT OR IGNORE INTO tags(run, tag) SELECT id, ? FROM runs WHERE id = ?", [(tag, i) for i in run_ids]
        )


def remove(db: sqlite3.Connection, run_ids: Iterable[str], tag: str) -> None:
    """Take a tag from runs."""
    db.executemany("DELETE FROM tags WHERE run = ? AND tag = ?", [(i, tag) for i in run_ids])


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """Every tag in use, in alphabetical order, with the number of its runs."""
    rows = db.execute("SELECT tag, COUNT(*) FROM tags GROUP BY tag ORDER BY tag COLLATE NOCASE, tag")
    return {str(tag): int(number) for tag, number in rows.fetchall()}
