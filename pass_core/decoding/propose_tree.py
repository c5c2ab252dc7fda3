"""Growing a tree of drafts: level by level, the best candidates below the best nodes of the level above."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pass_core.decoding.acceptance import SIBLING_TEMPERATURE, AcceptanceModel
from pass_core.decoding.events import DraftSource
from pass_core.decoding.lookahead_proposer import LookaheadProposer
from pass_core.decoding.repetition_bonus import AFTER_ONE, AFTER_TWO, RECENT, SEEN
from pass_core.decoding.tree import Draft, DraftTree
from pass_core.kernels.interface import ROOT, DraftHead, GrownTree, GrowRequest
from pass_core.sampling import nucleus
from pass_core.sampling.distribution import COLDEST, Distribution
from pass_core.sampling.noise import stream_hash
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import DecodingSettings, SamplingSettings

BRANCHES = 10
BEAM = 4
# Drafts whose acceptance probability is below this are not generated: no row is cheap enough for them.
MIN_REACH = 0.01
# A level that the walk reaches with a smaller probability than this is the last.
MIN_LEVEL_REACH = 0.05


class Scored(Protocol):
    """How drafts are scored; see `LookaheadProposer`."""

    @property
    def head(self) -> DraftHead | None: ...

    @property
    def candidates(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Proposals:
    """All drafts worth considering, best first and parents before children. `first` makes as many as are wanted.

    Attributes:
        reaches: estimated probability of each that verification reaches and accepts it.
        parents: index of the draft above each, ROOT directly below the last committed token.
        first: the tree of the first n drafts.
    """

    reaches: list[float]
    parents: list[int]
    first: Callable[[int], DraftTree]

    @classmethod
    def of(cls, tree: DraftTree) -> Proposals:
        """A tree's drafts, in their order."""
        drafts = tree.drafts
        return cls([d.reach for d in drafts], [d.parent for d in drafts], lambda n: DraftTree(drafts[:n]))


def grow_tree(
    drafts: LookaheadProposer,
    root: tuple[int, int],
    position: int,
    seed: int,
    depth: int,
    settings: DecodingSettings,
    rule: VerificationRule,
    acceptance: AcceptanceModel,
    limit: int,
) -> Proposals:
    """The best `limit` drafts of a tree at most `depth` deep, below the two tokens `root`; depth 1 is at `position`.

    A tree without a row budget is one chain of the best drafts. At temperature 0 there is no noise: the drafts' own
    probabilities rank siblings.
    """
    depth = min(depth, drafts.depth)
    if depth == 0:
        return Proposals.of(DraftTree())
    shares = acceptance.shares(depth)
    if settings.row_budget is None and not settings.auto:
        request = chain_request(drafts, root, position, seed, settings.sampling, rule, shares, limit)
    else:
        request = tree_request(drafts, root, position, seed, settings, rule, shares, limit)
    grown = drafts.kernels.grow_tree(drafts.first(depth), request, drafts.head, drafts.text)
    return proposals_of(grown, drafts.source, limit)


def proposals_of(grown: GrownTree, made_by: DraftSource, limit: int) -> Proposals:
    """The best `limit` drafts of a tree."""
    return Proposals(grown.reaches[:limit], grown.parents[:limit], lambda n: _tree(grown, n, made_by))


def tree_request(
    drafts: Scored,
    root: tuple[int, int],
    position: int,
    seed: int,
    settings: DecodingSettings,
    rule: VerificationRule,
    shares: Sequence[float],
    limit: int,
) -> GrowRequest:
    """The request for a tree within a row budget."""
    greedy = settings.sampling.temperature == 0.0
    sampling = SamplingSettings(1.0, BRANCHES) if greedy else settings.sampling
    min_reach, min_level_reach = (MIN_REACH, MIN_LEVEL_REACH) if settings.auto else (0.0, 0.0)
    return replace(
        chain_request(drafts, root, position, seed, sampling, rule, shares, limit),
        noisy=int(not greedy),
        branches=BRANCHES,
        width=BEAM,
        sibling_temperature=1.0 if greedy else SIBLING_TEMPERATURE,
        min_reach=min_reach,
        min_level_reach=min_level_reach,
    )


def draft_chain(
    drafts: LookaheadProposer,
    root: tuple[int, int],
    position: int,
    seed: int,
    settings: DecodingSettings,
    rule: VerificationRule,
    depth: int,
) -> DraftTree:
    """One draft for each depth, drawn given the one above it; the first is at `position`, after the tokens `root`."""
    depth = min(depth, drafts.depth)
    if depth == 0:
        return DraftTree()
    shares = [1.0] * depth
    request = chain_request(drafts, root, position, seed, settings.sampling, rule, shares, depth)
    return _tree(drafts.kernels.grow_tree(drafts.first(depth), request, drafts.head, drafts.text), depth, drafts.source)


def chain_request(
    drafts: Scored,
    root: tuple[int, int],
    position: int,
    seed: int,
    sampling: SamplingSettings,
    rule: VerificationRule,
    shares: Sequence[float],
    limit: int,
) -> GrowRequest:
    """The request for one chain of the best drafts, with no draft left out as too unlikely."""
    top_k = _top_k(sampling, drafts)
    return GrowRequest(
        noise=stream_hash(seed, rule.draft_stream),
        position=position,
        before=root[0],
        root=root[1],
        temperature=max(sampling.temperature, COLDEST),
        sibling_temperature=SIBLING_TEMPERATURE,
        min_reach=0.0,
        min_level_reach=0.0,
        seen=SEEN,
        after_one=AFTER_ONE,
        after_two=AFTER_TWO,
        recent=RECENT,
        top_k=top_k,
        candidates=top_k if drafts.head is None else drafts.candidates,
        branches=1,
        width=1,
        limit=limit,
        noisy=1,
        shares=tuple(shares),
        top_p=sampling.top_p if top_k > 1 else 1.0,
        log_min_p=sampling.log_min_p if top_k > 1 else -math.inf,
    )


def best_first(tree: DraftTree) -> DraftTree:
    """The same drafts by falling reach; a child never stands before its parent, for its reach is not higher."""
    order = sorted(range(len(tree)), key=lambda i: (-tree.drafts[i].reach, tree.drafts[i].depth))
    place = {ROOT: ROOT, **{old: new for new, old in enumerate(order)}}
    out = DraftTree()
    for old in order:
        draft = tree.drafts[old]
        draft.parent = place[draft.parent]
        out.add(draft)
    return out


def _top_k(sampling: SamplingSettings, drafts: Scored) -> int:
    """How many tokens of a draft distribution have a probability; 0 for the whole vocabulary."""
    if sampling.temperature == 0.0:
        return 1
    if drafts.head is None and (sampling.top_k or not nucleus.is_on(sampling)):
        return sampling.top_k
    return min(sampling.top_k or drafts.candidates, drafts.candidates)


def _tree(grown: GrownTree, count: int, made_by: DraftSource) -> DraftTree:
    """The first `count` drafts as a tree."""
    source = grown.source[:count]
    distributions = {s: Distribution(grown.ids[s], grown.log_p[s]) for s in set(source)}
    return DraftTree(
        [
            Draft(token, parent, depth, distributions[s], made_by, reach)
            for token, parent, depth, s, reach in zip(
                grown.tokens, grown.parents, grown.depths, source, grown.reaches, strict=False
            )
        ]
    )
