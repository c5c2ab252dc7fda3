"""One optimiser step's loss and its schedule, as functions of the seed and the step number."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Generator, Sequence
from functools import lru_cache

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.training.chains import Chains
from pass_core.training.config import TrainingConfig
from pass_core.training.forward import lookahead_forward
from pass_core.training.head import scores
from pass_core.training.objective import Targets, choose_vocabulary, divergence, expected_accepted, overlap
from pass_core.training.parts import LookaheadParts
from pass_core.training.store import Batch


@contextlib.contextmanager
def frozen(model: LanguageModel) -> Generator[None]:
    """No parameter of the model takes gradients, and dropout is off, inside."""
    module = model.model
    before = [p.requires_grad for p in module.parameters()]
    training = bool(module.training)
    module.requires_grad_(False)
    module.eval()
    try:
        yield
    finally:
        for p, requires in zip(module.parameters(), before, strict=True):
            p.requires_grad_(requires)
        module.train(training)


def step_generator(seed: int, step: int, place: int) -> torch.Generator:
    """The random numbers of one sequence in one step: the same in any process, and after a resume."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 10_007 + place)


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then cosine to a hundredth."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@lru_cache(maxsize=8)
def epoch_order(size: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The order in which an epoch takes the sequences."""
    numbers = list(range(size))
    random.Random(seed * 7_919 + epoch).shuffle(numbers)
    return tuple(numbers)


def place_weights(batch: Batch, config: TrainingConfig) -> torch.Tensor:
    """How often a chain is to start at each context length c of each sequence, [batch, tokens], on the CPU.

    A decoder drafts anew right after a token that it could not guess. `config.surprise` weighs each c by how unlikely
    the model itself found token c, at the sampling settings of the run.
    """
    top = config.top_k
    log_p = (batch.targets.log_probs[..., :top] / config.temperature).log_softmax(-1)
    chosen = batch.prefix.ids[:, 1:, None] == batch.targets.ids[:, :-1, :top]
    known = torch.where(chosen, log_p[:, :-1].exp(), torch.zeros_like(log_p[:, :-1])).sum(-1)
    weights = torch.ones(batch.prefix.ids.shape, device=known.device)
    weights[:, 1:] = 1 - config.surprise * known
    return weights.cpu()


def batch_loss(
    model: LanguageModel,
    parts: LookaheadParts,
    batch: Batch,
    chains: Sequence[Chains],
    generators: Sequence[torch.Generator],
    frequent: torch.Tensor,
    config: TrainingConfig,
    acceptance: float,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Sum over the batch's sequences of the loss, with gradient, and its components for display (sums as well).

    Args:
        acceptance: weight of the acceptance loss, 0 to 1.
    """
    joined = Chains(*(torch.cat([getattr(c, f) for c in chains]) for f in ("context", "chain", "depth", "valid")))
    joined = joined.to(model.device)
    hidden = lookahead_forward(model, parts, batch.prefix, joined)
    total = hidden.new_zeros((), dtype=torch.float32)
    shown = torch.zeros(3, device=hidden.device)
    longest = batch.prefix.ids.shape[1]
    for b in range(len(batch.lengths)):
        valid = joined.valid[b]
        at = joined.teacher[b].clamp_max(longest - 1)
        targets = Targets(batch.targets.ids[b, at], batch.targets.log_probs[b, at])
        vocabulary = choose_vocabulary(targets, frequent, model.vocabulary_size, generators[b])
        weight = valid.float() / valid.sum().clamp_min(1)
        fitted = parts.fitted(model, hidden[b], batch.prefix.ids[b, at], joined.depth[b])
        logits = scores(model, hidden[b] if fitted is None else fitted, vocabulary.ids)
        drafted = (divergence(logits, targets, vocabulary) * weight).sum()
        loss, plain, coherent = drafted, drafted, drafted.new_zeros(())
        if parts.sampler is not None:
            plain = (divergence(scores(model, hidden[b], vocabulary.ids), targets, vocabulary) * weight).sum()
            coherent = drafted
            loss = config.plain_weight * plain + coherent
        shared = overlap(logits, targets, vocabulary, config.temperature, config.top_k)
        accepted = expected_accepted(shared, joined.depth[b], valid, config.survival)
        total = total + (1 - acceptance) * loss
        if acceptance:
            total = total - acceptance * accepted
        shown += torch.stack((plain.detach(), coherent.detach(), accepted.detach()))
    names = ("divergence", "coherent", "accepted")
    return total, {"loss": float(total.detach()), **dict(zip(names, shown.tolist(), strict=True))}
