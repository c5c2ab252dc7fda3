"""How stretches of the shown text are marked: hovered and pointed-out tokens, and what a search has found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PySide6.QtGui import QColor, QTextCursor, QTextDocument
from PySide6.QtWidgets import QPlainTextEdit, QScrollArea, QTextEdit

from app.theme.roles import Theme
from app.widgets.find import Match, Span

MARGIN = 48  # pixels above and below what is looked for
MOST_MARKED = 500  # matches around the one in front; more would make every key slow in a long text


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found in one view; `current` is the match in front, None where that is elsewhere."""

    matches: Sequence[Match] = ()
    current: int | None = None


def selections(
    document: QTextDocument, theme: Theme, tokens: Iterable[Span], found: Found
) -> list[QTextEdit.ExtraSelection]:
    """Marks of tokens, above them those of a search."""
    marked = [_mark(document, span, theme.selection) for span in tokens]
    middle = found.current or 0
    low = max(0, middle - MOST_MARKED // 2)
    for number in range(low, min(len(found.matches), low + MOST_MARKED)):
        in_front = number == found.current
        back, front = (theme.accent, theme.on_accent) if in_front else (theme.warning_soft, theme.text)
        spans = [span for span in found.matches[number] if span[1] < document.characterCount()]  # the text may shrink
        marked += [_mark(document, span, back, front) for span in spans]
    return marked


def _mark(document: QTextDocument, span: Span, back: str, front: str = "") -> QTextEdit.ExtraSelection:
    selection = QTextEdit.ExtraSelection()
    cursor = QTextCursor(document)
    cursor.setPosition(span[0])
    cursor.setPosition(span[1], QTextCursor.MoveMode.KeepAnchor)
    selection.cursor = cursor  # type: ignore[attr-defined]
    selection.format.setBackground(QColor(back))  # type: ignore[attr-defined]
    if front:
        selection.format.setForeground(QColor(front))  # type: ignore[attr-defined]
    return selection


def bring_into_view(view: QPlainTextEdit, position: int) -> None:
    """Scroll to a place of the document, in the view and in everything that scrolls it; a selection goes."""
    cursor = QTextCursor(view.document())
    cursor.setPosition(position)
    view.setTextCursor(cursor)
    view.ensureCursorVisible()
    place, area = view.cursorRect(cursor).center(), view.parentWidget()
    while area is not None:
        if isinstance(area, QScrollArea) and (body := area.widget()) is not None:
            inside = view.viewport().mapTo(body, place)
            area.ensureVisible(inside.x(), inside.y(), 0, MARGIN)
        area = area.parentWidget()
