"""The acceptance to expect, learned while decoding from the drafts that were proposed and accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pass_core.decoding.events import DraftSource, DraftStatus
from pass_core.decoding.tree import ROOT, DraftTree

PRIOR = (0.5, 0.35, 0.3, 0.25, 0.2)
_LOOKUP_PRIOR = {0: 0.0, 1: 0.2, 2: 0.45, 3: 0.7}
_TAIL = 4  # drafts beyond these are accepted less often than their reach says
_TAIL_PRIOR = (6.0, 10.0)
_MEMORY = 0.97
_PRIOR_WEIGHT = 8.0
# Scores are surer than drafts deserve: a flatter softmax ranks siblings and deeper drafts in the right order.
SIBLING_TEMPERATURE = 1.5


@dataclass(slots=True)
class _Ratio:
    """A fading ratio of hits to expectations, starting from a prior."""

    hits: float
    trials: float

    def value(self) -> float:
        return self.hits / self.trials

    def add(self, hit: float, trial: float) -> None:
        self.hits = self.hits * _MEMORY + hit
        self.trials = self.trials * _MEMORY + trial


def of_siblings(matches: Sequence[float]) -> tuple[float, ...]:
    """What to expect of a tree's drafts by depth, two or three beside each other, where the best one alone matches so
    often; the default where nothing is known."""
    return tuple(1.0 - (1.0 - match) ** 2 for match in matches) or PRIOR


@dataclass(slots=True)
class AcceptanceModel:
    """Estimates used to shape trees; they never influence what is accepted.

    `share[d]` is the probability that the true token of depth d is among the draft's best candidates; within them
    a softmax of the perturbed scores tells them apart. `hit[d]` is the probability that some draft of depth d is
    accepted once the walk gets there, and `step[j]` the same for drafts of any depth that look-ahead row LA_{j+1} made.
    `prior` is what to expect of `hit` and `step` before a text.
    """

    prior: tuple[float, ...] = PRIOR
    share: list[_Ratio] = field(default_factory=list[_Ratio])
    hit: list[_Ratio] = field(default_factory=list[_Ratio])
    step: list[_Ratio] = field(default_factory=list[_Ratio])
    lookup: dict[int, _Ratio] = field(default_factory=dict[int, _Ratio])
    tail: _Ratio = field(default_factory=lambda: _Ratio(*_TAIL_PRIOR))

    def __post_init__(self) -> None:
        for n, prior in _LOOKUP_PRIOR.items():
            self.lookup[n] = _Ratio(prior * _PRIOR_WEIGHT, _PRIOR_WEIGHT)

    def _grow(self, depth: int) -> None:
        while len(self.hit) < depth:
            prior = self.prior[min(len(self.hit), len(self.prior) - 1)]
            self.hit.append(_Ratio(prior * _PRIOR_WEIGHT, _PRIOR_WEIGHT))
            self.step.append(_Ratio(prior * _PRIOR_WEIGHT, _PRIOR_WEIGHT))
            self.share.append(_Ratio(min(1.0, 1.5 * prior) * _PRIOR_WEIGHT, _PRIOR_WEIGHT))

    def doubt(self, weight: float) -> None:
        """Believe what was learned so far no more than so many trials: the text may have changed since."""
        for ratio in (*self.share, *self.hit, *self.step, *self.lookup.values()):
            if ratio.trials > weight:
                ratio.hits *= weight / ratio.trials
                ratio.trials = weight

    def shares(self, depth: int) -> list[float]:
        """`share` of depths 1..depth, at most 1 each."""
        self._grow(depth)
        return [min(1.0, self.share[d].value()) for d in range(depth)]

    def expected(self, steps: Sequence[int]) -> float:
        """Drafts that a tree of these look-ahead steps is expected to get accepted."""
        self._grow(max(steps, default=-1) + 1)
        return float(np.cumprod([self.step[j].value() for j in steps]).sum())

    def chain(self, depth: int) -> list[float]:
        """Probability that a draft of each depth 1..depth is accepted, all above it included."""
        self._grow(depth)
        return np.cumprod([self.hit[d].value() for d in range(depth)]).tolist()

    def hits(self, count: int) -> list[float]:
        """Probability that a draft made from LA_1..LA_count is accepted once the walk gets to it."""
        self._grow(count)
        return [self.step[j].value() for j in range(count)]

    def lookup_hit(self, match: int) -> float:
        """Acceptance probability of a prompt-lookup token whose n-gram match had this length."""
        return self.lookup[match].value()

    def tempered(self, reaches: Sequence[float]) -> list[float]:
        """Reaches, best first, with those of the tail as far down as its drafts proved to be."""
        factor = min(1.0, self.tail.value())
        return [*reaches[:_TAIL], *(reach * factor for reach in reaches[_TAIL:])]

    def learn(self, tree: DraftTree, match: int, steps: Sequence[int]) -> None:
        """Take in a verified tree.

        Args:
            match: the n-gram length behind its lookup drafts.
            steps: 0-based look-ahead step behind its look-ahead drafts of depth 1, 2, ...
        """
        tail = tree.drafts[_TAIL:]
        if tail:
            accepted = sum(draft.status is DraftStatus.ACCEPTED for draft in tail)
            self.tail.add(float(accepted), sum(draft.reach for draft in tail))
        by_parent: dict[int, list[int]] = {}
        for index, draft in enumerate(tree.drafts):
            if draft.status is not DraftStatus.UNREACHED:
                by_parent.setdefault(draft.parent, []).append(index)
        for parent, children in by_parent.items():
            above = 1.0 if parent == ROOT else tree.drafts[parent].reach
            depth = tree.drafts[children[0]].depth
            self._grow(depth)
            any_accepted = any(tree.drafts[c].status is DraftStatus.ACCEPTED for c in children)
            self.hit[depth - 1].add(float(any_accepted), 1.0)
            ours = [c for c in children if tree.drafts[c].source is not DraftSource.LOOKUP]
            if ours:
                share = min(1.0, self.share[depth - 1].value())
                expected = sum(tree.drafts[c].reach for c in ours) / max(above * share, 1e-9)
                got = any(tree.drafts[c].status is DraftStatus.ACCEPTED for c in ours)
                self.share[depth - 1].add(float(got), min(expected, 1.0))
                step = steps[depth - 1]
                self._grow(step + 1)
                self.step[step].add(float(got), 1.0)
            for c in children:
                if tree.drafts[c].source is DraftSource.LOOKUP:
                    self.lookup[match].add(float(tree.drafts[c].status is DraftStatus.ACCEPTED), 1.0)
