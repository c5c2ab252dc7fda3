"""Steps that run on the device as a whole: pass, verification, cache and next tree in one captured graph.

The settings of a step travel with its inputs. A tree grows with the settings of the step before; where they have
changed since, it is grown anew, by the kernels. `unfit` says what is not done so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pass_core.decoding.acceptance import AcceptanceModel
from pass_core.decoding.events import DraftSource
from pass_core.decoding.propose_tree import BEAM, BRANCHES, Proposals, proposals_of, tree_request
from pass_core.decoding.repetition_bonus import AFTER_ONE, AFTER_TWO, HISTORY, RECENT, SEEN
from pass_core.decoding.state import DecodeState
from pass_core.decoding.state_proposer import PLAIN_LEVELS, StateProposer
from pass_core.decoding.targets import PathDistributions, walk_request
from pass_core.decoding.tree import DraftTree, Walk, verify_tree
from pass_core.kernels.device_step import NextTree, Source
from pass_core.kernels.growth import Bonus
from pass_core.kernels.interface import DraftHead
from pass_core.lookahead.sampler import HEAD_CANDIDATES
from pass_core.runtime.cuda_graphs.buckets import ROW_BUCKETS
from pass_core.runtime.rows import Rows
from pass_core.sampling import nucleus
from pass_core.sampling.noise import Stream
from pass_core.sampling.rules import CoupledRule, VerificationRule
from pass_core.settings import DecodingSettings, SamplingSettings


@dataclass(frozen=True, slots=True)
class Drafting:
    """Where the next tree comes from.

    Attributes:
        head: a state head; None for the look-ahead rows of the pass.
        acceptance: what is learned of drafts of this source.
        depth: levels at most.
        limit: drafts at most.
    """

    head: StateProposer | None
    acceptance: AcceptanceModel
    depth: int
    limit: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A tree that the step before has grown.

    Attributes:
        length: tokens of the text that it belongs to.
        settings: in force when it grew.
        steps: 0-based step of its drafts of depth 1, 2, .. in their head.
    """

    length: int
    settings: DecodingSettings
    proposals: Proposals
    acceptance: AcceptanceModel
    steps: Sequence[int]


def unfit(state: DecodeState, sampling: SamplingSettings, rule: VerificationRule) -> str:
    """Why a step is not done on the device as a whole, "" where it may be.

    Steps of two passes and chains without a row budget are not asked for it: they draw other drafts.
    """
    if state.device is None:
        return "the passes of this model are not captured"
    if not (rule.samples_target and rule.trees and rule.draft_stream is Stream.TARGET):
        return "only the coupled rule is computed there"
    if not (sampling.temperature == 0.0 or 0 < sampling.top_k < state.device.vocabulary):
        return "the whole vocabulary is sampled"
    if nucleus.is_on(sampling) and sampling.temperature:
        return "top-p and min-p are computed apart"
    return ""


class WholeSteps:
    """The whole steps of one text."""

    def __init__(self) -> None:
        self._ready: Ready | None = None

    def forget(self) -> None:
        """Drop the tree that was grown under other circumstances."""
        self._ready = None

    def take(self, state: DecodeState, settings: DecodingSettings) -> Ready | None:
        """The tree that the step before has grown, where it belongs to this text and these settings."""
        ready, self._ready = self._ready, None
        if ready is None or ready.length != len(state.tokens) or ready.settings != settings or not ready.steps:
            return None
        return ready

    def step(
        self,
        state: DecodeState,
        settings: DecodingSettings,
        rule: VerificationRule,
        tree: DraftTree,
        rows: Rows,
        chains: Sequence[int],
        drafting: Drafting | None,
    ) -> tuple[Walk, torch.Tensor, float] | None:
        """Pass, walk, commit and next tree: the walk, the states [n, hidden] of the pass, valid until the next one, and
        the seconds that it took. None where it has to be done otherwise; then nothing has happened.

        Args:
            rows: the root, the tree's drafts, and their look-ahead rows.
            chains: how many look-ahead rows stand below the root and each draft.
            drafting: what the next tree comes from; None grows none.
        """
        levels = _levels(state) if rows.count > 1 else 0
        device = state.device
        if device is None or unfit(state, settings.sampling, rule) or rows.count > ROW_BUCKETS[-1]:
            return None
        if tree.depth > levels or (drafting is not None and drafting.limit > ROW_BUCKETS[-1]):
            return None
        request = walk_request(settings.sampling, state.seed, state.position)
        source = None if drafting is None else _source(state, drafting)
        grown = None if drafting is None or source is None else _next_tree(state, settings, rule, drafting, source)
        started = state.clock()
        done = device.run(state.cache, rows, len(tree), np.asarray(chains), levels, request, source, grown)
        if done is None:
            return None
        took = state.clock() - started
        state.count(rows, took)
        hidden, record = done
        targets = PathDistributions(record.path, request)
        walk = verify_tree(tree, targets, rule, state.seed, state.position)
        state.cache.commit(range(len(walk.path) + 1))
        if record.tree is not None and drafting is not None:
            made_by = DraftSource.LOOKAHEAD if drafting.head is None else DraftSource.STATE_HEAD
            proposals = proposals_of(record.tree, made_by, drafting.limit)
            length = len(state.tokens) + len(walk.emitted)
            self._ready = Ready(length, settings, proposals, drafting.acceptance, record.steps)
        return walk, hidden, took

    def plain(self, state: DecodeState, sampling: SamplingSettings, rows: Rows) -> Walk | None:
        """A step of plain decoding, in the same way."""
        settings = DecodingSettings(sampling=sampling)
        done = self.step(state, settings, CoupledRule(), DraftTree(), rows, [0], None)
        return None if done is None else done[0]


def _levels(state: DecodeState) -> int:
    """How deep drafts can be: as deep as the embeddings and the state head go."""
    count = 0 if state.lookahead is None else state.lookahead.count
    return max(count, 0 if state.state_head is None else state.state_head.depth)


def _source(state: DecodeState, drafting: Drafting) -> Source:
    """What the next tree is drafted from, with the shapes of its requests."""
    head, by = drafting.head, _scored(state, drafting)
    rows = 0 if state.lookahead is None else state.lookahead.count
    bonus = None if state.memory is None or by.head is None else Bonus(SEEN, AFTER_ONE, AFTER_TWO, RECENT)
    return Source(
        depth=rows if head is None else head.depth,
        candidates=None if by.head is None else by.candidates,
        head=by.head,
        guess=None if head is None else head.guess,
        shortlist=None if head is None else head.shortlist,
        plain=0 if head is None else PLAIN_LEVELS,
        bonus=bonus,
        text=HISTORY,
        branches=BRANCHES,
        width=BEAM,
        limit=ROW_BUCKETS[-1],
        tokens=None if head is None else head.vocabulary,
    )


def _next_tree(
    state: DecodeState, settings: DecodingSettings, rule: VerificationRule, drafting: Drafting, source: Source
) -> NextTree:
    shares = drafting.acceptance.shares(source.depth)
    by = _scored(state, drafting)
    # Where the tree begins is known when the walk has ended.
    request = tree_request(by, (-1, 0), 0, state.seed, settings, rule, shares, source.limit)
    text = None if source.bonus is None else state.recent
    return NextTree(request, drafting.depth, state.remaining, text)


@dataclass(frozen=True, slots=True)
class _Scored:
    """See `pass_core.decoding.propose_tree.Scored`."""

    head: DraftHead | None
    candidates: int


def _scored(state: DecodeState, drafting: Drafting) -> _Scored:
    head = drafting.head
    return _Scored(state.head, HEAD_CANDIDATES) if head is None else _Scored(head.fit, head.candidates)
