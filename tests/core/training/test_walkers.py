"""Where simulated decoding is: against walking by hand, and against the chains that a step places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pass_core.engine import Engine
from pass_core.training import trainer as trainer_module
from pass_core.training.chains import Chains
from pass_core.training.step import BatchLoss, drafts_hit, frozen, sequence_numbers
from pass_core.training.store import Batch
from pass_core.training.trainer import Trainer
from pass_core.training.walkers import Walkers
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config


def test_walkers_go_past_what_was_accepted_and_the_token_after_it() -> None:
    walkers = Walkers([40], 3, seed=0)
    walkers.places = torch.tensor([[5, 20, 30]], dtype=torch.int32)
    # chains of 3, 2, 1 rows at the walkers, and one elsewhere
    chain = torch.tensor([[0, 0, 0, 1, 1, 2, 3, 3]])
    depth = torch.tensor([[0, 1, 2, 0, 1, 0, 0, 1]])
    context = torch.tensor([[5, 5, 5, 20, 20, 30, 9, 9]])
    chains = Chains(context, chain, depth, torch.ones_like(context, dtype=torch.bool))
    hits = torch.tensor([True, False, True, False, True, True, True, True])
    generator = torch.Generator().manual_seed(0)
    # one accepted and the next token; none; the whole short chain and the next token
    assert walkers.advanced(0, chains, hits, generator) == [5 + 2, 20 + 1, 30 + 2]


def test_a_walker_at_the_end_starts_again_near_the_beginning() -> None:
    walkers = Walkers([40, 40], 1, seed=0)
    walkers.places = torch.tensor([[38], [7]], dtype=torch.int32)
    one = torch.tensor([[0]])
    chains = Chains(torch.tensor([[38]]), one, one, one == 0)
    (place,) = walkers.advanced(0, chains, torch.tensor([True]), torch.Generator().manual_seed(1))
    assert 1 <= place < 5
    walkers.move([0], torch.tensor([[place]]))
    assert walkers.places.tolist() == [[place], [7]]


def test_first_places_are_inside_the_texts() -> None:
    walkers = Walkers([10, 300], 50, seed=3)
    assert int(walkers.places.min()) >= 1
    assert int(walkers.places[0].max()) < 10
    assert int(walkers.places[1].max()) > 200
    assert Walkers.count_for(0.5, 240, 1, 0.75) == 120
    assert Walkers.count_for(0.0, 240, 6, 0.75) == 0


def test_a_step_moves_the_walkers_of_its_texts_alone(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    trainer = Trainer(Engine(model), own_corpus(model), small_config(steps=1), options(tmp_path))
    before = trainer.walkers.places.clone()
    numbers = sequence_numbers(0, trainer.config, len(trainer.sequences))
    with frozen(model):
        trainer.gradient_step()
        assert torch.equal(trainer.walkers.places, before)  # a step that is only timed changes nothing
        trainer._one_step()
    moved = (trainer.walkers.places != before).any(1)
    assert moved[numbers].all()
    assert int(moved.sum()) == len(set(numbers))


def test_drawn_hits_happen_as_often_as_the_closed_form_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On text that the model wrote at the run's own sampling settings, where the walkers are."""
    model = tiny.tiny_llama(vocabulary=16, peak=4.0)
    config = small_config(steps=120, rows=64, decode_share=1.0, evaluate_every=0)
    trainer = Trainer(Engine(model), own_corpus(model, 40, 8, length=64), replace(config, length=64), options(tmp_path))
    hits: list[torch.Tensor] = []
    chances: list[torch.Tensor] = []

    def watch(loss: BatchLoss, batch: Batch, chains: Chains, *rest: Any) -> torch.Tensor:
        hit = drafts_hit(loss, batch, chains, *rest)
        followed = chains.teacher + 1 < torch.tensor(batch.lengths)[:, None]
        hits.append(hit[followed].float())
        chances.append(loss.match.draft.detach()[followed])
        return hit

    monkeypatch.setattr(trainer_module, "drafts_hit", watch)
    with frozen(model):
        for _ in range(120):
            trainer._one_step()
    drawn, expected = torch.cat(hits), torch.cat(chances)
    assert 0.2 < float(expected.mean()) < 0.95
    assert abs(float(drawn.mean() - expected.mean())) < 5 * float(drawn.std()) / len(drawn) ** 0.5
    likely = expected > expected.median()
    assert drawn[likely].mean() > drawn[~likely].mean()
