"""Hand-made step events for widgets."""

from __future__ import annotations

from dataclasses import replace

from pass_core.decoding.events import (
    Candidate,
    DraftNode,
    DraftSource,
    DraftStatus,
    Provenance,
    StepEvent,
    StopReason,
    TokenEvent,
)
from pass_core.settings import DecodingSettings


def token(
    index: int,
    text: str,
    provenance: Provenance = Provenance.MODEL,
    *,
    data: bytes | None = None,
    depth: int | None = None,
    source: DraftSource | None = None,
) -> TokenEvent:
    """A token with id 100 + index and plausible figures."""
    if source is None and provenance is Provenance.ACCEPTED:
        source = DraftSource.LOOKAHEAD
    return TokenEvent(
        index=index,
        id=100 + index,
        bytes=text.encode() if data is None else data,
        text=text,
        provenance=provenance,
        draft_position=depth,
        p_target=0.5,
        p_draft=0.25 if depth else None,
        source=source,
        top=(Candidate(100 + index, text, 0.5, 0.25 if depth else None), Candidate(7, " other", 0.125)),
    )


def draft(
    text: str, status: DraftStatus, *, depth: int = 1, index: int = 0, p_draft: float = 0.3, parent: int | None = None
) -> DraftNode:
    """A proposed draft."""
    return DraftNode(
        index=index,
        parent=parent,
        depth=depth,
        id=900 + index,
        text=text,
        p_target=0.1,
        p_draft=p_draft,
        noise=0.0,
        uniform=None,
        source=DraftSource.LOOKAHEAD,
        status=status,
    )


def step(
    index: int,
    tokens: list[TokenEvent],
    drafts: list[DraftNode] | None = None,
    *,
    calls: int = 1,
    seconds: float = 0.05,
    settings: DecodingSettings | None = None,
    stop: StopReason | None = None,
    overlap: int = 0,
    reason: str = "",
) -> StepEvent:
    """A step of `tokens`."""
    return replace(
        StepEvent(
            index=index,
            tokens=tuple(tokens),
            drafts=tuple(drafts or ()),
            calls=calls,
            rows=(4,) * calls,
            lookahead_rows=2,
            seconds=seconds,
            forward_seconds=seconds * 0.8,
            settings=settings or DecodingSettings(),
            context_length=10,
            reason=reason,
            stop_reason=stop,
        ),
        stop_overlap=overlap,
    )
