"""Held-out figures of a state head against what the engine itself accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from pass_core.decoding.events import DraftSource
from pass_core.engine import Engine
from pass_core.models.shipped import untrained_lookahead
from pass_core.settings import DecodingSettings, LookaheadPart, SamplingSettings, StopConditions, Strategy
from pass_core.training.acceptance import HeldOut, Tried, walk
from pass_core.training.state_acceptance import measure_state_file, state_settings, try_state_chains
from pass_core.training.state_data import StateStore
from tests import tiny
from tests.core.training.runs import own_corpus, small_config
from tests.core.training.state_runs import shaken_head


def test_figures_are_the_engines() -> None:
    """The best draft of fused decoding is the target's token as often as the closed form says at the same places."""
    model = tiny.tiny_llama(vocabulary=16, peak=2.0)
    head = shaken_head(model)
    lookahead = replace(untrained_lookahead(model, 1), state=head.weights(torch.float32))
    alone = frozenset({LookaheadPart.REPEATS, LookaheadPart.BIGRAMS})
    settings = DecodingSettings(
        strategy=Strategy.FUSED, auto=False, row_budget=8, sampling=SamplingSettings(0.8, 10), disabled_parts=alone
    )
    engine = Engine(model)
    accepted: list[int] = []
    expected: list[torch.Tensor] = []
    drawn: list[torch.Tensor] = []
    generator = torch.Generator().manual_seed(0)
    for seed, prefix in enumerate(torch.randint(0, 16, (30, 4), generator=generator).tolist()):
        text, places = list(prefix), list[int]()
        stop = StopConditions(60, ignore_eos=True)
        for event in engine.decode(prefix, settings, lookahead=lookahead, stop=stop, seed=seed):
            if event.drafts and event.drafts[0].source is DraftSource.STATE_HEAD and len(text) > 4:
                places.append(len(text) - 1)
                accepted.append(int(event.drafts[0].id == event.tokens[0].id))
            text.extend(token.id for token in event.tokens)
        if not places:
            continue
        block = StateStore(model, [torch.tensor(text)], 0, 10).block(0)
        tried = try_state_chains(model, head, block, [places], state_settings(1, 0.8, 10), generator)
        expected.append(tried.matches.flatten())
        drawn.append(tried.hits.flatten())
    assert len(accepted) > 400
    rate = sum(accepted) / len(accepted)
    assert abs(rate - float(torch.cat(expected).mean())) < 0.05
    assert abs(rate - float(torch.cat(drawn).float().mean())) < 0.06


def test_walking_goes_on_right_after_each_token_that_was_not_guessed() -> None:
    model = tiny.tiny_gpt2(vocabulary=24)
    head = shaken_head(model)
    held = [HeldOut(h.ids, h.start, h.domain) for h in own_corpus(model, held=3, length=30).held_out]
    met: list[list[int]] = []
    generator = torch.Generator().manual_seed(0)
    settings = state_settings(3, 0.8, 10)
    block = StateStore(model, [h.ids for h in held], 0, 10).block(0)

    def attempt(places: Sequence[Sequence[int]]) -> Tried:
        met.append([c for (c,) in places])
        tried = try_state_chains(model, head, block, places, settings, generator)
        hits.append(tried.hits[:, 0].cumprod(1).sum(1).tolist())
        return tried

    hits: list[list[int]] = []
    tried, domains = walk(held, lambda _numbers: attempt, 3, 99, 8, beyond=1)
    assert len(domains) == len(tried.ranks) == sum(c + 3 < 30 for row in met for c in row if c > 1)
    for now, accepted, after in zip(met, hits, met[1:], strict=False):
        for c, a, following in zip(now, accepted, after, strict=True):
            assert following == (c + a + 1 if c > 1 and c + a + 1 + 3 < 30 else 1)


def test_figures_are_consistent() -> None:
    model = tiny.tiny_llama()
    held = own_corpus(model, held=10).held_out
    lookahead = replace(untrained_lookahead(model), state=shaken_head(model).weights(torch.float32))
    config = small_config(evaluate_contexts=40)
    engine = Engine(model)
    found = measure_state_file(engine, lookahead, held, config)
    assert found is not None
    assert found.chain.contexts == 40
    assert len(found.siblings) == 3
    for fewer, more in zip(found.siblings, found.siblings[1:], strict=False):
        assert all(a < b for a, b in zip(fewer, more, strict=True))
    assert sum(found.chain.accepted) == pytest.approx(found.chain.accepted_per_iteration)
    again = measure_state_file(engine, lookahead, held, config)
    assert again == found
    assert measure_state_file(engine, untrained_lookahead(model), held, config) is None
