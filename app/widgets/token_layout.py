"""Where each token is in the shown text: positions in UTF-16 units, looked up by bisection."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.theme.roles import TokenRole
from pass_core.decoding.events import DraftNode, DraftStatus, Provenance, StepEvent, TokenEvent

# Characters that a Qt document would drop or turn into something of another length.
_REPLACED = {"\r": "␍", "\0": "␀", "\ufdd0": "\ufffd", "\ufdd1": "\ufffd"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of shown text.

    Attributes:
        text: as shown, of the same length as the token's own.
        role: how it looks.
        step: the event it came from.
        token: the emitted token, None for a rejected draft.
        draft: the rejected draft, None for an emitted token.
    """

    text: str
    role: TokenRole
    step: StepEvent
    token: TokenEvent | None = None
    draft: DraftNode | None = None


@dataclass(slots=True)
class TokenLayout:
    """Start positions of all pieces, in order."""

    length: int = 0
    starts: list[int] = field(default_factory=list[int])
    pieces: list[Piece] = field(default_factory=list[Piece])
    index_of_token: dict[int, int] = field(default_factory=dict[int, int])

    def append(self, piece: Piece) -> None:
        """Add a piece at the end."""
        if piece.token is not None:
            self.index_of_token[piece.token.index] = len(self.pieces)
        self.starts.append(self.length)
        self.pieces.append(piece)
        self.length += utf16_length(piece.text)

    def cut(self, number: int) -> int:
        """Drop a piece and all behind it; returns where it began."""
        start = self.starts[number]
        for piece in self.pieces[number:]:
            if piece.token is not None:
                del self.index_of_token[piece.token.index]
        del self.pieces[number:], self.starts[number:]
        self.length = start
        return start

    def at(self, position: int) -> int | None:
        """Number of the piece that covers a UTF-16 position; the last one where several start there."""
        if not 0 <= position < self.length:
            return None
        return bisect_right(self.starts, position) - 1

    def span(self, number: int) -> tuple[int, int]:
        """Start and end of a piece."""
        return self.starts[number], self.starts[number] + utf16_length(self.pieces[number].text)


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units, as Qt counts."""
    return len(text) + sum(ord(c) > 0xFFFF for c in text)


def shown(text: str) -> str:
    """`text` with the characters that Qt would swallow replaced one for one."""
    for bad, good in _REPLACED.items():
        if bad in text:
            text = text.replace(bad, good)
    return text


def pieces_of(step: StepEvent, *, ghosts: bool) -> list[Piece]:
    """The shown pieces of a step, in order.

    Args:
        ghosts: put the rejected draft beside the token that replaced it (the likeliest one where there were several).
    """
    out: list[Piece] = []
    for token in step.tokens:
        if ghosts and token.provenance is Provenance.CORRECTED:
            rejected = rejected_drafts(step, token)
            if rejected:
                out.append(Piece(_ghost_text(rejected[0]), TokenRole.GHOST, step, draft=rejected[0]))
        out.append(Piece(shown(token.text), TokenRole.of(token), step, token=token))
    return out


def _ghost_text(draft: DraftNode) -> str:
    """A rejected draft must not break the line: line ends and tabs are shown as signs."""
    return shown(draft.text.replace("\n", "⏎").replace("\t", "⇥").replace("\u2028", "⏎").replace("\u2029", "⏎"))


def rejected_drafts(step: StepEvent, token: TokenEvent) -> Sequence[DraftNode]:
    """The drafts that were examined and lost at a corrected token's position, the draft model's favourite first."""
    losers = [d for d in step.drafts if d.status is DraftStatus.REJECTED and d.depth == token.draft_position]
    return sorted(losers, key=lambda d: -(d.p_draft or 0.0))
