"""The wrong rule is wrong, and the right ones are right, by counting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pass_core.evaluation.statistics import chi_square
from pass_core.evaluation.wrong_rule import PLAUSIBLE, PlausibleRule
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.rules import CoupledRule, RejectionRule, VerificationRule

P = Distribution(np.array([0, 1, 2, 3]), np.log([0.5, 0.3, 0.16, 0.04]))
Q = Distribution(np.array([0, 1, 2, 3]), np.log([0.1, 0.2, 0.3, 0.4]))


@dataclass(frozen=True)
class Draft:
    token: int
    distribution: Distribution


def counts(rule: VerificationRule, draws: int) -> np.ndarray:
    out = np.zeros(4)
    for seed in range(draws):
        token = Q.sample(seed, 7, rule.draft_stream)
        out[rule.decide(P, [Draft(token, Q)], seed, 7).token] += 1
    return out


@pytest.mark.parametrize("rule", [CoupledRule(), RejectionRule()])
def test_right_rules_give_p(rule: VerificationRule) -> None:
    assert chi_square([np.exp(P.log_p)], counts(rule, 4000), level=0.001).p_value > 0.001


def test_the_wrong_rule_leans_towards_the_drafts_as_stated() -> None:
    observed = counts(PlausibleRule(), 4000)
    p, q = np.exp(P.log_p), np.exp(Q.log_p)
    plausible = q * (p >= PLAUSIBLE)
    wrong = plausible + (1 - plausible.sum()) * p
    assert chi_square([p], observed, level=0.001).p_value < 1e-9
    assert chi_square([wrong], observed, level=0.001).p_value > 0.001
