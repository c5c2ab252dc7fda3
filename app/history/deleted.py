"""Runs that were deleted in this session, for as long as they can be brought back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.history.store import HistoryError, HistoryStore
from pass_core.records.runs import RunRecord

KEPT_DELETIONS = 10


@dataclass(frozen=True, slots=True)
class Deletion:
    """What one press of Delete removed; `pinned`: ids of those that were pinned."""

    records: tuple[RunRecord, ...]
    pinned: frozenset[str]


def delete(store: HistoryStore, run_ids: Sequence[str], pinned: frozenset[str]) -> Deletion:
    """Remove runs; what is damaged goes for good."""
    records: list[RunRecord] = []
    for run_id in run_ids:
        try:
            records.append(store.load(run_id))
        except HistoryError:
            continue
    store.delete(run_ids)
    return Deletion(tuple(records), pinned)


def bring_back(store: HistoryStore, deletion: Deletion) -> None:
    """Put the runs back as they were."""
    for record in deletion.records:
        run_id = store.add(record)
        if record.id in deletion.pinned:
            store.pin(run_id, True)
