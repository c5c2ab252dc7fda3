"""A verification rule that is known to be wrong, to see that the losslessness tests notice."""

from __future__ import annotations

from collections.abc import Sequence

from pass_core.sampling.distribution import Distribution
from pass_core.sampling.noise import Stream
from pass_core.sampling.rules import Decision, Proposal, RejectionRule

PLAUSIBLE = 0.05


class PlausibleRule(RejectionRule):
    """Accepts every draft that the model finds plausible (p of at least 5 %), and draws again from p otherwise.

    Both halves are mistakes found in real projects ("typical acceptance", and a second draw from p instead of from
    norm(max(0, p - q))). A token v comes out with probability q(v)·[p(v) >= 0.05] + (1 - Q)·p(v), Q the drafts' mass
    on plausible tokens: the text leans towards the drafts. It reads well, and at temperature 0 nobody notices.
    """

    def decide(self, target: Distribution, drafts: Sequence[Proposal], seed: int, position: int) -> Decision:
        if not drafts:
            return Decision(target.sample(seed, position), None)
        if target.prob(drafts[0].token) >= PLAUSIBLE:
            return Decision(drafts[0].token, 0)
        return Decision(target.sample(seed, position, Stream.RESIDUAL), None)
