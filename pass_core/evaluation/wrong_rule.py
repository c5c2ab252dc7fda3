"""A verification rule that is known to be wrong, to see that the losslessness tests notice."""

from __future__ import annotations

from collections.abc import Sequence

from pass_core.decoding.verification import Decision, Proposal, RejectionRule
from pass_core.noise import Stream, uniform
from pass_core.sampling import Distribution


class RedrawRule(RejectionRule):
    """Accepts as the rejection rule does, but after a mismatch draws again from p instead of from norm(max(0, p - q)).

    A token then comes out with probability min(p, q) + TV(p, q)·p, which is too much wherever q > p: the text leans
    towards the drafts. This mistake is found in real projects; at temperature 0 nobody notices it.
    """

    def decide(self, target: Distribution, drafts: Sequence[Proposal], seed: int, position: int) -> Decision:
        if not drafts:
            return Decision(target.sample(seed, position), None)
        token, draft = drafts[0].token, drafts[0].distribution
        number = float(uniform(seed, position, token, Stream.ACCEPT))
        if number * draft.prob(token) < target.prob(token):
            return Decision(token, 0, number)
        return Decision(target.sample(seed, position, Stream.RESIDUAL), None, number)
