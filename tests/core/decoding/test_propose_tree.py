"""What the proposer asks the kernels for, and what it makes of the answer."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from pass_core.decoding.acceptance import AcceptanceModel
from pass_core.decoding.lookahead_proposer import LookaheadProposer
from pass_core.decoding.propose_tree import Proposals, draft_chain, grow_tree
from pass_core.kernels.interface import DraftRows
from pass_core.sampling.distribution import Distribution, distributions
from pass_core.sampling.noise import Stream
from pass_core.sampling.rules import CoupledRule, RejectionRule
from pass_core.settings import DecodingSettings, SamplingSettings
from tests.core.decoding.engine import random_lookahead
from tests.kernels.makers import NAMES, kernels_named

AUTO = DecodingSettings(auto=True)
VOCABULARY = 1000


def drafts(name: str) -> LookaheadProposer:
    """Rows 5, 2, 3 and 0 of a call of seven, without a head."""
    logits = torch.randn(7, VOCABULARY, generator=torch.Generator().manual_seed(1)) * 3
    return LookaheadProposer(kernels_named(name), DraftRows(logits, logits, [5, 2, 3, 0], [0, 1, 3, 2]))


def grown(
    chain: LookaheadProposer, settings: DecodingSettings, *, seed: int = 11, limit: int = 40, depth: int = 4
) -> Proposals:
    return grow_tree(chain, (60, 77), 20, seed, depth, settings, CoupledRule(), AcceptanceModel(), limit)


@pytest.mark.parametrize("name", NAMES)
def test_a_draft_tree_keeps_to_its_limit_and_parents_come_first(name: str) -> None:
    proposals = grown(drafts(name), AUTO, limit=9)
    assert len(proposals.reaches) == 9
    assert proposals.reaches == sorted(proposals.reaches, reverse=True)
    assert all(parent < i for i, parent in enumerate(proposals.parents))
    assert [d.parent for d in proposals.first(3).drafts] == proposals.parents[:3]


@pytest.mark.parametrize("name", NAMES)
def test_at_temperature_0_siblings_are_the_likeliest_drafts(name: str) -> None:
    settings = DecodingSettings(auto=False, row_budget=40, sampling=SamplingSettings(0.0, 3))
    chain = drafts(name)
    tree = grown(chain, settings).first(40)
    (plain,) = distributions(chain.rows.logits, SamplingSettings(1.0, 10), [5])
    below_root = [d for d in tree.drafts if d.parent == -1]
    assert [d.token for d in below_root] == plain.ids[: len(below_root)].tolist()
    assert len(below_root) > 3


@pytest.mark.parametrize("name", NAMES)
def test_without_a_budget_it_is_one_chain_of_the_best_drafts_under_the_shared_noise(name: str) -> None:
    chain = drafts(name)
    for sampling in (SamplingSettings(0.8, 10), SamplingSettings(0.8, 0), SamplingSettings(0.0)):
        tree = grown(chain, DecodingSettings(auto=False, sampling=sampling)).first(9)
        each = distributions(chain.rows.logits, sampling, chain.rows.at)
        assert [d.token for d in tree.drafts] == [q.sample(11, 20 + level) for level, q in enumerate(each)]
        assert [d.parent for d in tree.drafts] == [-1, 0, 1, 2]
        for draft, q in zip(tree.drafts, each, strict=True):
            assert draft.distribution.ids.tolist() == q.ids.tolist()
            assert draft.distribution.log_p == pytest.approx(q.log_p, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_draws_its_drafts_with_noise_of_its_own_stream(name: str) -> None:
    chain, settings = drafts(name), DecodingSettings()
    seen: dict[Stream, Counter[tuple[int, ...]]] = {s: Counter() for s in Stream}
    for rule in (CoupledRule(), RejectionRule()):
        for seed in range(20):
            tree = draft_chain(chain, (60, 77), 20, seed, settings, rule, 3)
            each = distributions(chain.rows.logits, settings.sampling, chain.rows.at[:3])
            expected = [q.sample(seed, 20 + level, rule.draft_stream) for level, q in enumerate(each)]
            assert [d.token for d in tree.drafts] == expected
            seen[rule.draft_stream][tuple(expected)] += 1
    assert seen[Stream.TARGET] != seen[Stream.DRAFT]


def test_logits_of_the_chain_alone_are_read_where_none_are_known(tiny_model) -> None:
    from pass_core.runtime.torch_runtime import TorchRuntime

    runtime, kernels = TorchRuntime(tiny_model), kernels_named("torch", tiny_model)
    hidden = torch.randn(7, tiny_model.hidden_size, generator=torch.Generator().manual_seed(3))
    head = kernels.sampler_head(random_lookahead(tiny_model, 4, frozenset({"sampler"})).sampler)  # type: ignore[arg-type]
    trees = []
    for logits in (None, runtime.logits(hidden)):
        chain = LookaheadProposer.of_call(kernels, runtime, hidden, [5, 2, 3, 0], [0, 1, 3, 2], head, logits)
        trees.append(grown(chain, AUTO))
    assert trees[0].parents == trees[1].parents
    assert [d.token for d in trees[0].first(9).drafts] == [d.token for d in trees[1].first(9).drafts]


def test_no_depth_is_no_draft() -> None:
    assert grown(drafts("torch"), AUTO, depth=0).reaches == []
    assert len(draft_chain(drafts("torch"), (1, 2), 5, 0, AUTO, CoupledRule(), 0)) == 0


def test_certain_distributions_hold_one_token() -> None:
    assert Distribution.certain(7).sample(1, 2) == 7
