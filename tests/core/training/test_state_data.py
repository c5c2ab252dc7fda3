"""What a state head learns from: the right rows, every place once an epoch, nothing changed by what is kept."""

from __future__ import annotations

import torch

from pass_core.training.state_data import GROUP, StateStore, rows_of, steps_of
from tests import tiny
from tests.core.training.state_runs import state_config


def texts(count: int, length: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 64, (length - n % 4,), generator=generator) for n in range(count)]


def test_a_place_has_the_state_before_it_and_the_model_s_own_predictions() -> None:
    model = tiny.tiny_llama()
    own = texts(3)
    block = StateStore(model, own, 0, 10).block(0)
    rows = rows_of(block, torch.tensor([2, 1]), torch.tensor([4, 7]), 3)
    for row, (text, place) in enumerate(((2, 4), (1, 7))):
        with torch.no_grad():
            out = model.base(input_ids=own[text][None]).last_hidden_state[0]
            expected = model.logits(out).log_softmax(-1)
        torch.testing.assert_close(rows.hidden[row], out[place - 1], rtol=1e-4, atol=1e-4)
        assert torch.equal(rows.before[row], own[text][place : place + 3])
        for d in range(3):
            best = expected[place + d].topk(32)
            torch.testing.assert_close(rows.targets.log_probs[row, d], best.values, rtol=1e-3, atol=1e-3)
            assert rows.targets.ids[row, d, 0] == best.indices[0]


def test_an_epoch_meets_every_place_once() -> None:
    """States of different places differ, so they say which place a chain is at."""
    model = tiny.tiny_llama()
    own = texts(8 * (GROUP + 1))
    for n, text in enumerate(own):
        text[0] = n  # no two texts begin alike
    store = StateStore(model, own, 10**9, 10)
    config = state_config(depth=2, places=10)
    places = sum(len(t) - 1 for t in own)
    blocks = [store.block(n) for n in range(len(store))]
    known = {
        tuple(block.hidden[t, c - 1].tolist())
        for block in blocks
        for t, length in enumerate(block.lengths)
        for c in range(1, length - 1)
    }
    steps = steps_of(store, config)
    met: list[tuple[float, ...]] = []
    while len(met) < places - 2 * config.places - len(own):
        rows = next(steps)
        assert len(rows.hidden) == 10
        met.extend(tuple(h) for h in rows.hidden.tolist())
    assert len(met) == len(set(met))
    assert set(met) <= known


def test_more_places_than_there_are_gives_all_of_them() -> None:
    store = StateStore(tiny.tiny_llama(), texts(2, 6), 0, 10)
    rows = next(steps_of(store, state_config(depth=2, places=1000)))
    assert len(rows.hidden) == (6 - 2) + (5 - 2)
