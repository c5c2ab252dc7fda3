"""Held-out acceptance against what the engine itself accepts, and its parts against their definitions."""

from __future__ import annotations

import pytest
import torch

from pass_core.engine import Engine
from pass_core.settings import DecodingSettings, LookaheadPart, SamplingSettings, StopConditions, Strategy
from pass_core.training.acceptance import (
    Acceptance,
    ChainSettings,
    HeldOut,
    coupled_ranking,
    measure,
    measure_decoding,
    process,
)
from pass_core.training.step import frozen
from pass_core.training.store import PrefixStore
from tests import tiny
from tests.core.decoding.engine import random_bigrams
from tests.core.training.runs import own_corpus
from tests.core.training.test_step import shaken


def test_coupled_ranking_has_the_law_of_shared_noise() -> None:
    """Match rates with noise inferred from the target's choice equal those of drawing the noise first."""
    rows = 40_000
    generator = torch.Generator().manual_seed(0)
    p = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    q_ids = torch.tensor([1, 0, 7])  # 7 is outside p's support
    q = torch.tensor([0.6, 0.25, 0.15]).log()
    noise = -torch.log(-torch.log(torch.rand(rows, 8, generator=generator).clamp_min(1e-12)))
    target = (p + noise[:, :4]).argmax(1)
    draft = q_ids[(q + noise[:, q_ids]).argmax(1)]
    ranking = coupled_ranking(
        torch.arange(4).expand(rows, -1),
        p.expand(rows, -1),
        q_ids.expand(rows, -1),
        q.expand(rows, -1),
        target,
        generator,
    )
    second = q_ids[(q + noise[:, q_ids]).topk(2, 1).indices[:, 1]]
    for y in range(4):
        for d in (0, 1, 7):
            for place, drawn in ((0, draft), (1, second)):
                real = float(((target == y) & (drawn == d)).float().mean())
                inferred = float(((target == y) & (ranking[:, place] == d)).float().mean())
                assert abs(real - inferred) < 0.012, (y, d, place)


def test_process_keeps_the_likeliest_and_sums_to_one() -> None:
    logits = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    ids, log_probs = process(logits, 0.7, 6)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(5))
    assert torch.equal(ids, logits.topk(6, -1).indices)


@pytest.mark.parametrize("sampler", [True, False], ids=["sampler", "bigrams"])
def test_walked_acceptance_is_the_engines(sampler: bool) -> None:
    """Walking along the text that two-call decoding wrote accepts as many drafts per chain as the engine did."""
    model = tiny.tiny_llama(vocabulary=16, peak=2.0)
    parts = shaken(model)
    bigrams = None
    if not sampler:
        parts.sampler = None
        bigrams = parts.bigrams = random_bigrams(model, 12)
    engine = Engine(model, bigrams=bigrams)
    lookahead = parts.to_lookahead(model)
    prefixes = torch.randint(0, 16, (50, 4), generator=torch.Generator().manual_seed(0))
    alone = frozenset({LookaheadPart.REPEATS})  # held-out figures leave out what a text's own repeats add
    settings = DecodingSettings(
        strategy=Strategy.TWO_CALL, k=3, sampling=SamplingSettings(0.8, 10), disabled_parts=alone
    )
    held: list[HeldOut] = []
    accepted = chains = 0
    for seed, prefix in enumerate(prefixes.tolist()):
        text = list(prefix)
        stop = StopConditions(60, ignore_eos=True)
        for event in engine.decode(prefix, settings, lookahead=lookahead, stop=stop, seed=seed):
            text.extend(token.id for token in event.tokens)
            if event.proposed == 3:
                chains += 1
                accepted += event.accepted
        held.append(HeldOut(torch.tensor(text), 4, "prose"))
    with frozen(model):
        store = PrefixStore(model, [h.ids for h in held], 10**9)
        ours = measure_decoding(model, parts, held, store, ChainSettings(3), iterations=99, batch=50)
    assert abs(chains - ours.contexts) < 0.05 * chains
    assert abs(accepted / chains - ours.accepted_per_iteration) < 0.08


def test_figures_are_consistent_and_survive_json() -> None:
    model = tiny.tiny_llama()
    corpus = own_corpus(model)
    with frozen(model):
        store = PrefixStore(model, [h.ids for h in corpus.held_out], 0)
        a = measure(model, shaken(model), corpus.held_out, store, ChainSettings(4), contexts=40)
    assert abs(sum(a.accepted) - a.accepted_per_iteration) < 1e-6
    assert a.accepted[0] == a.by_position[0]
    assert list(a.accepted) == sorted(a.accepted, reverse=True)
    assert Acceptance.from_json(a.to_json()) == a
