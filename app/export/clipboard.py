"""A run's text to the clipboard, plain or coloured."""

from __future__ import annotations

import atexit
from collections.abc import Iterable

from PySide6.QtCore import QMimeData
from PySide6.QtGui import QGuiApplication

from app.export.page import clipboard_html, shown_pieces
from app.theme.roles import LIGHT
from pass_core.decoding.events import StepEvent


def plain_text(steps: Iterable[StepEvent]) -> str:
    """The generated text, without the stop string that ended it."""
    steps = tuple(steps)
    text = "".join(t.text for s in steps for t in s.tokens)
    return text[: len(text) - steps[-1].stop_overlap] if steps else ""


def copy_plain(steps: Iterable[StepEvent]) -> None:
    """Put the generated text into the clipboard."""
    QGuiApplication.clipboard().setText(plain_text(steps))


def copy_coloured(steps: Iterable[StepEvent]) -> None:
    """Put the text into the clipboard in colour (for documents, hence in the light colours) and plain beside it."""
    steps = tuple(steps)
    data = QMimeData()
    data.setHtml(clipboard_html(shown_pieces(steps, ghosts=False), LIGHT))
    data.setText(plain_text(steps))
    QGuiApplication.clipboard().setMimeData(data)
    atexit.unregister(_leave_plain_text)
    atexit.register(_leave_plain_text, plain_text(steps))


def _leave_plain_text(ours: str) -> None:
    """At exit, replace what Python made by the same as plain text, unless something else was copied since.

    Qt asks the clipboard's data for their types when the interpreter is gone already, and crashes on data of ours.
    """
    if isinstance(QGuiApplication.instance(), QGuiApplication):
        clipboard = QGuiApplication.clipboard()
        if clipboard.text() == ours:
            clipboard.setText(ours)
