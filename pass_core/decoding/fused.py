"""Fused PASS: one forward pass for each step carries the drafts to verify and the look-ahead rows that draft the next.

Root = the last committed token; below it a tree of drafts; the root and every draft that is worth it carry a chain of
look-ahead rows. Where the walk stops, that node's chain drafts the next tree. a accepted drafts give a + 1 tokens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from pass_core.decoding.acceptance import AcceptanceModel
from pass_core.decoding.budget import plan
from pass_core.decoding.events import DraftSource
from pass_core.decoding.lookahead_proposer import LookaheadDrafts
from pass_core.decoding.ngram_proposer import NgramLookup
from pass_core.decoding.propose_tree import Proposals, best_first, draft_chain, grow_tree
from pass_core.decoding.state import DecodeState, StepOutcome, Stepper
from pass_core.decoding.targets import RowDistributions
from pass_core.decoding.tree import ROOT, Draft, DraftTree, Walk, verify_tree
from pass_core.kernels.interface import Plan
from pass_core.runtime.cost import CostModel
from pass_core.runtime.rows import RowsBuilder
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import MAX_ROWS, DecodingSettings

MOST_ROWS = 48
ONE_HEAD_PASS = 24
PROBE_EVERY = 24
# Numbers of rows that auto chooses between: their cost is measured again now and then.
TRIED_SIZES = (8, 12, 4, 1)


@dataclass(slots=True)
class _Pending:
    """Look-ahead rows of the last forward pass that draft the next tree, and the text length that they belong to; see
    `LookaheadDrafts`."""

    length: int
    hidden: torch.Tensor
    logits: torch.Tensor | None
    at: list[int]
    steps: list[int]


class FusedStepper(Stepper):
    """One forward pass for each step."""

    def __init__(self, cost: CostModel | None) -> None:
        self._cost = cost
        self._pending: _Pending | None = None
        self._acceptance = AcceptanceModel()
        self._lookup = NgramLookup()
        self._plain_steps = 0
        self._rate = 0.0
        self._host: dict[bool, float] = {}  # seconds of a step besides its pass, by whether it drafts

    def forget(self) -> None:
        self._pending = None

    def step(self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule) -> StepOutcome:
        started = time.perf_counter()
        depth = min(settings.k, state.remaining - 1)
        steps = self._pending.steps if self._pending is not None else []
        proposals, match = self._grow(state, settings, rule, depth)
        shape, reason = self._shape(state, settings, proposals)
        tree = proposals.first(shape.drafts)

        rows = RowsBuilder()
        nodes = [rows.add_token(state.tokens[-1])]
        for draft in tree.drafts:
            nodes.append(rows.add_token(draft.token, nodes[draft.parent + 1]))
        chains = [
            rows.add_lookahead_chain(state.lookahead_steps(length, _depth(tree, i)), node)
            for i, (node, length) in enumerate(zip(nodes, shape.chains))
        ]
        called = time.perf_counter()
        hidden = state.call(rows.build())
        # Read the lm_head once for all rows, or now for the drafts and next time for the chosen chain: reading it
        # costs as much as a dozen rows.
        together = len(rows) <= ONE_HEAD_PASS
        logits = state.runtime.logits(hidden if together else hidden[: len(nodes)])
        state.runtime.synchronize()
        took = time.perf_counter() - called
        targets = RowDistributions(logits, settings.sampling, state.kernels)
        walk = verify_tree(tree, targets, rule, state.seed, state.position)
        state.cache.commit([nodes[0], *(nodes[i + 1] for i in walk.path)])
        self._acceptance.learn(tree, match, steps)
        self._keep(state, walk, hidden, logits if together else None, chains)
        self._learn_cost(len(rows), took, len(walk.emitted), time.perf_counter() - started - took)
        return StepOutcome(walk.emitted, tree, reason)

    def _grow(
        self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule, depth: int
    ) -> tuple[Proposals, int]:
        """All drafts worth considering, and the length of the n-gram that prompt lookup matched."""
        drafts: LookaheadDrafts | None = None
        pending = self._pending
        if pending is not None and pending.length == len(state.tokens) and depth > 0:
            drafts = LookaheadDrafts.of_call(
                state.kernels,
                state.runtime,
                pending.hidden,
                pending.at[:depth],
                pending.steps[:depth],
                state.head,
                pending.logits,
                state.recent,
            )
        found: list[int] = []
        match = 0
        if settings.prompt_lookup and depth > 0:
            found, match = self._lookup.propose(state.tokens, depth)
        if not rule.trees:
            return Proposals.of(self._chain(state, settings, rule, drafts, found, depth)), match
        proposals = Proposals.of(DraftTree())
        if drafts is not None:
            proposals = grow_tree(
                drafts,
                state.last_two,
                state.position,
                state.seed,
                depth,
                settings,
                rule,
                self._acceptance,
                _row_limit(settings),
            )
        if found:
            tree = proposals.first(len(proposals.reaches))
            self._merge_lookup(tree, found, match)
            proposals = Proposals.of(best_first(tree))
        return proposals, match

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
            tree = draft_chain(drafts, state.last_two, state.position, state.seed, settings, rule, depth)
        for draft, reach in zip(tree.drafts, self._acceptance.chain(len(tree))):
            draft.reach = reach
        return tree

    def _merge_lookup(self, tree: DraftTree, found: list[int], match: int) -> None:
        """Add the looked-up continuation as one path; where it meets a look-ahead draft, that draft gains in reach."""
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

    def _shape(self, state: DecodeState, settings: DecodingSettings, proposals: Proposals) -> tuple[Plan, str]:
        """How many drafts to verify and how long each node's look-ahead chain is, and why."""
        steps = state.lookahead_steps(min(settings.k, state.remaining - 2))
        reaches = proposals.reaches
        full = Plan(len(reaches), (steps,) * (len(reaches) + 1))
        if settings.row_budget is None and not settings.auto and full.rows <= MAX_ROWS:
            return full, ""
        cost = self._cost if settings.auto else None
        trial = cost.stale(TRIED_SIZES) if cost is not None and reaches else None
        limit = min(_row_limit(settings), trial or MAX_ROWS)
        # After many plain passes, draft once: the text may have become easier to guess.
        probing = self._plain_steps >= PROBE_EVERY
        shape = plan(
            reaches,
            proposals.parents,
            self._acceptance.hits(steps),
            limit,
            None if probing or trial else cost,
            self._rate or (1.0 / cost(1) if cost else 0.0),
            state.kernels,
            max(0.0, self._host.get(True, 0.0) - self._host.get(False, self._host.get(True, 0.0))),
        )
        if not settings.auto:
            return shape, ""
        plain = shape.rows == 1
        self._plain_steps = self._plain_steps + 1 if plain else 0
        if trial is not None:
            return shape, f"{shape.rows} rows, to measure what a pass of this size costs now"
        if plain:
            return shape, "plain pass: drafting would cost more than it is expected to bring"
        return shape, (
            f"{shape.drafts} drafts and {sum(shape.chains)} look-ahead rows: "
            f"{1 + sum(reaches[: shape.drafts]):.1f} tokens expected" + (" (probing)" if probing else "")
        )

    def _learn_cost(self, rows: int, call_seconds: float, emitted: int, other_seconds: float) -> None:
        """Follow what passes cost, and the tokens per second of this text, which further rows compete with."""
        cost = self._cost
        if cost is not None:
            cost.observe(rows, call_seconds)
            drafts = rows > 1
            known = self._host.get(drafts, other_seconds)
            self._host[drafts] = 0.9 * known + 0.1 * other_seconds
            rate = emitted / (cost(rows) + other_seconds)
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
            self._pending = _Pending(len(state.tokens) + len(walk.emitted), hidden, logits, at, steps)


def _depth(tree: DraftTree, node: int) -> int:
    return 0 if node == 0 else tree.drafts[node - 1].depth


def _row_limit(settings: DecodingSettings) -> int:
    return settings.row_budget or (MOST_ROWS if settings.auto else MAX_ROWS)
