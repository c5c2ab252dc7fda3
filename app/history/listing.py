"""The list of runs: its lines, in which order and which of them, asked of the database."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from pass_core.records.runs import RunStatus
from pass_core.settings import method_named
from pass_core.text import well_formed

log = logging.getLogger(__name__)

MOST = 2000
_BETWEEN_TAGS = "\x1f"


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One line of the history list.

    Attributes:
        seconds: decoding time, without the prompt's processing.
        prompt, excerpt: the beginnings of prompt and text (the search looks at these).
        bytes: what its steps take in the file.
        tags: in alphabetical order.
    """

    id: str
    created: datetime
    title: str
    pinned: bool
    status: RunStatus
    group: str
    prompt: str
    excerpt: str
    model: str
    strategy: str
    k: int
    tokens: int
    calls: int
    accepted: int
    proposed: int
    seconds: float
    bytes: int
    tags: tuple[str, ...] = ()


class SortKey(StrEnum):
    """What the list is sorted by."""

    USUAL = "usual"  # pinned first, then the newest
    TITLE = "title"
    WHEN = "when"
    MODEL = "model"
    STRATEGY = "strategy"
    TOKENS = "tokens"
    SPEED = "speed"
    PER_CALL = "per_call"
    ACCEPTANCE = "acceptance"
    SIZE = "size"
    TAGS = "tags"


_TAGS = f"(SELECT group_concat(tag, '{_BETWEEN_TAGS}') FROM (SELECT tag FROM tags WHERE run = runs.id ORDER BY tag))"
_ORDERS = {
    SortKey.TITLE: "(CASE WHEN title != '' THEN title ELSE prompt || ' ' || excerpt END) COLLATE NOCASE",
    SortKey.WHEN: "created",
    SortKey.MODEL: "model COLLATE NOCASE",
    SortKey.STRATEGY: "strategy || printf('%4d', k)",
    SortKey.TOKENS: "tokens",
    SortKey.SPEED: "(CASE WHEN seconds > 0 THEN tokens / seconds END)",
    SortKey.PER_CALL: "(CASE WHEN calls > 0 THEN 1.0 * tokens / calls END)",
    SortKey.ACCEPTANCE: "(CASE WHEN proposed > 0 THEN 1.0 * accepted / proposed END)",
    SortKey.SIZE: "bytes",
    SortKey.TAGS: f"{_TAGS} COLLATE NOCASE",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs to list, and how.

    Attributes:
        query: every word must occur in title, prompt, text, model or tags.
        tag: only runs with it; "" for all.
        sort, descending: runs that have no such figure come last either way.
    """

    query: str = ""
    tag: str = ""
    sort: SortKey = SortKey.USUAL
    descending: bool = False


EVERYTHING = Wanted()


def entries(db: sqlite3.Connection, wanted: Wanted, limit: int = MOST) -> list[RunEntry]:
    """The runs that are wanted; one with a damaged cell is left out, and logged."""
    searched = (
        f"(title || ' ' || prompt || ' ' || excerpt || ' ' || model || ' ' || strategy || ' ' || ifnull({_TAGS}, ''))"
    )
    words = wanted.query.split()
    conditions = [f"{searched} LIKE ? ESCAPE '\\'" for _ in words]
    values: list[Any] = [f"%{_escape(well_formed(w))}%" for w in words]
    if wanted.tag:
        conditions.append("id IN (SELECT run FROM tags WHERE tag = ?)")
        values.append(well_formed(wanted.tag))
    first = "pinned DESC"
    if (by := _ORDERS.get(wanted.sort)) is not None:
        first = f"{by} {'DESC' if wanted.descending else 'ASC'} NULLS LAST"
    rows = db.execute(
        "SELECT id, created, title, pinned, status, grouped, prompt, excerpt, model, strategy, k, tokens, calls, "
        f"accepted, proposed, seconds, bytes, {_TAGS} FROM runs "
        f"{'WHERE ' + ' AND '.join(conditions) if conditions else ''} "
        f"ORDER BY {first}, created DESC, rowid DESC LIMIT ?",
        [*values, limit],
    )
    return [entry for row in rows.fetchall() if (entry := _entry(row)) is not None]


def _entry(row: tuple[Any, ...]) -> RunEntry | None:
    """A line of the list; None where a cell is damaged."""
    try:
        created, pinned, status = datetime.fromisoformat(row[1]), bool(row[3]), RunStatus(row[4])
        tags = tuple(row[17].split(_BETWEEN_TAGS)) if row[17] else ()
        entry = RunEntry(row[0], created, row[2], pinned, status, *row[5:17], tags=tags)
        method_named(entry.strategy)
        texts = (entry.id, entry.title, entry.group, entry.prompt, entry.excerpt, entry.model)
        counts = (entry.k, entry.tokens, entry.calls, entry.accepted, entry.proposed, entry.bytes)
        if not all(isinstance(x, str) for x in texts) or not all(isinstance(x, int) for x in counts):
            raise TypeError("a cell has another type")
        return replace(entry, seconds=float(entry.seconds))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        log.warning("a run of the history is damaged and not shown: %s", error)
        return None


def _escape(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
