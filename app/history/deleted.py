"""Runs that were deleted in this session, for as long as they can be brought back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.history.listing import RunEntry
from app.history.store import HistoryError, HistoryStore
from pass_core.records.runs import RunRecord

KEPT_DELETIONS = 10


@dataclass(frozen=True, slots=True)
class Deletion:
    """What one press of Delete removed.

    Attributes:
        pinned: ids of those that were pinned.
        tags: of each that had some, by id.
    """

    records: tuple[RunRecord, ...]
    pinned: frozenset[str]
    tags: Mapping[str, tuple[str, ...]]


def delete(store: HistoryStore, entries: Sequence[RunEntry]) -> Deletion:
    """Remove runs; what is damaged goes for good."""
    run_ids = [e.id for e in entries]
    records: list[RunRecord] = []
    for run_id in run_ids:
        try:
            records.append(store.load(run_id))
        except HistoryError:
            continue
    store.delete(run_ids)
    pinned = frozenset(e.id for e in entries if e.pinned)
    return Deletion(tuple(records), pinned, {e.id: e.tags for e in entries if e.tags})


def bring_back(store: HistoryStore, deletion: Deletion) -> None:
    """Put the runs back as they were."""
    for record in deletion.records:
        run_id = store.add(record)
        if record.id in deletion.pinned:
            store.pin(run_id, True)
        for tag in deletion.tags.get(record.id, ()):
            store.tag([run_id], tag)
