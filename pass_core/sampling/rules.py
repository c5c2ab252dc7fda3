"""The rules that accept or correct drafts. Both give exactly the model's own output distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pass_core.sampling.distribution import Distribution
from pass_core.sampling.noise import Stream, gumbel, uniform
from pass_core.settings import Verification


class Proposal(Protocol):
    """What a rule needs to know of a draft."""

    @property
    def token(self) -> int: ...

    @property
    def distribution(self) -> Distribution: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule decided at one position.

    Attributes:
        token: the token to emit.
        accepted: index of the accepted draft among those proposed, None when none was.
        uniform: the uniform number that decided, where the rule draws one.
    """

    token: int
    accepted: int | None
    uniform: float | None = None

    @classmethod
    def coupled(cls, sample: int, drafts: Sequence[Proposal]) -> Decision:
        """The coupled rule's decision, once the target's sample is known: it accepts the draft that equals it."""
        return cls(sample, next((i for i, draft in enumerate(drafts) if draft.token == sample), None))


class VerificationRule(Protocol):
    """Decides about drafts; a function of seed and position, never of a hidden state.

    Attributes:
        trees: whether several drafts may compete for one position.
        draft_stream: the noise that drafts are drawn with: the best of log q + noise of this stream.
        samples_target: whether `decide` always emits the target's own sample and accepts the draft that equals it. The
            kernels then find the whole walk in one operation. A rule that changes `decide` says False.
    """

    trees: bool
    draft_stream: Stream
    samples_target: bool

    def decide(self, target: Distribution, drafts: Sequence[Proposal], seed: int, position: int) -> Decision:
        """Accept one of the drafts of this position, or emit another token."""
        ...


class CoupledRule:
    """Shared Gumbel noise: the target's sample is argmax log p + g, and drafts are the best of log q + g.

    A draft is accepted when it is the target's sample, so the text depends on the seed alone, not on the drafts, and
    any set of candidates is lossless. Source: Daliri, Musco & Suresh 2024 (drafter-invariant speculative decoding).
    """

    trees = True
    draft_stream = Stream.TARGET
    samples_target = True

    def decide(self, target: Distribution, drafts: Sequence[Proposal], seed: int, position: int) -> Decision:
        return Decision.coupled(target.sample(seed, position), drafts)


class RejectionRule:
    """The paper's rule: accept x̃ ~ q with probability min(1, p/q), else sample norm(max(0, p - q)).

    Chains only. Source: Leviathan et al. 2023, Chen et al. 2023; used by PaSS, arXiv 2311.13581, section 3.
    """

    trees = False
    draft_stream = Stream.DRAFT
    samples_target = False

    def decide(self, target: Distribution, drafts: Sequence[Proposal], seed: int, position: int) -> Decision:
        if not drafts:
            return Decision(target.sample(seed, position), None)
        if len(drafts) > 1:
            raise ValueError("the rejection rule verifies chains: at most one draft for each position")
        token, draft = drafts[0].token, drafts[0].distribution
        number = float(uniform(seed, position, token, Stream.ACCEPT))
        if number * draft.prob(token) < target.prob(token):
            return Decision(token, 0, number)
        return Decision(self._correction(target, draft, seed, position), None, number)

    @staticmethod
    def _correction(target: Distribution, draft: Distribution, seed: int, position: int) -> int:
        """A sample of norm(max(0, p - q)); p itself where rounding left no mass."""
        p = np.exp(target.log_p)
        if target.ids.size == draft.ids.size and np.array_equal(target.ids, draft.ids):
            q = np.exp(draft.log_p)
        else:
            order = np.argsort(draft.ids)
            at = np.minimum(np.searchsorted(draft.ids, target.ids, sorter=order), draft.ids.size - 1)
            found = draft.ids[order[at]] == target.ids
            q = np.where(found, np.exp(draft.log_p[order[at]]), 0.0)
        residual = np.maximum(p - q, 0.0)
        if residual.sum() <= 0.0:
            return target.sample(seed, position, Stream.RESIDUAL)
        with np.errstate(divide="ignore"):
            scores = np.log(residual) + gumbel(seed, position, target.ids, Stream.RESIDUAL)
        return int(target.ids[int(np.argmax(scores))])


def rule_for(verification: Verification) -> VerificationRule:
    """The rule of a setting."""
    return CoupledRule() if verification is Verification.COUPLED else RejectionRule()
