"""Where the nodes of a draft tree are drawn: depth to the right, siblings below each other. No Qt here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pass_core.decoding.events import DraftNode, DraftStatus, Provenance, StepEvent, TokenEvent

ROOT = -1
EMITTED = -2


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """One node of the drawing.

    Attributes:
        key: the draft's index, ROOT for the token below which the tree hangs, EMITTED for the correction or bonus.
        parent: key of the parent, None for the root.
        column: depth, 0 for the root.
        row: vertical place; fractions stand between two children.
        draft, token: what it shows (the token of a kept draft is its emitted token).
        lit: on the accepted path.
    """

    key: int
    parent: int | None
    column: int
    row: float
    draft: DraftNode | None
    token: TokenEvent | None
    lit: bool


def place(step: StepEvent) -> list[PlacedNode]:
    """All nodes of a step, parents before children; leaves take one row each, parents the middle of theirs."""
    drafts = {d.index: d for d in step.drafts}
    children: dict[int, list[int]] = {ROOT: []}
    placed: set[int] = set()
    for d in step.drafts:  # of a file from elsewhere a draft may name no parent before it: it hangs below the root
        parent = d.parent if d.parent in placed and drafts[d.parent].depth < d.depth else ROOT
        if d.index not in placed and d.index >= 0:
            placed.add(d.index)
            children.setdefault(parent, []).append(d.index)
    kept = [d.index for d in sorted(step.drafts, key=lambda d: d.depth) if d.status is DraftStatus.ACCEPTED]
    by_depth = {t.draft_position: t for t in step.tokens if t.provenance is Provenance.ACCEPTED}
    last = next(
        (t for t in reversed(step.tokens) if t.provenance in (Provenance.CORRECTED, Provenance.BONUS)),
        step.tokens[-1] if step.tokens and not step.drafts else None,
    )
    if last is not None:
        children.setdefault(kept[-1] if kept else ROOT, []).append(EMITTED)
    _sort(children, drafts, kept)

    rows: dict[int, float] = {}
    next_row = 0

    def settle(key: int) -> float:
        nonlocal next_row
        below = [settle(c) for c in children.get(key, [])]
        if below:
            rows[key] = (below[0] + below[-1]) / 2
        else:
            rows[key] = float(next_row)
            next_row += 1
        return rows[key]

    settle(ROOT)
    lit = {ROOT, EMITTED, *kept}
    out: list[PlacedNode] = []

    def visit(key: int, parent: int | None, column: int) -> None:
        draft = drafts.get(key)
        token = last if key == EMITTED else by_depth.get(draft.depth) if draft is not None and key in lit else None
        out.append(PlacedNode(key, parent, column, rows[key], draft, token, key in lit))
        for child in children.get(key, []):
            visit(child, key, column + 1)

    visit(ROOT, None, 0)
    return out


def _sort(children: dict[int, list[int]], drafts: dict[int, DraftNode], kept: Sequence[int]) -> None:
    """The accepted path on top, then the likeliest drafts; the emitted token right below an accepted one."""
    for siblings in children.values():
        siblings.sort(
            key=lambda k: (
                k not in kept,
                k != EMITTED,
                -(drafts[k].p_draft or 0.0) if k in drafts else 0.0,
            )
        )
