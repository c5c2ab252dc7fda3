"""The rules one decision at a time: who is accepted, with what probability, and what replaces it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import chisquare

from pass_core.decoding.events import DraftSource, DraftStatus, Provenance
from pass_core.decoding.tree import Draft, DraftTree, verify_tree
from pass_core.kernels.interface import ROOT
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.rules import CoupledRule, RejectionRule, rule_for
from pass_core.settings import Verification


def distribution(*probabilities: float, ids: tuple[int, ...] | None = None) -> Distribution:
    with np.errstate(divide="ignore"):
        return Distribution(np.array(ids or range(len(probabilities)), dtype=np.int64), np.log(probabilities))


def draft(token: int, of: Distribution, parent: int = ROOT, depth: int = 1) -> Draft:
    return Draft(token, parent, depth, of, DraftSource.LOOKAHEAD)


P = distribution(0.5, 0.3, 0.2)
Q = distribution(0.2, 0.7, 0.1)
POSITIONS = range(20_000)


def test_settings_choose_the_rule() -> None:
    assert isinstance(rule_for(Verification.COUPLED), CoupledRule)
    assert isinstance(rule_for(Verification.REJECTION), RejectionRule)


def test_coupled_emits_the_targets_sample_whatever_was_drafted() -> None:
    rule = CoupledRule()
    for position in range(200):
        sample = P.sample(3, position)
        assert rule.decide(P, [], 3, position).token == sample
        for token in range(3):
            decision = rule.decide(P, [draft(token, Q)], 3, position)
            assert decision.token == sample
            assert decision.accepted == (0 if token == sample else None)
        among = rule.decide(P, [draft(t, Q) for t in (2, 0, 1)], 3, position)
        assert among.token == sample
        assert among.accepted == (2, 0, 1).index(sample)


def test_coupled_drafts_equal_the_target_where_the_distributions_do() -> None:
    rule = CoupledRule()
    for position in range(200):
        token = P.sample(5, position, rule.draft_stream)
        assert rule.decide(P, [draft(token, P)], 5, position).accepted == 0


def test_rejection_accepts_with_probability_p_over_q() -> None:
    rule = RejectionRule()
    for token, expected in ((0, 1.0), (1, 0.3 / 0.7), (2, 1.0)):
        accepted = sum(rule.decide(P, [draft(token, Q)], 1, t).accepted == 0 for t in POSITIONS)
        assert accepted / len(POSITIONS) == pytest.approx(expected, abs=4 * (0.25 / len(POSITIONS)) ** 0.5)
        assert (accepted == len(POSITIONS)) == (expected == 1.0)


def test_rejection_corrects_from_the_residual() -> None:
    """norm(max(0, p - q)) of these: 0.3 and 0.1 of 0.4."""
    rule = RejectionRule()
    decisions = [rule.decide(P, [draft(1, Q)], 1, t) for t in POSITIONS]
    counts = np.bincount([d.token for d in decisions if d.accepted is None], minlength=3)
    assert counts[1] == 0
    assert chisquare(counts[[0, 2]], counts.sum() * np.array([0.75, 0.25])).pvalue > 0.001


def test_rejection_emits_the_target_distribution() -> None:
    rule = RejectionRule()
    counts = np.zeros(3)
    for t in POSITIONS:
        token = Q.sample(8, t, rule.draft_stream)
        counts[rule.decide(P, [draft(token, Q)], 8, t).token] += 1
    assert chisquare(counts, len(POSITIONS) * np.array([0.5, 0.3, 0.2])).pvalue > 0.001


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (distribution(0.6, 0.4, ids=(4, 1)), distribution(0.7, 0.3, ids=(1, 9))),  # supports that overlap in part
        (distribution(0.6, 0.4, ids=(4, 1)), distribution(1.0, ids=(9,))),  # a certain draft outside the support
        (distribution(0.6, 0.4, ids=(4, 1)), distribution(1.0, ids=(4,))),  # a certain draft inside it
    ],
)
def test_rejection_with_different_supports(p: Distribution, q: Distribution) -> None:
    rule = RejectionRule()
    tokens = []
    for t in POSITIONS:
        token = q.sample(8, t, rule.draft_stream)
        tokens.append(rule.decide(p, [draft(token, q)], 8, t).token)
    assert set(tokens) == {1, 4}
    assert chisquare([tokens.count(4), tokens.count(1)], len(tokens) * np.array([0.6, 0.4])).pvalue > 0.001


def test_rejection_without_residual_mass_falls_back_to_the_target() -> None:
    token = RejectionRule._correction(P, P, 1, 2)
    assert token in (0, 1, 2)


def test_rejection_refuses_trees() -> None:
    with pytest.raises(ValueError, match="chains"):
        RejectionRule().decide(P, [draft(0, Q), draft(1, Q)], 0, 0)


class Rows(list[Distribution]):
    """Target distributions, walked through by hand."""

    def sample_path(self, seed: int, position: int, tokens: Sequence[int], parents: Sequence[int]) -> list[int]:
        samples: list[int] = []
        at: int | None = ROOT
        while at is not None:
            samples.append(self[at + 1].sample(seed, position + len(samples)))
            found = (i for i, (t, above) in enumerate(zip(tokens, parents)) if above == at and t == samples[-1])
            at = next(found, None)
        return samples


def certain(token: int) -> Distribution:
    return distribution(1.0, ids=(token,))


@pytest.mark.parametrize("whole", [True, False], ids=["found at once", "decided draft by draft"])
def test_the_walk_follows_accepted_drafts_down_the_tree(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoupledRule, "samples_target", whole)
    tree = DraftTree()
    left = tree.add(draft(1, certain(1)))
    right = tree.add(draft(2, certain(2)))
    under_left = tree.add(draft(3, certain(3), left, 2))
    under_right = tree.add(draft(3, certain(3), right, 2))
    deepest = tree.add(draft(4, certain(4), under_right, 3))
    targets = [certain(2), certain(9), certain(3), certain(9), certain(5), certain(9)]
    walk = verify_tree(tree, Rows(targets), CoupledRule(), 0, 10)
    assert walk.path == [right, under_right]
    assert [e.token for e in walk.emitted] == [2, 3, 5]
    assert [e.provenance for e in walk.emitted] == [Provenance.ACCEPTED, Provenance.ACCEPTED, Provenance.CORRECTED]
    assert [e.draft_position for e in walk.emitted] == [1, 2, 3]
    status = {i: tree.drafts[i].status for i in range(5)}
    assert status == {
        left: DraftStatus.REJECTED,
        right: DraftStatus.ACCEPTED,
        under_left: DraftStatus.UNREACHED,
        under_right: DraftStatus.ACCEPTED,
        deepest: DraftStatus.REJECTED,
    }
    assert tree.drafts[under_left].target is None


def test_the_walk_ends_with_a_bonus_token_below_the_last_draft() -> None:
    tree = DraftTree()
    tree.add(draft(1, certain(1)))
    walk = verify_tree(tree, Rows([certain(1), certain(6)]), CoupledRule(), 0, 10)
    assert [(e.token, e.provenance) for e in walk.emitted] == [(1, Provenance.ACCEPTED), (6, Provenance.BONUS)]
    assert walk.emitted[1].draft_position is None


def test_an_empty_tree_emits_the_models_token() -> None:
    walk = verify_tree(DraftTree(), Rows([P]), CoupledRule(), 4, 10)
    (only,) = walk.emitted
    assert (only.token, only.provenance) == (P.sample(4, 10), Provenance.MODEL)
