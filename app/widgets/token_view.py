"""The streaming text: every token in the colour and underline of its provenance, from engine events alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from PySide6.QtCore import QEvent, QMimeData, QPoint, QRect, Qt, QTimer, Signal
from PySide6.QtGui import (
    QHideEvent,
    QMouseEvent,
    QPaintEvent,
    QResizeEvent,
    QTextCharFormat,
    QTextCursor,
    QTextOption,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QWidget

from app.theme.apply import ThemeManager
from app.theme.roles import Theme, TokenRole
from app.theme.scale import sized
from app.widgets.hover_card import HoverCard
from app.widgets.token_layout import Piece, TokenLayout, pieces_of, shown, utf16_length
from app.widgets.token_look import ROLE_PROPERTY, paint_empty, token_formats
from app.widgets.token_marks import Found, bring_into_view, selections
from pass_core.decoding.events import StepEvent

USUAL_POINTS, MIN_POINTS, MAX_POINTS = 11.5, 7.0, 28.0


class TokenView(QPlainTextEdit):
    """A read-only editor that appends steps.

    Attributes:
        layout_: positions of all tokens.
        hover_card: the card that explains the hovered token.
        steps: the steps shown, in order.

    Signals:
        token_clicked(StepEvent, object): step and TokenEvent (or DraftNode of a ghost) under a click.
        token_hovered(object): the Piece under the mouse, None when it left.
    """

    token_clicked = Signal(object, object)
    token_hovered = Signal(object)

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._formats: dict[TokenRole | None, QTextCharFormat] = {}
        self._prompt = ""
        self._offset = 0
        self._ghosts = False
        self._hovered: int | None = None
        self._marked: tuple[int, ...] = ()
        self._found = Found()
        self._empty = ("", "")
        self.hover_card = HoverCard(theme, self)
        self._hover_delay = QTimer(self)
        self._hover_delay.setSingleShot(True)
        self._hover_delay.setInterval(120)
        self._hover_delay.timeout.connect(self._show_card)
        self.layout_ = TokenLayout()
        self.steps: list[StepEvent] = []
        self.setObjectName("tokenView")
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.reset_zoom()
        sized(self, min_height=112)  # a few lines, however small the window
        self.document().setDocumentMargin(16)
        self.setMouseTracking(True)
        self.viewport().setMouseTracking(True)
        self.setAccessibleName("Generated text")
        theme.changed.connect(self._restyle)
        self._formats = token_formats(theme.current)

    # -- content ---------------------------------------------------------------------------------------------------

    def start(self, prompt: str = "") -> None:
        """Empty the view; the prompt stands before the text in a quiet colour."""
        self._hide_card()
        self.layout_ = TokenLayout()
        self.steps = []
        self._marked = ()
        self._found = Found()
        self._prompt = shown(prompt)
        self._offset = utf16_length(self._prompt)
        self.clear()
        self._highlight()
        if self._prompt:
            cursor = self._end_cursor()
            cursor.insertText(self._prompt, self._formats[None])
        self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())
        self.viewport().update()

    def append_steps(self, steps: Iterable[StepEvent]) -> None:
        """Append the tokens of steps in one edit; scrolls along only when the end was in sight."""
        new = list(steps)
        self.steps.extend(new)
        bar = self.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        self._insert([p for s in new for p in pieces_of(s, ghosts=self._ghosts)])
        if new and new[-1].stop_overlap:
            self._fade_tail(new[-1].stop_overlap)
        if at_end:
            bar.setValue(bar.maximum())

    def truncate(self, tokens: int) -> None:
        """Take away all but the first `tokens` tokens (a replay that goes back), without drawing the rest anew."""
        number = self.layout_.index_of_token.get(tokens)
        if number is None:
            return
        if number and self.layout_.pieces[number - 1].token is None:
            number -= 1  # a rejected draft stands before the token that replaced it
        self._hide_card()
        start = self.layout_.cut(number)
        cursor = self._end_cursor()
        cursor.setPosition(self._offset + start, QTextCursor.MoveMode.KeepAnchor)
        cursor.removeSelectedText()
        while self.steps and (not self.steps[-1].tokens or self.steps[-1].tokens[0].index >= tokens):
            self.steps.pop()
        if self.steps and self.steps[-1].tokens[-1].index >= tokens:
            last = self.steps[-1]
            kept = tuple(t for t in last.tokens if t.index < tokens)
            self.steps[-1] = replace(last, tokens=kept, stop_overlap=0)
        self._highlight()

    def set_ghosts(self, on: bool) -> None:
        """Show or hide the rejected drafts beside their corrections."""
        if on != self._ghosts:
            self._ghosts = on
            self._rebuild()

    def set_empty_state(self, title: str, text: str) -> None:
        """The text in the middle while nothing is written."""
        self._empty = (title, text)
        self.viewport().update()

    def plain_text(self) -> str:
        """The generated text alone, without prompt and ghosts."""
        return "".join(t.text for s in self.steps for t in s.tokens)

    def mark_tokens(self, indices: Iterable[int]) -> None:
        """Outline tokens by their index (inspector, divergence); an empty list clears."""
        self._marked = tuple(indices)
        self._highlight()

    def reveal(self, index: int) -> None:
        """Scroll to a token."""
        number = self.layout_.index_of_token.get(index)
        if number is not None:
            cursor = self.textCursor()
            cursor.setPosition(self._offset + self.layout_.span(number)[0])
            self.setTextCursor(cursor)
            self.ensureCursorVisible()

    def role_at(self, position: int) -> TokenRole | None:
        """The role of the character at a UTF-16 document position, as it is drawn (None for the prompt)."""
        cursor = QTextCursor(self.document())
        cursor.setPosition(position + 1)
        value = cursor.charFormat().property(int(ROLE_PROPERTY))
        return TokenRole(value) if value else None

    def zoom(self, steps: int) -> None:
        """Larger or smaller text."""
        self._points = min(MAX_POINTS, max(MIN_POINTS, self._points + steps))
        sized(self, mono=self._points)

    def reset_zoom(self) -> None:
        """The size of the beginning."""
        self._points = USUAL_POINTS
        sized(self, mono=self._points)

    # -- drawing ---------------------------------------------------------------------------------------------------

    def _insert(self, pieces: list[Piece]) -> None:
        """Neighbours of equal role go in as one string: far fewer document fragments."""
        if not pieces:
            return
        was_empty = self.layout_.length == 0
        cursor = self._end_cursor()
        cursor.beginEditBlock()
        run, role = "", pieces[0].role
        for piece in pieces:
            self.layout_.append(piece)
            if piece.role is not role:
                if run:
                    cursor.insertText(run, self._formats[role])
                run, role = "", piece.role
            run += piece.text
        if run:
            cursor.insertText(run, self._formats[role])
        cursor.endEditBlock()
        if was_empty:
            self.viewport().update()

    def _rebuild(self) -> None:
        """Draw everything anew from the kept steps (theme or ghosts changed)."""
        bar = self.verticalScrollBar()
        at_end, value = bar.value() >= bar.maximum() - 2, bar.value()
        steps, prompt, marked = self.steps, self._prompt, self._marked
        self.start(prompt)
        self.append_steps(steps)
        self.mark_tokens(marked)
        bar.setValue(bar.maximum() if at_end else value)

    def _end_cursor(self) -> QTextCursor:
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        return cursor

    def _fade_tail(self, characters: int) -> None:
        """The stop string was generated but is no part of the text: show it as a ghost."""
        tail = shown(self.plain_text())[-characters:]
        cursor = self._end_cursor()
        cursor.movePosition(
            QTextCursor.MoveOperation.PreviousCharacter, QTextCursor.MoveMode.KeepAnchor, utf16_length(tail)
        )
        cursor.setCharFormat(self._formats[TokenRole.GHOST])

    def _restyle(self, theme: Theme) -> None:
        self._formats = token_formats(theme)
        self._rebuild()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self._empty[0] and not self.steps and not self._prompt:
            paint_empty(self.viewport(), self._theme.current, *self._empty)

    # -- mouse -----------------------------------------------------------------------------------------------------

    def piece_at(self, point: QPoint) -> int | None:
        """Number of the piece under a viewport point, None beside the text."""
        cursor = self.cursorForPosition(point)
        rect = self.cursorRect(cursor)
        if not rect.top() - 4 <= point.y() <= rect.bottom() + 4:
            return None
        position = cursor.position()
        if point.x() < rect.left():
            position -= 1  # cursorForPosition gives the nearest gap; the character left of it is meant
        elif cursor.atBlockEnd() and point.x() > rect.left() + 8:
            return None
        return self.layout_.at(position - self._offset)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        super().mouseMoveEvent(event)
        number = self.piece_at(event.position().toPoint()) if not event.buttons() else None
        if number == self._hovered:
            return
        self._hovered = number
        self._highlight()
        self.viewport().setCursor(Qt.CursorShape.IBeamCursor if number is None else Qt.CursorShape.PointingHandCursor)
        if number is None:
            self._hide_card()
            self.token_hovered.emit(None)
        else:
            self.token_hovered.emit(self.layout_.pieces[number])
            if self.hover_card.isVisible():
                self._show_card()
            else:
                self._hover_delay.start()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        if event.button() is not Qt.MouseButton.LeftButton or self.textCursor().hasSelection():
            return
        number = self.piece_at(event.position().toPoint())
        if number is not None:
            piece = self.layout_.pieces[number]
            self.token_clicked.emit(piece.step, piece.token or piece.draft)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._hide_card()
        self._highlight()

    def hideEvent(self, event: QHideEvent) -> None:
        """Another page came to the front by a key: the card must not stay over it."""
        super().hideEvent(event)
        self._hide_card()

    def wheelEvent(self, event: QWheelEvent) -> None:
        self._hide_card()
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.zoom(1 if event.angleDelta().y() > 0 else -1)
            event.accept()
            return
        super().wheelEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        bar = self.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        super().resizeEvent(event)
        if at_end:
            bar.setValue(bar.maximum())

    def show_card_for(self, index: int) -> None:
        """Show the hover card of a token as if the mouse rested on it (keyboard, screenshots)."""
        number = self.layout_.index_of_token.get(index)
        if number is not None:
            self._hovered = number
            self._highlight()
            self._show_card()

    def _show_card(self) -> None:
        if self._hovered is None or self._hovered >= len(self.layout_.pieces):
            return
        start, end = self.layout_.span(self._hovered)
        cursor = QTextCursor(self.document())
        cursor.setPosition(self._offset + start)
        top = self.cursorRect(cursor)
        cursor.setPosition(self._offset + end)
        bottom = self.cursorRect(cursor)
        rect = top if bottom.top() != top.top() else top.united(bottom)
        self.hover_card.show_piece(
            self.layout_.pieces[self._hovered],
            QRect(self.viewport().mapToGlobal(rect.topLeft()), rect.size()),
        )

    def _hide_card(self) -> None:
        self._hover_delay.stop()
        self._hovered = None
        self.hover_card.hide()

    def _highlight(self) -> None:
        numbers = [self.layout_.index_of_token[i] for i in self._marked if i in self.layout_.index_of_token]
        if self._hovered is not None and self._hovered < len(self.layout_.pieces):
            numbers.append(self._hovered)
        spans = [self.layout_.span(number) for number in numbers]
        tokens = [(self._offset + start, self._offset + end) for start, end in spans]
        self.setExtraSelections(selections(self.document(), self._theme.current, tokens, self._found))

    # -- search ----------------------------------------------------------------------------------------------------

    def searched(self) -> list[tuple[int, str]]:
        """What a search reads, with the place of each part: the prompt, then the tokens without rejected drafts."""
        layout = self.layout_
        tokens = [(s, p.text) for s, p in zip(layout.starts, layout.pieces, strict=True) if p.token is not None]
        return [(0, self._prompt), *((self._offset + start, text) for start, text in tokens)]

    def show_found(self, found: Found, *, scroll: bool) -> None:
        """Mark what was found, and `scroll` to the match in front."""
        self._found = found
        self._highlight()
        if scroll and found.current is not None:
            bring_into_view(self, found.matches[found.current][0][0])

    # -- clipboard -------------------------------------------------------------------------------------------------

    def createMimeDataFromSelection(self) -> QMimeData:
        """Copy the true text of the selection: ghosts are left out, shown stand-ins become the real characters."""
        cursor = self.textCursor()
        start, end = cursor.selectionStart(), cursor.selectionEnd()
        parts: list[str] = []
        if start < self._offset:
            parts.append(_slice16(self._prompt, start, min(end, self._offset)))
        first, last = start - self._offset, end - self._offset
        for number, piece in enumerate(self.layout_.pieces):
            low, high = self.layout_.span(number)
            if piece.token is None or high <= first or low >= last:
                continue
            parts.append(_slice16(piece.token.text, max(0, first - low), min(high, last) - low))
        data = QMimeData()
        data.setText("".join(parts))
        return data


def _slice16(text: str, start: int, end: int) -> str:
    """A slice by UTF-16 positions."""
    return text.encode("utf-16-le", "surrogatepass")[2 * start : 2 * end].decode("utf-16-le", "replace")
