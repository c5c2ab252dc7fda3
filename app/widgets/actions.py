"""Menu entries in one line each."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QKeySequence


def make_action(
    parent: QObject, text: str, work: Callable[[], object] | None = None, *shortcuts: str, checkable: bool = False
) -> QAction:
    """An action that does `work` when it is triggered; with `checkable` connect to `toggled` instead."""
    action = QAction(text, parent)
    action.setCheckable(checkable)
    action.setShortcuts([QKeySequence(s) for s in shortcuts])
    if work is not None:
        action.triggered.connect(lambda *_: work())
    return action
