"""What a person changes of runs: pins, titles, tags, and deletions that can be undone."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal

from app.history.deleted import KEPT_DELETIONS, Deletion, bring_back, delete
from app.history.listing import RunEntry
from app.history.service import HistoryService
from app.history.store import HistoryStore


class HistoryChanges(QObject):
    """Hands each change to the history; its list is asked for anew when it is done.

    Signals:
        undoable_changed(bool): whether something that was deleted can be brought back.
    """

    undoable_changed = Signal(bool)

    def __init__(self, history: HistoryService, parent: QObject) -> None:
        super().__init__(parent)
        self._history = history
        self._deletions: list[Deletion] = []

    def pin(self, runs: Sequence[RunEntry]) -> None:
        """Pin these runs; where all are pinned, unpin them."""
        pinned = not all(run.pinned for run in runs)

        def work(store: HistoryStore) -> None:
            for run in runs:
                store.pin(run.id, pinned)

        self._history.ask(work, changes=True)

    def rename(self, run_id: str, title: str) -> None:
        """Give a run another title."""
        self._history.ask(lambda store: store.rename(run_id, title), changes=True)

    def tag(self, run_ids: list[str], tag: str, on: bool) -> None:
        """Give runs a tag, or take it from them."""
        self._history.ask(lambda store: store.tag(run_ids, tag, on=on), changes=True)

    def delete(self, runs: Sequence[RunEntry]) -> None:
        """Remove runs; `undo` brings them back."""
        self._history.ask(lambda store: delete(store, runs), self._deleted, owner=self, changes=True)

    def undo(self) -> None:
        """Bring back what the last deletion removed."""
        if self._deletions:
            deletion = self._deletions.pop()
            self._history.ask(lambda store: bring_back(store, deletion), changes=True)
        self.undoable_changed.emit(bool(self._deletions))

    def _deleted(self, deletion: Deletion) -> None:
        if deletion.records:
            self._deletions = [*self._deletions, deletion][-KEPT_DELETIONS:]
        self.undoable_changed.emit(bool(self._deletions))
