"""Prepares the panes' look-ahead files before anything is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.compare.pane_setup import LOADED, UNTRAINED, PaneWish
from pass_core.settings import FALLBACK_LOOKAHEAD

if TYPE_CHECKING:
    from app.engine.jobs import JobControl
    from pass_core.engine import Engine
    from pass_core.lookahead.embeddings import LookaheadEmbeddings


def read_lookaheads(
    control: JobControl, engine: Engine, loaded: LookaheadEmbeddings | None, wishes: list[PaneWish]
) -> list[LookaheadEmbeddings | None]:
    """Read what the panes want (in a background thread); a file that does not fit raises its plain error."""
    from pass_core.lookahead.format import load_lookahead
    from pass_core.models.shipped import untrained_lookahead

    model = engine.model

    def read(wish: PaneWish) -> LookaheadEmbeddings | None:
        if not wish.settings.strategy.uses_lookahead:
            return None
        if wish.lookahead == LOADED:
            return loaded
        if wish.lookahead == UNTRAINED:
            return untrained_lookahead(model, loaded.count if loaded is not None else FALLBACK_LOOKAHEAD)
        lookahead = load_lookahead(wish.lookahead)
        lookahead.check(model)
        return lookahead

    found = [read(w) for w in wishes]
    for wish, lookahead in zip(wishes, found, strict=True):
        if lookahead is not None:
            disabled = wish.settings.disabled_parts
            engine.prepare(lookahead, disabled=disabled, progress=control.progress, cancel=control.cancel)
    return found
