"""One optimiser step's loss and its schedule, as functions of the seed and the step number."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.training.acceptance import coupled_ranking
from pass_core.training.chains import Chains, place_chains
from pass_core.training.config import TrainingConfig
from pass_core.training.forward import lookahead_forward
from pass_core.training.objective import (
    LISTED,
    Match,
    Targets,
    choose_vocabulary,
    divergence,
    expected_accepted,
    match,
)
from pass_core.training.parts import TrainableParts
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


class Schedule(Protocol):
    """What the learning rate follows."""

    @property
    def steps(self) -> int: ...
    @property
    def warmup(self) -> int: ...


def learning_rate_factor(step: int, config: Schedule) -> float:
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


def sequence_numbers(step: int, config: TrainingConfig, size: int) -> list[int]:
    """The sequences, of `size`, that a step trains on: every epoch is a new order from the seed."""
    numbers: list[int] = []
    for i in range(step * config.batch, (step + 1) * config.batch):
        epoch, place = divmod(i, size)
        numbers.append(epoch_order(size, config.seed, epoch)[place])
    return numbers


def place_weights(batch: Batch, config: TrainingConfig) -> torch.Tensor:
    """Weights of the context lengths c at which chains of each sequence start, [batch, tokens], on the CPU.

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


def place_batch(
    batch: Batch, config: TrainingConfig, generators: Sequence[torch.Generator], walked: Sequence[Sequence[int]]
) -> list[Chains]:
    """The chains of each sequence of a batch, [1, rows] each, on the CPU.

    Args:
        walked: for each sequence, where simulated decoding is: its first chains start there.
    """
    weights = place_weights(batch, config) if config.surprise else None
    return [
        place_chains(
            [length],
            config.rows,
            config.lookahead,
            config.survival,
            generator,
            weights=None if weights is None else weights[b : b + 1],
            given=[walked[b]],
        )
        for b, (length, generator) in enumerate(zip(batch.lengths, generators, strict=True))
    ]


@dataclass(frozen=True)
class BatchLoss:
    """A batch's loss, summed over its sequences.

    Attributes:
        total: with gradient.
        shown: [4] sums of loss, divergence of the plain drafts, of the coherent ones, and drafts accepted a chain.
        match, targets: of the chains' rows, for `drafts_hit`.
    """

    total: torch.Tensor
    shown: torch.Tensor
    match: Match
    targets: Targets

    @property
    def names(self) -> tuple[str, ...]:
        """Of `shown`."""
        return ("loss", "divergence", "coherent", "accepted")


def drafts_hit(
    loss: BatchLoss, batch: Batch, chains: Chains, generators: Sequence[torch.Generator], config: TrainingConfig
) -> torch.Tensor:
    """[batch, rows] on the CPU: whether each row's draft is the text's next token, under noise that made it so.

    Where the text has no next token, the draft counts as a miss.
    """
    ids = batch.prefix.ids
    following = chains.teacher + 1
    chosen = ids.gather(1, following.clamp_max(ids.shape[1] - 1)).cpu()
    inside = following.cpu() < torch.tensor(batch.lengths)[:, None]
    p_ids, p = loss.targets.processed(config.temperature, config.top_k)
    p_ids, p_log, q_ids, q_log = (t.cpu() for t in (p_ids, p.log(), loss.match.q_ids, loss.match.q.log()))
    drafts = [
        coupled_ranking(p_ids[b], p_log[b], q_ids[b], q_log[b], chosen[b], generator)[:, 0]
        for b, generator in enumerate(generators)
    ]
    return (torch.stack(drafts) == chosen) & inside


def batch_loss(
    model: LanguageModel,
    parts: TrainableParts,
    batch: Batch,
    chains: Chains,
    generators: Sequence[torch.Generator],
    frequent: torch.Tensor,
    config: TrainingConfig,
    acceptance: float,
) -> BatchLoss:
    """The loss of a batch, its components, and what the drafts of its chains came to.

    Args:
        chains: of all sequences, on the model's device.
        generators: one for each sequence.
        acceptance: weight of the acceptance loss, 0 to 1.
    """
    hidden = lookahead_forward(model, parts, batch.prefix, chains)
    at = chains.teacher.clamp_max(batch.prefix.ids.shape[1] - 1)
    targets = batch.targets.at(at)
    listed = targets.first(LISTED)
    vocabulary = choose_vocabulary(listed, frequent, model.vocabulary_size, generators)
    weight = chains.valid.float() / chains.valid.sum(1, keepdim=True).clamp_min(1)
    before = batch.prefix.ids.gather(1, at)
    fitted = parts.fitted(model, hidden.flatten(0, 1), before.flatten(), chains.depth.flatten())
    drafted = hidden if fitted is None else fitted.view_as(hidden)
    logits = part_logits(model, drafted, vocabulary.ids)
    diverged = (divergence(logits, listed, vocabulary) * weight).sum(1)
    loss, plain, coherent = diverged, diverged, torch.zeros_like(diverged)
    if parts.sampler is not None:
        plain = (divergence(part_logits(model, hidden, vocabulary.ids), listed, vocabulary) * weight).sum(1)
        coherent = diverged
        loss = config.plain_weight * plain + coherent
    matched = match(logits, targets, vocabulary, chains.depth, config.temperature, config.top_k)
    chain = [
        expected_accepted(chances, chains.depth, chains.valid, config.survival, config.lookahead)
        for chances in (matched.draft, matched.few)
    ]
    gained = (1 - config.few_weight) * chain[0] + config.few_weight * chain[1]
    total = ((1 - acceptance) * loss - acceptance * gained).sum()
    shown = torch.stack((total, plain.sum(), coherent.sum(), chain[0].sum())).detach()
    return BatchLoss(total, shown, matched, targets)


def part_logits(model: LanguageModel, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Logits [batch, rows, size] of final hidden states [batch, rows, hidden], over `ids` [batch, size]."""
    return torch.stack([model.logits(states, part) for states, part in zip(hidden, ids, strict=True)])
