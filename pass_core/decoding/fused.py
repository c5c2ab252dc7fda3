"""Fused PASS: one forward pass for each step carries the drafts to verify and the look-ahead rows that draft the next.

Root = the last committed token; below it a tree of drafts; the root and every draft that is worth it carry a chain of
look-ahead rows. Where the walk stops, that node's chain drafts the next tree. a accepted drafts give a + 1 tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch

from pass_core.decoding.acceptance import AcceptanceModel, of_siblings
from pass_core.decoding.budget import FUTURE_WEIGHT, plan
from pass_core.decoding.economy import Economy
from pass_core.decoding.events import DraftSource
from pass_core.decoding.fused_parts import MOST_ROWS, Grown, PendingRows, StepResult, merge_lookup, plans, row_limit
from pass_core.decoding.lookahead_proposer import LookaheadProposer
from pass_core.decoding.ngram_proposer import NgramProposer
from pass_core.decoding.propose_tree import Proposals, best_first, draft_chain, grow_tree
from pass_core.decoding.state import DecodeState, StepOutcome, Stepper
from pass_core.decoding.state_proposer import StateGuesses
from pass_core.decoding.targets import RowDistributions
from pass_core.decoding.tree import Draft, DraftTree, Walk, verify_tree
from pass_core.decoding.whole_step import Drafting, WholeSteps
from pass_core.kernels.interface import CallPlan
from pass_core.kernels.reference_plan import stop_probabilities
from pass_core.lookahead.embeddings import TrainingSummary
from pass_core.runtime.cost import ONE_HEAD_PASS, CostModel
from pass_core.runtime.rows import Rows, RowsBuilder
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import MAX_ROWS, DecodingSettings

# Sizes of calls whose cost is looked at again now and then: what auto weighs against each other.
TRIED_SIZES = (8, 12, 4)
LOOKS = 2  # plain steps made to see what they cost now
PROBE_ROWS = 6
STATE_PROBE_ROWS = 4  # where no look-ahead row has to be among them
VERIFIED_STEPS = 32
DOUBT = 4.0  # weight of what acceptance was, when drafting is tried again
NOT_PAYING = "drafting does not pay on this machine for this text: plain decoding is faster"


class FusedStepper(Stepper):
    """One forward pass for each step."""

    def __init__(self, cost: CostModel | None, training: TrainingSummary | None = None) -> None:
        self._cost = cost
        self._pending: PendingRows | None = None
        known = training or TrainingSummary()
        self._acceptance = AcceptanceModel(of_siblings(known.acceptance))  # of look-ahead rows
        self._of_state = AcceptanceModel(
            of_siblings(known.state_acceptance), lookup=self._acceptance.lookup, tail=self._acceptance.tail
        )
        self._lookup = NgramProposer()
        self._economy: Economy | None = None
        self._probe_rows = PROBE_ROWS
        self._verified: deque[int] = deque(maxlen=VERIFIED_STEPS)  # how deep the trees of the last steps were
        self._planned_rows: deque[int] = deque(maxlen=VERIFIED_STEPS)
        self._looks = 0
        self._rate = 0.0
        self._done = StepResult()
        self._begun: StateGuesses | None = None
        self._whole = WholeSteps()

    def forget(self) -> None:
        self._pending = self._begun = None
        self._whole.forget()

    def step(self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule) -> StepOutcome:
        cost = self._cost if settings.auto else None
        self._probe_rows = PROBE_ROWS if state.state_head is None else STATE_PROBE_ROWS
        why_plain = "" if cost is None else self._plain_call(cost, state)
        grown = Grown(Proposals.of(DraftTree()), self._acceptance)
        if why_plain:
            self._pending = None
            shape, reason = CallPlan(0, (0,)), why_plain
        else:
            grown = self._grow(state, settings, rule, min(settings.k, state.remaining - 1))
            shape, reason = self._shape(state, settings, grown.proposals)
        proposals = grown.proposals
        tree = proposals.first(shape.drafts)
        if proposals.reaches:
            self._verified.append(max((draft.depth for draft in tree.drafts), default=0))

        rows = RowsBuilder()
        nodes = [rows.add_token(state.tokens[-1])]
        for draft in tree.drafts:
            nodes.append(rows.add_token(draft.token, nodes[draft.parent + 1]))
        chains = [
            rows.add_lookahead_chain(state.lookahead_steps(length, _depth(tree, i)), node)
            for i, (node, length) in enumerate(zip(nodes, shape.chains))
        ]
        built, lengths = rows.build(), [len(chain) for chain in chains]
        drafting = None if why_plain else self._drafting(state, settings, max(lengths))
        whole = self._whole.step(state, settings, rule, tree, built, lengths, drafting)
        if whole is None:
            walk, took = self._call(state, settings, rule, tree, built, chains)
        else:
            walk, hidden, took = whole
            self._keep(state, walk, hidden, None, chains)
            self._begun = None
        grown.acceptance.learn(tree, grown.match, grown.steps)
        drafts, n = bool(proposals.reaches), len(rows)
        self._done = StepResult(n, n - len(nodes), took, len(walk.emitted), drafts or n > 1, drafts, settings.auto)
        return StepOutcome(walk.emitted, tree, reason)

    def _call(
        self,
        state: DecodeState,
        settings: DecodingSettings,
        rule: VerificationRule,
        tree: DraftTree,
        rows: Rows,
        chains: list[list[int]],
    ) -> tuple[Walk, float]:
        """Pass, walk and commit; the seconds of the pass."""
        called = state.clock()
        hidden = state.call(rows)
        # lm_head reads all rows in one pass, or tokens now and the chosen chain next time: reading it costs as much as
        # a dozen rows on a CPU, and rows cost nearly nothing on a GPU.
        together = rows.count <= ONE_HEAD_PASS or hidden.is_cuda
        logits = state.runtime.logits(hidden if together else hidden[: 1 + len(tree)])
        state.runtime.synchronize()
        took = state.clock() - called
        targets = RowDistributions(logits, settings.sampling, state.kernels)
        walk = verify_tree(tree, targets, rule, state.seed, state.position)
        self._keep(state, walk, hidden, logits if together else None, chains)
        self._begin(state, settings, walk)
        state.cache.commit([0, *(draft + 1 for draft in walk.path)])
        return walk, took

    def _drafting(self, state: DecodeState, settings: DecodingSettings, rows: int) -> Drafting | None:
        """What the device drafts the next tree from, after a pass with chains of up to `rows` look-ahead rows."""
        head, limit = state.state_head, row_limit(settings)
        if not plans(settings):
            return None
        if head is not None:
            steps = range(min(settings.k, head.depth))
            if self._state_leads(steps, range(rows)):
                return Drafting(head, self._of_state, self._useful(settings.k), limit)
        return Drafting(None, self._acceptance, settings.k, limit) if rows else None

    def _plain_call(self, cost: CostModel, state: DecodeState) -> str:
        """Why the next step is plain, without any work for drafts; "" where it may draft."""
        if self._economy is None:
            self._economy = Economy(cost.plain_step, state.remaining, at_once=state.state_head is not None)
        economy = self._economy
        if not economy.drafting:
            loss = economy.probe_steps * (cost.cheapest(self._probe_rows) - cost(1) + cost.drafting)
            if not economy.probe(loss):
                return NOT_PAYING
            self._acceptance.doubt(DOUBT)
            self._of_state.doubt(DOUBT)
        elif not economy.forced and cost.stale((1,)):
            self._looks = LOOKS
        if self._looks:
            self._looks -= 1
            return "plain call, to see what it costs now"
        return ""

    def _grow(self, state: DecodeState, settings: DecodingSettings, rule: VerificationRule, depth: int) -> Grown:
        """All drafts worth considering."""
        ready = self._whole.take(state, settings)
        if ready is None:
            drafts, steps, acceptance = self._proposer(state, settings, depth)
        else:
            drafts, steps, acceptance = None, ready.steps, ready.acceptance
        found: list[int] = []
        match = 0
        if settings.prompt_lookup and depth > 0:
            found, match = self._lookup.propose(state.tokens, depth)
        if not rule.trees:
            chain = self._chain(state, settings, rule, drafts, found, depth, acceptance)
            return Grown(Proposals.of(chain), acceptance, steps, match)
        proposals = Proposals.of(DraftTree()) if ready is None else ready.proposals
        if drafts is not None:
            proposals = grow_tree(
                drafts,
                state.last_two,
                state.position,
                state.seed,
                depth,
                settings,
                rule,
                acceptance,
                row_limit(settings),
            )
        if found:
            tree = proposals.first(len(proposals.reaches))
            merge_lookup(tree, found, self._acceptance.lookup_hit(match))
            proposals = Proposals.of(best_first(tree))
        return Grown(proposals, acceptance, steps, match)

    def _proposer(
        self, state: DecodeState, settings: DecodingSettings, depth: int
    ) -> tuple[LookaheadProposer | None, Sequence[int], AcceptanceModel]:
        """What drafts the next tree, the steps of its depths, and what is learned of it.

        The look-ahead rows of the last forward pass do, or the state head where it is expected to get more drafts
        accepted."""
        pending, head = self._pending, state.state_head
        if depth <= 0:
            return None, (), self._acceptance
        rows = None if pending is None or pending.length != len(state.tokens) else pending.steps[:depth]
        root_state = state.root_state if plans(settings) else None
        if head is not None and root_state is not None:
            steps = range(min(depth, head.depth))
            if self._state_leads(steps, rows or ()):
                deep = self._useful(depth)
                drafts = head.propose(root_state, state.tokens[-1], deep, state.recent, self._begun)
                return drafts, steps, self._of_state
        if pending is None or not rows:
            return None, (), self._acceptance
        drafts = LookaheadProposer.of_call(
            state.kernels,
            state.runtime,
            pending.hidden,
            pending.at[:depth],
            rows,
            state.head,
            pending.logits,
            state.recent,
        )
        return drafts, rows, self._acceptance

    def _state_leads(self, steps: Sequence[int], rows: Sequence[int]) -> bool:
        """Whether the state head is expected to get as many drafts accepted as look-ahead rows of these steps."""
        return not rows or self._of_state.expected(steps) >= self._acceptance.expected(rows)

    def _useful(self, depth: int) -> int:
        """How deep the state head drafts, at most `depth`: deeper levels cost time and find no row."""
        return min(depth, max(self._verified, default=depth) + 1)

    def _begin(self, state: DecodeState, settings: DecodingSettings, walk: Walk) -> None:
        """Let the state head guess while the host describes this step, if the next one is likely to draft."""
        self._begun = None
        head, predicting = state.state_head, state.predicting
        depth = min(settings.k, state.remaining - len(walk.emitted) - 1)
        if head is None or predicting is None or depth <= 0 or not plans(settings):
            return
        if self._economy is None or self._economy.drafting:
            self._begun = head.begin(predicting[1], walk.emitted[-1].token, self._useful(depth))

    def _chain(
        self,
        state: DecodeState,
        settings: DecodingSettings,
        rule: VerificationRule,
        drafts: LookaheadProposer | None,
        found: list[int],
        depth: int,
        acceptance: AcceptanceModel,
    ) -> DraftTree:
        """One draft per depth. Its length may not depend on the draws, or accepted drafts would be biased."""
        tree = DraftTree()
        if found:
            for level, token in enumerate(found, start=1):
                tree.add(Draft(token, level - 2, level, Distribution.certain(token), DraftSource.LOOKUP))
        elif drafts is not None:
            tree = draft_chain(drafts, state.last_two, state.position, state.seed, settings, rule, depth)
        for draft, reach in zip(tree.drafts, acceptance.chain(len(tree))):
            draft.reach = reach
        return tree

    def _shape(self, state: DecodeState, settings: DecodingSettings, proposals: Proposals) -> tuple[CallPlan, str]:
        """How many drafts to verify and how long each node's look-ahead chain is, and why."""
        steps = state.lookahead_steps(min(settings.k, state.remaining - 2))
        reaches = proposals.reaches
        full = CallPlan(len(reaches), (steps,) * (len(reaches) + 1))
        if not plans(settings) and full.rows <= MAX_ROWS:
            return full, ""
        cost, economy = self._cost if settings.auto else None, self._economy
        if cost is None or economy is None:
            return self._planned(state, settings, proposals, row_limit(settings), None, steps), ""
        limit = self._affordable_rows(cost, economy, row_limit(settings))
        trial = None
        if not economy.forced and reaches:
            most = min(limit, 2 * max(self._planned_rows, default=MOST_ROWS))
            trial = cost.tokens_only.stale([n for n in TRIED_SIZES if n <= most])
        forced = economy.forced > 0
        if forced or trial is not None:
            limit = min(limit, trial or self._probe_rows)
        shape = self._planned(state, settings, proposals, limit, None if forced or trial is not None else cost, steps)
        economy.planned(shape.rows)
        if trial is None:
            self._planned_rows.append(shape.rows)
        if shape.rows == 1:
            return shape, "plain call: nothing is likely enough here" if economy.drafting else NOT_PAYING
        if trial is not None:
            return shape, f"{shape.rows} rows, to see what such a call costs now"
        return shape, (
            f"{_count(shape.drafts, 'draft')} and {_count(sum(shape.chains), 'look-ahead row')}: "
            f"{1 + sum(reaches[: shape.drafts]):.1f} tokens expected" + (" (probing)" if forced else "")
        )

    def _affordable_rows(self, cost: CostModel, economy: Economy, limit: int) -> int:
        """The most rows of a call that the text's account can bear if all drafts fail."""
        lost = cost.tokens_only.table(limit) - cost(1) + cost.drafting
        return int(max(1, (lost[1:] <= economy.affordable).sum()))

    def _planned(
        self,
        state: DecodeState,
        settings: DecodingSettings,
        proposals: Proposals,
        limit: int,
        cost: CostModel | None,
        steps: int,
    ) -> CallPlan:
        """The better of two shapes: with look-ahead rows that draft the next tree, or without, where the state head can
        draft it."""
        head, hits = state.state_head, self._acceptance.hits(steps)
        if head is None:
            return self._best(state, settings, proposals, limit, cost, hits)
        tokens_only = None if cost is None else cost.tokens_only
        without = self._best(state, settings, proposals, limit, tokens_only, ())
        saved = FUTURE_WEIGHT * self._of_state.expected(range(min(head.depth, steps)))
        most = FUTURE_WEIGHT * self._acceptance.expected(range(steps)) - saved
        if cost is not None:
            most -= cost.least_lookahead() * max(self._rate, 1.0 / cost.plain_step)
        if most <= 0:
            return without
        with_rows = self._best(state, settings, proposals, limit, cost, hits)
        # Where the walk stops at a node without look-ahead rows, the state head drafts all the same.
        stops = stop_probabilities(proposals.reaches[: with_rows.drafts], proposals.parents[: with_rows.drafts])
        bare = sum(stop for stop, chain in zip(stops, with_rows.chains) if not chain)
        return without if without.value + saved >= with_rows.value + bare * saved else with_rows

    def _best(
        self,
        state: DecodeState,
        settings: DecodingSettings,
        proposals: Proposals,
        limit: int,
        cost: CostModel | None,
        hits: Sequence[float],
    ) -> CallPlan:
        plain = 0.0 if cost is None else 1.0 / cost.plain_step
        reaches = proposals.reaches if cost is None else self._of_state.tempered(proposals.reaches)
        return plan(
            reaches,
            proposals.parents,
            hits,
            min(limit, row_limit(settings)),
            cost,
            max(self._rate, plain),
            state.kernels,
            0.0 if cost is None else cost.drafting,
        )

    def learn(self, seconds: float) -> None:
        """Follow what calls and the rest of steps cost, what drafting saves, and the tokens per second that this text
        gives, which further rows compete with."""
        cost, done = self._cost, self._done
        if cost is None:
            return
        for table in (
            (cost, cost.tokens_only) if done.rows == 1 else (cost if done.lookahead_rows else cost.tokens_only,)
        ):
            table.observe(done.rows, done.call_seconds)
        host = max(0.0, seconds - done.call_seconds)
        if done.grown or not done.drafted:  # look-ahead rows alone are no measure of what drafting takes
            cost.observe_host(done.drafted, host)
        table = cost if done.lookahead_rows else cost.tokens_only
        rate = done.emitted / (table(done.rows) + cost.host.get(done.drafted, host))
        self._rate = rate if self._rate == 0 else 0.95 * self._rate + 0.05 * rate
        if self._economy is None or not done.auto:
            return
        if done.drafted:
            self._economy.drafting_step(done.emitted, seconds)
        else:
            self._economy.plain_step(seconds)

    def _keep(
        self, state: DecodeState, walk: Walk, hidden: torch.Tensor, logits: torch.Tensor | None, chains: list[list[int]]
    ) -> None:
        """Keep the state and the chain of the node where the walk stopped; where the chain is too short, the rest of
        its ancestors' chains: LA_{d+1} of a parent guesses the same token as LA_d of its child."""
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
        state.predicting = (len(state.tokens) + len(walk.emitted) - 1, hidden[spine[-1]])
        self._pending = None
        if at:
            self._pending = PendingRows(len(state.tokens) + len(walk.emitted), hidden, logits, at, steps)


def _depth(tree: DraftTree, node: int) -> int:
    return 0 if node == 0 else tree.drafts[node - 1].depth


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)
