"""Growing a tree of drafts: level by level, the best candidates below the best nodes of the level above."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from pass_core.decoding.acceptance import SPREAD, AcceptanceModel
from pass_core.decoding.events import DraftSource
from pass_core.decoding.lookahead_proposer import HEAD_CANDIDATES, LookaheadDrafts
from pass_core.decoding.repetition_bonus import AFTER_ONE, AFTER_TWO, OF_LATE, SEEN
from pass_core.decoding.tree import ROOT, Draft, DraftTree
from pass_core.runtime.native.grower import Grown, Growth, grow
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.rules import CoupledRule, VerificationRule
from pass_core.settings import DecodingSettings, SamplingSettings

BRANCHES = 10
BEAM = 4
# No row is cheap enough for a draft that is accepted so seldom: it need not be made at all.
HOPELESS = 0.01
# Nor is a level worth growing that the walk comes to so seldom.
UNLIKELY_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Proposals:
    """All drafts worth considering, best first (a child never stands before its parent), made when it is known how many
    are wanted.

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
        """A tree's drafts, in the order in which they stand."""
        drafts = tree.drafts
        return cls([d.reach for d in drafts], [d.parent for d in drafts], lambda n: DraftTree(drafts[:n]))


def grow_tree(
    drafts: LookaheadDrafts,
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

    A tree without a row budget is one chain of the best drafts. At temperature 0 there is no noise that siblings could
    be ranked by: the drafts' own probabilities do it.
    """
    chain = settings.row_budget is None and not settings.auto
    branches, width = (1, 1) if chain else (BRANCHES, BEAM)
    least, unlikely = (HOPELESS, UNLIKELY_LEVEL) if settings.auto else (0.0, 0.0)
    depth = min(depth, drafts.depth)
    greedy = settings.sampling.temperature == 0.0 and not chain
    sampling = SamplingSettings(1.0, BRANCHES) if greedy else settings.sampling
    spread = 1.0 if greedy else SPREAD
    kept = _kept(sampling, drafts.coherent)
    if kept is not None and type(rule) is CoupledRule and depth > 0:
        growth = Growth(
            seed=seed,
            position=position,
            root=root[1],
            before=root[0],
            noisy=not greedy,
            temperature=sampling.temperature,
            kept=kept,
            candidates=HEAD_CANDIDATES if drafts.coherent else kept,
            branches=branches,
            width=width,
            shares=acceptance.shares(depth),
            spread=spread,
            least=least,
            unlikely=unlikely,
            limit=limit,
            seen=float(SEEN),
            after_one=float(AFTER_ONE),
            after_two=float(AFTER_TWO),
            of_late=OF_LATE,
        )
        logits = drafts.logits
        at, steps = drafts.at[:depth], drafts.steps[:depth]
        grown = grow(drafts.runtime, drafts.head, drafts.hidden, logits, at, steps, drafts.text, growth)
        if grown is not None:
            return Proposals(grown.reaches, grown.parents, lambda n: _tree(grown, n))
    tree = DraftTree()
    beam: list[tuple[int, tuple[int, int], float]] = [(ROOT, root, 1.0)]
    for level in range(1, depth + 1):
        below = drafts.distributions(level, [before for _, before, _ in beam], sampling)
        added: list[int] = []
        if greedy:
            all_drawn = [list(zip(d.ids[:branches].tolist(), d.log_p[:branches].tolist())) for d in below]
        else:
            all_drawn = rule.draw_drafts(below, seed, position + level - 1, branches)
        for (parent, _, reach), distribution, drawn in zip(beam, below, all_drawn):
            shares = acceptance.candidates(level, [score for _, score in drawn], spread)
            for (token, _), share in zip(drawn, shares):
                if reach * share < least:
                    break
                draft = Draft(token, parent, level, distribution, DraftSource.LOOKAHEAD, reach * share)
                added.append(tree.add(draft))
        best = heapq.nlargest(width, added, key=lambda i: tree.drafts[i].reach)
        beam = []
        for i in best:
            draft = tree.drafts[i]
            above = root[1] if draft.parent == ROOT else tree.drafts[draft.parent].token
            beam.append((i, (above, draft.token), draft.reach))
        if sum(reach for _, _, reach in beam) < unlikely:
            break
    return Proposals.of(DraftTree(best_first(tree).drafts[:limit]))


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


def _kept(sampling: SamplingSettings, coherent: bool) -> int | None:
    """How many tokens of a draft distribution have a probability; None for the whole vocabulary."""
    if sampling.temperature == 0.0:
        return 1
    if not coherent:
        return sampling.top_k or None
    return min(sampling.top_k or HEAD_CANDIDATES, HEAD_CANDIDATES)


def _tree(grown: Grown, count: int) -> DraftTree:
    """The first `count` drafts as a tree."""
    source = grown.source[:count]
    distributions = {s: Distribution(grown.ids[s], grown.log_p[s]) for s in set(source)}
    return DraftTree(
        [
            Draft(token, parent, depth, distributions[s], DraftSource.LOOKAHEAD, reach)
            for token, parent, depth, s, reach in zip(
                grown.tokens, grown.parents, grown.depths, source, grown.reaches, strict=False
            )
        ]
    )
