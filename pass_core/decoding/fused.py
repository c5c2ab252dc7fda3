"""Fused PASS: one call an iteration carries the drafts to verify and the look-ahead rows that draft the next ones.

Root = the last committed token; below it a tree of drafts; the root and every draft that is worth it carry a chain of
look-ahead rows. Where the walk stops, that node's chain drafts the next tree. a accepted drafts give a + 1 tokens.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import cast

import torch

from pass_core.decoding.acceptance import AcceptanceModel
from pass_core.decoding.budget import Plan, plan
from pass_core.decoding.drafting import LookaheadDrafts
from pass_core.decoding.events import DraftSource
from pass_core.decoding.lookup import NgramLookup
from pass_core.decoding.settings import MAX_ROWS, DecodingSettings
from pass_core.decoding.state import DecodeState, StepOutcome, Stepper
from pass_core.decoding.tree import ROOT, Draft, DraftTree, Walk, verify_tree
from pass_core.decoding.two_call import draft_chain
from pass_core.decoding.verification import VerificationRule
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.cost import CostModel, cost_for
from pass_core.runtime.rows import RowsBuilder
from pass_core.sampling import Distribution, distributions

BRANCHES = 10
BEAM = 4
MOST_ROWS = 48
ONE_HEAD_PASS = 24
PROBE_EVERY = 24
# No row is cheap enough for a draft that is accepted so seldom: it need not be made at all.
HOPELESS = 0.01
# Nor is a level worth growing that the walk comes to so seldom.
UNLIKELY_LEVEL = 0.05


@dataclass(slots=True)
class _Pending:
    """Look-ahead states that draft the next tree, and the text length they belong to; `at` are their rows in `logits`
    of the last call."""

    length: int
    hidden: torch.Tensor
    logits: torch.Tensor | None
    at: list[int]
    steps: list[int]


class FusedStepper(Stepper):
    """One call a step."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._pending: _Pending | None = None
        self._acceptance = AcceptanceModel()
        self._lookup = NgramLookup()
        self._plain_steps = 0
        self._rate = 0.0

    def forget(self) -> None:
        self._pending = None

    def step(self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule) -> StepOutcome:
        depth = min(settings.k, state.remaining - 1)
        tree, match = self._grow(state, settings, rule, depth)
        shape, reason = self._shape(state, settings, tree)
        tree = DraftTree(tree.drafts[: shape.drafts])

        rows = RowsBuilder()
        nodes = [rows.add_token(state.tokens[-1])]
        for draft in tree.drafts:
            nodes.append(rows.add_token(draft.token, nodes[draft.parent + 1]))
        chains = [
            rows.add_lookahead_chain(state.lookahead_steps(length, _depth(tree, i)), node)
            for i, (node, length) in enumerate(zip(nodes, shape.chains))
        ]
        hidden = state.call(rows.build())
        # One pass over the vocabulary head for all rows, or one now and one for the chosen chain next time: reading the
        # head costs as much as a dozen rows.
        together = len(rows) <= ONE_HEAD_PASS
        logits = state.runtime.logits(hidden if together else hidden[: len(nodes)])
        targets = distributions(logits, settings.sampling, range(len(nodes)))
        walk = verify_tree(tree, targets, rule, state.seed, state.position)
        state.cache.commit([nodes[0], *(nodes[i + 1] for i in walk.path)])
        self._acceptance.learn(tree, match)
        self._learn_rate(len(walk.emitted), len(rows))
        self._keep(state, walk, hidden, logits if together else None, chains)
        return StepOutcome(walk.emitted, tree, reason)

    def _grow(
        self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule, depth: int
    ) -> tuple[DraftTree, int]:
        """All drafts worth considering, best first, and the n-gram length behind those of prompt lookup."""
        drafts: LookaheadDrafts | None = None
        pending = self._pending
        if pending is not None and pending.length == len(state.tokens) and depth > 0:
            drafts = LookaheadDrafts(
                state.runtime,
                pending.hidden[:depth],
                pending.steps[:depth],
                state.sampler,
                pending.logits,
                pending.at,
            )
        found: list[int] = []
        match = 0
        if settings.prompt_lookup and depth > 0:
            found, match = self._lookup.propose(state.tokens, depth)
        if not rule.trees:
            return self._chain(state, settings, rule, drafts, found, depth), match
        tree = DraftTree()
        if drafts is not None:
            self._branch(state, settings, rule, drafts, tree, min(depth, drafts.depth))
        if found:
            self._merge_lookup(tree, found, match)
        return _best_first(tree), match

    def _chain(
        self,
        state: DecodeState,
        settings: DecodingSettings,
        rule: VerificationRule,
        drafts: LookaheadDrafts | None,
        found: list[int],
        depth: int,
    ) -> DraftTree:
        """One draft per depth. Its length may not depend on the draws, or accepted drafts would be biased."""
        tree = DraftTree()
        if found:
            for level, token in enumerate(found, start=1):
                tree.add(Draft(token, level - 2, level, Distribution.certain(token), DraftSource.LOOKUP))
        elif drafts is not None:
            tree = draft_chain(drafts, state.tokens[-1], state.position, state.seed, settings, rule, depth)
        for draft, reach in zip(tree.drafts, self._acceptance.chain(len(tree))):
            draft.reach = reach
        return tree

    def _branch(
        self,
        state: DecodeState,
        settings: DecodingSettings,
        rule: VerificationRule,
        drafts: LookaheadDrafts,
        tree: DraftTree,
        depth: int,
    ) -> None:
        """Level by level, the best candidates below the best nodes of the level above."""
        chain = settings.row_budget is None and not settings.auto
        branches, width = (1, 1) if chain else (BRANCHES, BEAM)
        least = HOPELESS if settings.auto else 0.0
        beam: list[tuple[int, int, float]] = [(ROOT, state.tokens[-1], 1.0)]
        for level in range(1, depth + 1):
            below = drafts.distributions(level, [token for _, token, _ in beam], settings.sampling)
            added: list[int] = []
            all_drawn = rule.draw_drafts(below, state.seed, state.position + level - 1, branches)
            for (parent, _, reach), distribution, drawn in zip(beam, below, all_drawn):
                shares = self._acceptance.candidates(level, [score for _, score in drawn])
                for (token, _), share in zip(drawn, shares):
                    if reach * share < least:
                        break
                    draft = Draft(token, parent, level, distribution, DraftSource.LOOKAHEAD, reach * share)
                    added.append(tree.add(draft))
            best = heapq.nlargest(width, added, key=lambda i: tree.drafts[i].reach)
            beam = [(i, tree.drafts[i].token, tree.drafts[i].reach) for i in best]
            if sum(reach for _, _, reach in beam) < UNLIKELY_LEVEL and settings.auto:
                return

    def _merge_lookup(self, tree: DraftTree, found: list[int], match: int) -> None:
        """Add the looked-up continuation as one path; where a look-ahead draft stands already, it gains in weight."""
        hit = self._acceptance.lookup_hit(match)
        parent, reach = ROOT, 1.0
        for level, token in enumerate(found, start=1):
            reach *= hit
            same = [i for i in tree.children(parent) if tree.drafts[i].token == token]
            if same:
                parent = same[0]
                tree.drafts[parent].reach = reach = max(reach, tree.drafts[parent].reach)
            else:
                parent = tree.add(Draft(token, parent, level, Distribution.certain(token), DraftSource.LOOKUP, reach))

    def _shape(self, state: DecodeState, settings: DecodingSettings, tree: DraftTree) -> tuple[Plan, str]:
        """How many drafts to verify and how long each node's look-ahead chain is, and why."""
        steps = state.lookahead_steps(min(settings.k, state.remaining - 2))
        full = Plan(len(tree), (steps,) * (len(tree) + 1))
        if settings.row_budget is None and not settings.auto and full.rows <= MAX_ROWS:
            return full, ""
        limit = settings.row_budget or (MOST_ROWS if settings.auto else MAX_ROWS)
        cost = cost_for(self._model) if settings.auto else None
        # After many plain calls, draft once all the same: the text may have become easier to guess.
        probing = self._plain_steps >= PROBE_EVERY
        shape = plan(
            [d.reach for d in tree.drafts],
            [d.parent for d in tree.drafts],
            self._acceptance.chain(steps),
            limit,
            None if probing else cost,
            self._rate or (1.0 / cost(1) if cost else 0.0),
        )
        if not settings.auto:
            return shape, ""
        plain = shape.rows == 1
        self._plain_steps = self._plain_steps + 1 if plain else 0
        if plain:
            return shape, "plain call: drafting would cost more than it is expected to bring"
        reach = sum(d.reach for d in tree.drafts[: shape.drafts])
        return shape, (
            f"{shape.drafts} drafts and {sum(shape.chains)} look-ahead rows: {1 + reach:.1f} tokens expected"
            + (" (probing)" if probing else "")
        )

    def _learn_rate(self, emitted: int, rows: int) -> None:
        """Follow the tokens per second of measured cost that this text gives: what further rows compete with."""
        cost = cast(CostModel | None, self._model.cost)
        if cost is not None:
            rate = emitted / cost(rows)
            self._rate = rate if self._rate == 0 else 0.95 * self._rate + 0.05 * rate

    def _keep(
        self, state: DecodeState, walk: Walk, hidden: torch.Tensor, logits: torch.Tensor | None, chains: list[list[int]]
    ) -> None:
        """Keep the chain of the node where the walk stopped; where it is too short, the rest of its ancestors' chains:
        LA_{d+1} of a parent guesses the same token as LA_d of its child."""
        spine = [0, *(i + 1 for i in walk.path)]
        at: list[int] = []
        steps: list[int] = []
        for depth in range(1, max(len(c) for c in chains) + 1):
            for up, node in enumerate(reversed(spine)):
                if len(chains[node]) >= depth + up:
                    at.append(chains[node][depth + up - 1])
                    steps.append(depth + up - 1)
                    break
            else:
                break
        self._pending = None
        if at:
            chosen = hidden.index_select(0, torch.tensor(at, device=hidden.device))
            self._pending = _Pending(len(state.tokens) + len(walk.emitted), chosen, logits, at, steps)


def _depth(tree: DraftTree, node: int) -> int:
    return 0 if node == 0 else tree.drafts[node - 1].depth


def _best_first(tree: DraftTree) -> DraftTree:
    """The same drafts by falling reach; a child never stands before its parent, for its reach is not higher."""
    order = sorted(range(len(tree)), key=lambda i: (-tree.drafts[i].reach, tree.drafts[i].depth))
    place = {ROOT: ROOT, **{old: new for new, old in enumerate(order)}}
    out = DraftTree()
    for old in order:
        draft = tree.drafts[old]
        draft.parent = place[draft.parent]
        out.add(draft)
    return out
