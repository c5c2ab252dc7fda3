"""What a fused step leaves for the next one, and for what is learned from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pass_core.decoding.acceptance import AcceptanceModel
from pass_core.decoding.events import DraftSource
from pass_core.decoding.propose_tree import Proposals
from pass_core.decoding.tree import ROOT, Draft, DraftTree
from pass_core.sampling.distribution import Distribution
from pass_core.settings import MAX_ROWS, DecodingSettings

MOST_ROWS = 48  # of a pass whose rows the engine chooses


@dataclass(slots=True)
class PendingRows:
    """Look-ahead rows of the last forward pass that draft the next tree, and the text length that they belong to; see
    `LookaheadProposer`."""

    length: int
    hidden: torch.Tensor
    logits: torch.Tensor | None
    at: list[int]
    steps: list[int]


@dataclass(frozen=True, slots=True)
class Grown:
    """What a step may verify.

    Attributes:
        proposals: all drafts worth considering.
        acceptance: what is learned of drafts of this source.
        steps: 0-based step of the drafts of depth 1, 2, .. in their head.
        match: length of the n-gram that prompt lookup matched.
    """

    proposals: Proposals
    acceptance: AcceptanceModel
    steps: Sequence[int] = ()
    match: int = 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """What is to be learned from a step: the rows of its call, what it took, tokens, whether it worked for drafts, and
    whether it grew any."""

    rows: int = 1
    lookahead_rows: int = 0
    call_seconds: float = 0.0
    emitted: int = 1
    drafted: bool = False
    grown: bool = False
    auto: bool = False


def plans(settings: DecodingSettings) -> bool:
    """Whether the engine chooses which rows a call carries."""
    return settings.auto or settings.row_budget is not None


def row_limit(settings: DecodingSettings) -> int:
    return settings.row_budget or (MOST_ROWS if settings.auto else MAX_ROWS)


def merge_lookup(tree: DraftTree, found: Sequence[int], hit: float) -> None:
    """Add the looked-up continuation as one path; where it meets a look-ahead draft, that draft gains in reach.

    Args:
        hit: probability that the next token of it is accepted.
    """
    parent, reach = ROOT, 1.0
    for level, token in enumerate(found, start=1):
        reach *= hit
        same = [i for i in tree.children(parent) if tree.drafts[i].token == token]
        if same:
            parent = same[0]
            tree.drafts[parent].reach = reach = max(reach, tree.drafts[parent].reach)
        else:
            parent = tree.add(Draft(token, parent, level, Distribution.certain(token), DraftSource.LOOKUP, reach))
