"""The menu that gives tags to the selected runs and takes them away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtWidgets import QInputDialog, QMenu, QWidget

from app.history.listing import RunEntry
from app.history.tags import LONGEST, clean


class TagMenu(QMenu):
    """Made anew whenever it opens.

    Args:
        selected: the runs that it is about.
        known: all tags in use.
        change: gives these runs a tag (True) or takes it from them.
    """

    def __init__(
        self,
        selected: Callable[[], Sequence[RunEntry]],
        known: Callable[[], Sequence[str]],
        change: Callable[[list[str], str, bool], None],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__("Tags", parent)
        self._selected, self._known, self._change = selected, known, change
        self.aboutToShow.connect(self.fill)
        self.fill()

    def fill(self) -> None:
        """A tick stands at the tags that every selected run has."""
        self.clear()
        runs = self._selected()
        for tag in self._known():
            have = sum(tag in run.tags for run in runs)
            entry = self.addAction(tag if have in (0, len(runs)) else f"{tag}  ({have} of {len(runs)})")
            entry.setCheckable(True)
            entry.setChecked(bool(runs) and have == len(runs))
            entry.triggered.connect(lambda on, t=tag: self._toggle(t, on))
        if not self.isEmpty():
            self.addSeparator()
        self.addAction("New tag…", self.ask)

    def add(self, tag: str) -> None:
        """Give the selected runs a tag."""
        if tag := clean(tag):
            self._toggle(tag, True)

    def ask(self) -> None:
        """Let the user write a new tag."""
        dialog = QInputDialog(self.parentWidget())
        dialog.setWindowTitle("New tag")
        dialog.setLabelText(f"A word or two, at most {LONGEST} characters:")
        dialog.textValueSelected.connect(self.add)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _toggle(self, tag: str, on: bool) -> None:
        self._change([run.id for run in self._selected()], tag, on)
