"""One training step: what learns, what stays, and that its rows see what the engine's rows see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.training.chains import Chains, place_chains
from pass_core.training.config import TrainingKind
from pass_core.training.forward import Prefix, lookahead_forward, prefix_forward
from pass_core.training.objective import Targets
from pass_core.training.parts import TrainableParts, new_parts
from pass_core.training.step import frozen, place_weights
from pass_core.training.store import Batch
from pass_core.training.trainer import Trainer, train
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config


def shaken(model: LanguageModel, seed: int = 3) -> TrainableParts:
    """Parts with every tensor away from its initial zeros."""
    parts = new_parts(model, small_config())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in parts.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return parts


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gpt_neox", "phi"])
def test_only_lookahead_parts_change_and_real_rows_stay(family: str, tmp_path: Path) -> None:
    model = tiny.FAMILIES[family]()
    ids = torch.arange(12)[None]
    before = {n: p.clone() for n, p in model.model.named_parameters()}
    logits = model.model(ids).logits
    trainer = Trainer(Engine(model), own_corpus(model), small_config(), options(tmp_path))
    start = {n: p.detach().clone() for n, p in trainer.parts.named_parameters()}
    trainer.run(None, *_switches())
    for name, p in model.model.named_parameters():
        assert torch.equal(p, before[name]), name
        assert p.grad is None, name
    assert torch.equal(model.model(ids).logits, logits)
    still = [n for n, p in trainer.parts.named_parameters() if torch.equal(p, start[n])]
    assert still == []


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gpt_neox", "gemma"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_see_prefix_and_own_chain_only(family: str, attention: str) -> None:
    """Many chains in one forward give what each chain gives appended to its own context alone."""
    model = tiny.FAMILIES[family](attention=attention)
    parts = shaken(model)
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 64, (2, 20), generator=generator)
    chains = place_chains([20, 20], 30, 4, 0.7, generator)
    with frozen(model), torch.no_grad():
        together = lookahead_forward(model, parts, prefix_forward(model, ids), chains)
        for b in range(2):
            for number in chains.chain[b].unique().tolist():
                rows = chains.chain[b] == number
                context = int(chains.context[b][rows][0])
                own = Chains(*(getattr(chains, f)[b][rows][None] for f in ("context", "chain", "depth", "valid")))
                alone = lookahead_forward(model, parts, prefix_forward(model, ids[b : b + 1, :context]), own)
                torch.testing.assert_close(together[b][rows], alone[0], rtol=1e-4, atol=1e-4)


def test_gradient_matches_finite_differences() -> None:
    model = tiny.tiny_llama()
    parts = shaken(model)
    ids = torch.randint(0, 64, (1, 16), generator=torch.Generator().manual_seed(2))
    chains = place_chains([16], 12, 4, 0.7, torch.Generator().manual_seed(1))
    model.model.double()
    parts.double()
    probe = torch.randn(1, 12, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(9))

    def value() -> torch.Tensor:
        return (lookahead_forward(model, parts, prefix_forward(model, ids), chains) * probe).sum()

    value().backward()
    assert parts.deep is not None
    for p in (parts.embeddings, parts.deep, *list(parts.adapters.parameters())[:2]):
        assert p.grad is not None
        at = tuple(int(i) for i in torch.nonzero(p.grad.abs() == p.grad.abs().max())[0])
        step = 1e-3  # norms compute in float32 whatever the dtype
        with torch.no_grad():
            p[at] += step
            up = float(value())
            p[at] -= 2 * step
            down = float(value())
            p[at] += step
        assert float(p.grad[at]) == pytest.approx((up - down) / (2 * step), rel=1e-2)


def test_learns_beyond_the_start(tmp_path: Path) -> None:
    """A tiny model's next-but-one token is partly predictable; training must find that."""
    model = tiny.tiny_llama(vocabulary=16, peak=4.0)
    config = small_config(steps=150, rows=64, acceptance_share=0.3, evaluate_every=50, evaluate_contexts=400)
    seen: list[float] = []

    def watch(event: object) -> None:
        if hasattr(event, "acceptance") and hasattr(event, "best"):
            seen.append(event.acceptance.accepted_per_iteration)

    finished = train(Engine(model), own_corpus(model, 40, 16), config, options(tmp_path), on_event=watch)
    assert finished.acceptance is not None
    assert finished.acceptance.accepted_per_iteration == max(seen)
    assert max(seen) > seen[0] + 0.15


def test_without_a_sampler_drafts_are_trained_with_the_models_bigrams(tmp_path: Path) -> None:
    model = tiny.tiny_llama(vocabulary=40)
    config = small_config(kind=TrainingKind.EMBEDDINGS, with_sampler=False, steps=2)
    losses: list[float] = []
    for chosen in (config, replace(config, bigrams=False), small_config(steps=2)):
        trainer = Trainer(Engine(model), own_corpus(model), chosen, options(tmp_path))
        assert (trainer.parts.bigrams is not None) == chosen.uses_bigrams
        assert not any("bigrams" in name for name in trainer.parts.state_dict())
        with frozen(model):
            losses.append(trainer.gradient_step()["loss"])
    assert losses[0] != losses[1]
    hidden = torch.randn(5, model.hidden_size, generator=torch.Generator().manual_seed(1))
    before, depth = torch.tensor([3, 39, 0, 7, 7]), torch.zeros(5, dtype=torch.long)
    engine = Engine(model)
    fitted = Trainer(engine, own_corpus(model), config, options(tmp_path)).parts.fitted(model, hidden, before, depth)
    assert fitted is not None
    assert engine.bigrams is not None
    assert torch.equal(fitted, hidden + engine.bigrams.shifts[before].float())


def _switches() -> tuple[object, object]:
    from pass_core.progress import CancelToken
    from pass_core.training.control import PauseSwitch

    return CancelToken(), PauseSwitch()


def test_chains_start_more_often_before_tokens_that_were_hard_to_guess() -> None:
    """Token 9 was certain, all others had a probability of 0.1: at surprise 1 no chain starts before token 9."""
    ids = torch.arange(24)[None]
    log_p = torch.full((1, 24, 10), 0.1).log()
    log_p[0, 8] = torch.tensor([1.0, *[1e-12] * 9]).log()
    listed = torch.arange(1, 25)[None, :, None] + torch.cat((torch.zeros(1), torch.arange(50, 59))).long()
    batch = Batch(Prefix(ids, [], [], ids.new_zeros(0)), [24], Targets(listed, log_p))
    config = small_config(temperature=1.0, top_k=10)
    weights = place_weights(batch, replace(config, surprise=1.0))
    assert weights[0, 9] == pytest.approx(0.0, abs=1e-6)
    assert weights[0, 1:9].tolist() == pytest.approx([0.9] * 8)
    assert place_weights(batch, config).tolist() == torch.ones(1, 24).tolist()
    even = place_weights(batch, replace(config, surprise=0.5))
    assert even[0, 9] == pytest.approx(0.5)

    def starts(given: torch.Tensor | None) -> list[int]:
        chains = [
            place_chains([24], 12, 4, 0.7, torch.Generator().manual_seed(seed), weights=given) for seed in range(40)
        ]
        return [int(c) for one in chains for c in one.context[0][one.depth[0] == 0]]

    assert 9 in starts(None)
    assert 9 not in starts(weights)
    assert len(set(starts(weights))) > 15
