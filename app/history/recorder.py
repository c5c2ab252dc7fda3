"""The thread that owns the history file: runs stream in and are committed every half second; questions are answered."""

from __future__ import annotations

import copy
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.history.store import DEFAULT_LIMIT, EXCERPT, HistoryError, HistoryStore
from pass_core.decoding.events import StepEvent
from pass_core.decoding.summary import SummaryBuilder
from pass_core.records.runs import RunRecord, RunStatus

log = logging.getLogger(__name__)
COMMIT_SECONDS = 0.5


@dataclass(slots=True)
class _Open:
    """A run being recorded: what is not committed yet, and its totals."""

    waiting: list[StepEvent] = field(default_factory=list[StepEvent])
    totals: SummaryBuilder = field(default_factory=SummaryBuilder)
    excerpt: str = ""
    committed: float = 0.0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class _Begin:
    make: Callable[[], RunRecord]
    run: str


@dataclass(frozen=True, slots=True)
class _Steps:
    run: str
    steps: tuple[StepEvent, ...]


@dataclass(frozen=True, slots=True)
class _End:
    run: str


@dataclass(frozen=True, slots=True)
class _Ask:
    work: Callable[[HistoryStore], Any]
    reply: Callable[[Any, BaseException | None], None]


class _Quit:
    pass


class HistoryRecorder:
    """Starts the thread; no method blocks, and any thread may call them.

    Args:
        path: the history file; None keeps the history in memory only.
        notify: called (in the recorder's thread) with a sentence for the user.
        committed: called (in the recorder's thread) with a run's id and how many of its steps are on the disk.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        limit: int = DEFAULT_LIMIT,
        notify: Callable[[str], None] = log.warning,
        committed: Callable[[str, int], None] = lambda run, steps: None,
        commit_seconds: float = COMMIT_SECONDS,
    ) -> None:
        self._path, self._limit = path, limit
        self._notify, self._committed = notify, committed
        self._commit_seconds = commit_seconds
        self._queue: queue.SimpleQueue[_Begin | _Steps | _End | _Ask | _Quit] = queue.SimpleQueue()
        self._open: dict[str, _Open] = {}
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def begin(self, run: str, make: Callable[[], RunRecord]) -> None:
        """A run starts; `make` gives its record (called in the recorder's thread, as hashing takes a moment)."""
        self._queue.put(_Begin(make, run))

    def steps(self, run: str, steps: tuple[StepEvent, ...]) -> None:
        """More steps of a run that has begun."""
        self._queue.put(_Steps(run, steps))

    def end(self, run: str) -> None:
        """The run is over: commit everything now."""
        self._queue.put(_End(run))

    def ask(self, work: Callable[[HistoryStore], Any], reply: Callable[[Any, BaseException | None], None]) -> None:
        """Do anything else with the store in its thread; `reply` is called there with the result or the error."""
        self._queue.put(_Ask(work, reply))

    def close(self) -> None:
        """Commit what is waiting, close the file and end the thread; runs still open count as interrupted."""
        self._queue.put(_Quit())
        self._thread.join()

    # --- in the recorder's thread ---

    def _run(self) -> None:
        store = self._open_store()
        try:
            while True:
                try:
                    message = self._queue.get(timeout=self._until_due())
                except queue.Empty:
                    self._commit_due(store)
                    continue
                if isinstance(message, _Quit):
                    break
                self._handle(store, message)
                self._commit_due(store)
        finally:
            for run in list(self._open):
                self._guarded(lambda run=run: self._commit(store, run))
            store.close()

    def _open_store(self) -> HistoryStore:
        try:
            store = HistoryStore(self._path, self._limit)
        except HistoryError as error:
            self._notify(f"{error} Until then, runs are kept only while this window is open.")
            return HistoryStore(None, self._limit)
        if store.notice:
            self._notify(store.notice)
        return store

    def _handle(self, store: HistoryStore, message: _Begin | _Steps | _End | _Ask) -> None:
        match message:
            case _Begin(make, run):
                self._guarded(lambda: self._begin(store, run, make))
            case _Steps(run, steps):
                if (entry := self._open.get(run)) is not None:
                    entry.waiting.extend(steps)
            case _End(run):
                if run in self._open:
                    self._guarded(lambda: self._commit(store, run), run)
                    entry = self._open.pop(run, None)
                    whole = entry is None or not entry.waiting
                    self._guarded(
                        lambda: store.finish(run, RunStatus.FINISHED if whole else RunStatus.INTERRUPTED), run
                    )
            case _Ask(work, reply):
                try:
                    result, error = work(store), None
                except Exception as raised:
                    result, error = None, raised
                reply(result, error)

    def _begin(self, store: HistoryStore, run: str, make: Callable[[], RunRecord]) -> None:
        record = make()
        store.begin(record)
        self._open[run] = _Open(committed=time.monotonic())

    def _until_due(self) -> float | None:
        due = [e.committed + self._commit_seconds for e in self._open.values() if e.waiting]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _commit_due(self, store: HistoryStore) -> None:
        now = time.monotonic()
        for run, entry in list(self._open.items()):
            if entry.waiting and now >= entry.committed + self._commit_seconds:
                self._guarded(lambda run=run: self._commit(store, run), run)

    def _commit(self, store: HistoryStore, run: str) -> None:
        entry = self._open[run]
        if not entry.waiting:
            return
        entry.committed = time.monotonic()
        totals, excerpt = copy.deepcopy(entry.totals), entry.excerpt
        for step in entry.waiting:
            totals.add(step)
            if len(excerpt) < EXCERPT:
                excerpt += "".join(t.text for t in step.tokens)
        if store.append(run, entry.waiting, totals.summary(), excerpt):  # where it fails, they wait for the next time
            entry.waiting, entry.totals, entry.excerpt = [], totals, excerpt
            self._committed(run, totals.steps)
        else:
            del self._open[run]

    def _guarded(self, work: Callable[[], None], run: str = "") -> None:
        """A full disk must not end the generation, nor this thread; a run is complained of once."""
        try:
            work()
        except (sqlite3.Error, OSError, HistoryError) as error:
            entry = self._open.get(run)
            if entry is not None:
                if entry.failed:
                    return
                entry.failed = True
            log.exception("the history could not be written")
            self._notify(f"This run could not be kept in the history: {error}. Check the free space of the disk.")
        except Exception:
            log.exception("the history could not be written")
            self._notify("This run could not be kept in the history. The log has the details.")
