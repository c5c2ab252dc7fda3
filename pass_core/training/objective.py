"""What is minimised: divergence from the model's own predictions, and near the end of a run the acceptance itself.

The teacher at each place is the model's own distribution after the true tokens, kept as its `TEACHER_TOP` likeliest
tokens. The student's softmax runs over a part of the vocabulary: all tokens that any teacher row of the sequence lists,
the most frequent tokens, and a random sample of the rest that is weighted up to stand for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

TEACHER_TOP = 64
SAMPLED_REST = 1024


@dataclass(frozen=True)
class Targets:
    """The teacher's likeliest tokens for some rows: ids [rows, TEACHER_TOP] and their log-probabilities at
    temperature 1, highest first."""

    ids: torch.Tensor
    log_probs: torch.Tensor


@dataclass(frozen=True)
class Vocabulary:
    """The part of the vocabulary that a sequence's losses look at.

    Attributes:
        ids: [size] token ids; the last `sampled` are the random sample.
        correction: [size] added to logits in the log-sum-exp (log of how many tokens each stands for).
        places: [rows, TEACHER_TOP] where the teacher's tokens are in `ids`.
        sampled: how many of `ids` are the random sample.
    """

    ids: torch.Tensor
    correction: torch.Tensor
    places: torch.Tensor
    sampled: int


def choose_vocabulary(
    targets: Targets, frequent: torch.Tensor, size: int, generator: torch.Generator, sampled: int = SAMPLED_REST
) -> Vocabulary:
    """The teacher's tokens, the `frequent` ones, and a random sample of the other `size` tokens."""
    rows, top = targets.ids.shape
    kept, inverse = torch.unique(torch.cat((targets.ids.flatten(), frequent)), return_inverse=True)
    rest = torch.ones(size, dtype=torch.bool)
    rest[kept.cpu()] = False
    others = rest.nonzero().flatten()
    sampled = min(sampled, len(others))
    picked = others[torch.randperm(len(others), generator=generator)[:sampled]].to(kept.device)
    correction = torch.zeros(len(kept) + sampled, device=kept.device)
    if sampled:
        correction[len(kept) :] = float(torch.log(torch.tensor(len(others) / sampled)))
    return Vocabulary(torch.cat((kept, picked)), correction, inverse[: rows * top].view(rows, top), sampled)


def divergence(logits: torch.Tensor, targets: Targets, vocabulary: Vocabulary) -> torch.Tensor:
    """Forward KL(teacher ‖ student) by row, the teacher renormalised over its likeliest tokens.

    Args:
        logits: [rows, vocabulary part], float32.
    """
    log_p = targets.log_probs - targets.log_probs.logsumexp(-1, keepdim=True)
    log_q = logits.gather(1, vocabulary.places) - (logits + vocabulary.correction).logsumexp(-1, keepdim=True)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def overlap(
    logits: torch.Tensor, targets: Targets, vocabulary: Vocabulary, temperature: float, top_k: int
) -> torch.Tensor:
    """Σ min(p, q) by row after temperature and top-k: the chance that a draft can be accepted (1 - total variation)."""
    k = min(top_k, targets.ids.shape[1], logits.shape[1] - vocabulary.sampled)
    p = F.softmax(targets.log_probs[:, :k] / temperature, -1)
    known = logits[:, : logits.shape[1] - vocabulary.sampled] / temperature
    best = known.topk(k, -1)
    log_z = best.values.logsumexp(-1, keepdim=True)
    at = vocabulary.places[:, :k]
    value = known.gather(1, at)
    q = torch.where(value >= best.values[:, -1:], (value - log_z).exp(), torch.zeros_like(value))
    return torch.minimum(p, q).sum(-1)


def expected_accepted(
    overlaps: torch.Tensor, depth: torch.Tensor, valid: torch.Tensor, survival: float
) -> torch.Tensor:
    """Mean drafts accepted in one chain, Σ_j Π_{i≤j} overlap_i, differentiable.

    Args:
        overlaps: [rows], rows of a chain one after the other.
        depth: [rows], 0 starts a chain.
        valid: [rows], False rows count nothing.
        survival: chance that a chain goes one row deeper; deeper rows are weighted up by its inverse.
    """
    deepest = int(depth.max()) + 1
    total = overlaps.new_zeros(())
    product = overlaps
    weight = 1.0
    counted = valid
    for j in range(deepest):
        rows = (depth == j) & counted
        total = total + weight * torch.where(rows, product, torch.zeros_like(product)).sum()
        # shift: the row below continues this row's product
        product = torch.cat((product.new_ones(1), product[:-1])) * overlaps
        weight /= survival
    return total / (valid & (depth == 0)).sum().clamp_min(1)
