"""The history file: runs and their steps in SQLite, crash-safe and bounded in size. Used from one thread at a time.

A run is one row of `runs` (its header, and the figures that the list shows) and some rows of `batches`:
zlib-compressed JSON lines, one step a line. Every call commits before it returns; with the write-ahead log a killed
process loses what it had not handed over yet and nothing else.
"""

from __future__ import annotations

import json
import logging
import math
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from app.history import listing, tags
from app.history.database import HistoryError, alive, open_database, process_mark
from app.history.listing import EVERYTHING, RunEntry, Wanted
from app.history.moving import copy_database, require_alone
from pass_core.decoding.events import StepEvent
from pass_core.decoding.summary import Summary, summarize
from pass_core.records.runs import (
    RunRecord,
    RunStatus,
    header_from_dict,
    header_to_dict,
    step_from_dict,
    step_to_dict,
)
from pass_core.text import well_formed

log = logging.getLogger(__name__)
DEFAULT_LIMIT = 500_000_000
EXCERPT = 4000
LARGEST_BATCH = 1_000_000_000  # bytes of JSON; a damaged or hostile one may unfold to any size
_MOST = 2**63 - 1


class HistoryStore:
    """Opens or creates a history file.

    Args:
        path: the file; None keeps the history in memory only.
        limit: bytes that the file may hold; the oldest runs that are not pinned go first.

    Attributes:
        notice: a sentence for the user about the opening ("" for none).

    Raises:
        HistoryError: the file cannot be opened or was written by a newer version.
    """

    def __init__(self, path: Path | None, limit: int = DEFAULT_LIMIT) -> None:
        self.path, self.limit = path, limit
        self._writer = process_mark(os.getpid())
        self._db, self.notice = open_database(path)
        self._settle_unfinished()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._db.close()

    # --- writing a run ---

    def begin(self, record: RunRecord) -> None:
        """Add a run that starts now; its steps follow by `append`."""
        self._insert(replace(record, steps=(), status=RunStatus.RUNNING), writer=self._writer)

    def append(self, run_id: str, steps: Sequence[StepEvent], so_far: Summary, excerpt: str) -> bool:
        """Commit more steps of a run.

        Args:
            so_far: the run's totals with these steps.
            excerpt: the beginning of its text, for the list and the search.

        Returns:
            False when the run is not in the history any more (it was deleted meanwhile).
        """
        with self._transaction():
            number = self._db.execute("SELECT COUNT(*) FROM batches WHERE run = ?", (run_id,)).fetchone()[0]
            if not self._db.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone():
                return False
            data = _pack(steps)
            self._db.execute("INSERT INTO batches VALUES (?, ?, ?)", (run_id, number, data))
            self._db.execute("UPDATE runs SET bytes = bytes + ? WHERE id = ?", (len(data), run_id))
            self._set_figures(run_id, so_far, excerpt)
        return True

    def finish(self, run_id: str, status: RunStatus = RunStatus.FINISHED) -> None:
        """Mark a run as over, merge its batches (they compress better as one) and keep the size bounded."""
        with self._transaction():
            try:
                lines = b"".join(_unpacked(d) for d in self._batches(run_id))
            except _DAMAGED:  # they stay as they are: what can be read of them is not made worse
                log.warning("the steps of run %s are damaged", run_id)
                lines = None
            if lines is not None:
                self._db.execute("DELETE FROM batches WHERE run = ?", (run_id,))
            if self._db.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone():
                if lines is not None:
                    data = zlib.compress(lines, 6)
                    self._db.execute("INSERT INTO batches VALUES (?, 0, ?)", (run_id, data))
                    self._db.execute("UPDATE runs SET bytes = ? WHERE id = ?", (len(data), run_id))
                self._db.execute("UPDATE runs SET status = ?, writer = '' WHERE id = ?", (status.value, run_id))
        self.enforce_limit()

    def add(self, record: RunRecord) -> str:
        """Add a whole run (an import); one with an id that is taken gets a new one.

        Returns:
            The id under which it is kept.
        """
        if self._db.execute("SELECT 1 FROM runs WHERE id = ?", (record.id,)).fetchone():
            record = replace(record, id=uuid.uuid4().hex)
        status = RunStatus.INTERRUPTED if record.status is RunStatus.RUNNING else record.status
        with self._transaction():
            self._insert(replace(record, status=status))
            data = _pack(record.steps)
            self._db.execute("INSERT INTO batches VALUES (?, 0, ?)", (record.id, data))
            self._db.execute("UPDATE runs SET bytes = ? WHERE id = ?", (len(data), record.id))
            self._set_figures(record.id, summarize(record.steps), record.text[:EXCERPT])
        self.enforce_limit()
        return record.id

    # --- reading ---

    def entries(self, wanted: Wanted = EVERYTHING) -> list[RunEntry]:
        """The runs that are wanted, see `app.history.listing`."""
        return listing.entries(self._db, wanted)

    def tags(self) -> dict[str, int]:
        """Every tag in use with the number of its runs."""
        return tags.counts(self._db)

    def load(self, run_id: str) -> RunRecord:
        """The whole run.

        Raises:
            HistoryError: there is no such run, or its data are damaged.
        """
        row = self._db.execute("SELECT header, title, status FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise HistoryError("This run is not in the history any more.")
        try:
            steps = tuple(step_from_dict(raw) for raw in self._lines(run_id))
            header = header_from_dict(json.loads(row[0]))
            status = RunStatus(row[2])
        except _DAMAGED as error:
            raise HistoryError(f"This run's data are damaged and cannot be shown ({error}). Delete it.") from error
        return replace(header, title=str(row[1]), status=status, steps=steps)

    def size(self) -> int:
        """Bytes in use (what a person is shown against the limit)."""
        pages, free, page = (self._pragma(p) for p in ("page_count", "freelist_count", "page_size"))
        return (pages - free) * page

    # --- what the list offers ---

    def rename(self, run_id: str, title: str) -> None:
        """Give a run another title."""
        with self._transaction():
            self._db.execute("UPDATE runs SET title = ? WHERE id = ?", (well_formed(title), run_id))

    def pin(self, run_id: str, pinned: bool) -> None:
        """Keep a run beyond the size limit, or no longer."""
        with self._transaction():
            self._db.execute("UPDATE runs SET pinned = ? WHERE id = ?", (int(pinned), run_id))

    def tag(self, run_ids: Iterable[str], tag: str, *, on: bool = True) -> None:
        """Give runs a tag, or take it from them."""
        with self._transaction():
            (tags.add if on else tags.remove)(self._db, run_ids, tag)

    def delete(self, run_ids: Iterable[str]) -> None:
        """Remove runs for good."""
        with self._transaction():
            self._db.executemany("DELETE FROM runs WHERE id = ?", [(i,) for i in run_ids])
        self._shrink()

    def move_to(self, path: Path) -> str:
        """Go on in another file: everything is taken along, or a history that is there already is opened.

        Returns:
            A sentence for the user.

        Raises:
            HistoryError: the other file cannot be written or opened; this one stays in use.
        """
        before = self.path
        if before == path:
            return f"The history is in {path.parent}."
        require_alone(self._db)
        try:
            taken_along = not path.exists()
            if taken_along:
                copy_database(self._db, path)
            other, notice = open_database(path)
        except BaseException:
            self._db.execute("PRAGMA journal_mode = WAL")
            raise
        self._db.close()
        self.path, self._db = path, other
        if taken_along:
            if before is not None:
                before.unlink(missing_ok=True)
            return f"The history is in {path.parent} now."
        self._settle_unfinished()
        stay = f" The runs kept until now stay in {before}." if before is not None else ""
        return notice or f"The history that was in {path.parent} already is open.{stay}"

    def set_limit(self, limit: int) -> int:
        """Set another bound of the size, in bytes, and keep it now; returns the number of runs that went."""
        self.limit = limit
        return self.enforce_limit()

    def enforce_limit(self) -> int:
        """Drop the oldest finished runs that are not pinned until the file is within its limit; how many went."""
        dropped = 0
        with self._transaction():
            while self.size() > self.limit:
                oldest = self._db.execute(
                    "SELECT id FROM runs WHERE pinned = 0 AND status != ? ORDER BY created, rowid LIMIT 1",
                    (RunStatus.RUNNING.value,),
                ).fetchone()
                if oldest is None:
                    break
                self._db.execute("DELETE FROM runs WHERE id = ?", oldest)
                dropped += 1
        if dropped:
            self._shrink()
        return dropped

    # --- within ---

    def _settle_unfinished(self) -> None:
        """Runs whose process is gone ended with it."""
        rows = self._db.execute("SELECT id, writer FROM runs WHERE status = ?", (RunStatus.RUNNING.value,)).fetchall()
        gone = [(RunStatus.INTERRUPTED.value, i) for i, w in rows if w == self._writer or not alive(str(w))]
        if gone:
            with self._transaction():
                self._db.executemany("UPDATE runs SET status = ?, writer = '' WHERE id = ?", gone)

    def _insert(self, record: RunRecord, writer: str = "") -> None:
        self._db.execute(
            "INSERT INTO runs(id, created, title, status, writer, grouped, prompt, model, strategy, k, header) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                well_formed(record.id),
                record.created.isoformat(timespec="microseconds"),
                well_formed(record.title),
                record.status.value,
                writer,
                well_formed(record.group),
                well_formed((record.typed if record.typed is not None else record.prompt)[:EXCERPT]),
                well_formed(record.model.name),
                record.settings.strategy.value,
                record.settings.k,
                json.dumps(header_to_dict(record)),
            ),
        )

    def _set_figures(self, run_id: str, s: Summary, excerpt: str) -> None:
        self._db.execute(
            "UPDATE runs SET tokens = ?, calls = ?, accepted = ?, proposed = ?, seconds = ?, excerpt = ? WHERE id = ?",
            (
                *(min(n, _MOST) for n in (s.new_tokens, s.calls, s.accepted, s.proposed)),
                0.0 if math.isnan(s.decode_seconds) else s.decode_seconds,
                well_formed(excerpt[:EXCERPT]),
                run_id,
            ),
        )

    def _batches(self, run_id: str) -> Iterator[bytes]:
        for (data,) in self._db.execute("SELECT data FROM batches WHERE run = ? ORDER BY number", (run_id,)):
            yield data

    def _lines(self, run_id: str) -> Iterator[object]:
        for data in self._batches(run_id):
            for line in _unpacked(data).splitlines():
                yield json.loads(line)

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _shrink(self) -> None:
        self._db.execute("PRAGMA incremental_vacuum").fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _pack(steps: Sequence[StepEvent]) -> bytes:
    return zlib.compress("".join(json.dumps(step_to_dict(s), allow_nan=False) + "\n" for s in steps).encode(), 6)


_DAMAGED = (ValueError, TypeError, OverflowError, RecursionError, zlib.error)


def _unpacked(data: bytes) -> bytes:
    """
    Raises:
        zlib.error, ValueError, TypeError: it is no whole batch.
    """
    unpacker = zlib.decompressobj()
    lines = unpacker.decompress(data, LARGEST_BATCH)
    if not unpacker.eof:
        raise ValueError("a batch of steps is cut short or too large")
    return lines
