"""The loss: divergence from the model's own predictions, and the drafts that the coupled rule would accept.

The teacher at each place is the model's own distribution after the true tokens, kept as its `TEACHER_TOP` likeliest
tokens. The student's softmax runs over a part of the vocabulary for each sequence: all tokens that the teacher rows of
its chains list first, the most frequent tokens, and a random sample of the rest, weighted up for all of it.
Everything is one tensor operation over the whole batch and reads nothing back, so that a GPU never waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from pass_core.training.coupled import among_best, on_drafts

TEACHER_TOP = 64
LISTED = 32  # of the teacher's tokens, which the student is compared on
SAMPLED_REST = 1024


@dataclass(frozen=True)
class Targets:
    """The teacher's likeliest tokens: ids [..., TEACHER_TOP] and their log-probabilities at temperature 1, highest
    first."""

    ids: torch.Tensor
    log_probs: torch.Tensor

    def at(self, places: torch.Tensor) -> Targets:
        """The rows `places` [batch, rows] of targets [batch, tokens, TEACHER_TOP]."""
        index = places[..., None].expand(-1, -1, self.ids.shape[-1])
        return Targets(self.ids.gather(1, index), self.log_probs.gather(1, index))

    def first(self, count: int) -> Targets:
        """The `count` likeliest alone."""
        return Targets(self.ids[..., :count], self.log_probs[..., :count])

    def of_first(self, count: int) -> Targets:
        """Those of the first `count` sequences."""
        return Targets(self.ids[:count], self.log_probs[:count])

    def processed(self, temperature: float, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, probabilities) [..., top_k] after temperature and top-k."""
        kept = self.first(top_k)
        return kept.ids, F.softmax(kept.log_probs / temperature, -1)


@dataclass(frozen=True)
class Vocabulary:
    """The part of the vocabulary that each sequence's losses look at.

    Attributes:
        ids: [batch, size] token ids.
        correction: [batch, size] added to logits in the log-sum-exp (log of how many tokens each represents).
        sampled: [batch, size] True where a token represents others, too.
        places: [batch, rows, LISTED] where the teacher's tokens are in `ids`.
    """

    ids: torch.Tensor
    correction: torch.Tensor
    sampled: torch.Tensor
    places: torch.Tensor

    def of_first(self, count: int) -> Vocabulary:
        """That of the first `count` sequences."""
        return Vocabulary(self.ids[:count], self.correction[:count], self.sampled[:count], self.places[:count])


def choose_vocabulary(
    targets: Targets,
    frequent: torch.Tensor,
    size: int,
    generators: Sequence[torch.Generator],
    sampled: int = SAMPLED_REST,
) -> Vocabulary:
    """For each sequence the tokens of its `targets` [batch, rows, LISTED], the `frequent` ones, and a random sample of
    the other `size` tokens: at least `sampled`, and more where teacher rows list the same tokens."""
    batch, rows, listed = targets.ids.shape
    device = targets.ids.device
    width = min(size, rows * listed + len(frequent) + sampled)
    kept = torch.zeros(batch, size, dtype=torch.bool, device=device)
    kept.scatter_(1, targets.ids.flatten(1), True)
    kept[:, frequent] = True
    draws = torch.stack([torch.rand(size, generator=g) for g in generators]).to(device)
    ids = (draws + 2.0 * kept).topk(width, dim=1, sorted=False).indices
    others = ~kept.gather(1, ids)
    left, drawn = (~kept).sum(1, keepdim=True), others.sum(1, keepdim=True)
    stands_for = (left.float() / drawn.clamp_min(1)).clamp_min(1).log()
    inverse = torch.zeros(batch, size, dtype=torch.long, device=device)
    inverse.scatter_(1, ids, torch.arange(width, device=device).expand(batch, -1))
    places = inverse.gather(1, targets.ids.flatten(1)).view(batch, rows, listed)
    return Vocabulary(ids, stands_for * others, others, places)


def divergence(logits: torch.Tensor, targets: Targets, vocabulary: Vocabulary) -> torch.Tensor:
    """Forward KL(teacher ‖ student) by row [batch, rows], the teacher renormalised over its listed tokens.

    Args:
        logits: [batch, rows, vocabulary part], float32.
    """
    log_p = targets.log_probs - targets.log_probs.logsumexp(-1, keepdim=True)
    normaliser = (logits + vocabulary.correction[:, None]).logsumexp(-1, keepdim=True)
    log_q = logits.gather(-1, vocabulary.places) - normaliser
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@dataclass(frozen=True)
class Match:
    """How often drafts match, by row.

    Attributes:
        draft: [batch, rows] chance that the draft is the target's token.
        few: [batch, rows] chance that one of the best few of a tree is.
        q_ids, q: [batch, rows, top_k] the drafts' distribution after temperature and top-k, without gradient.
    """

    draft: torch.Tensor
    few: torch.Tensor
    q_ids: torch.Tensor
    q: torch.Tensor


def match(
    logits: torch.Tensor,
    targets: Targets,
    vocabulary: Vocabulary,
    depth: torch.Tensor,
    temperature: float,
    top_k: int,
) -> Match:
    """What the coupled rule accepts after temperature and top-k, exactly (`pass_core.training.coupled`).

    The best few are three siblings at the first step and two below it, as trees of a dozen drafts have them.
    """
    known = logits.masked_fill(vocabulary.sampled[:, None], float("-inf"))
    best = known.topk(min(top_k, known.shape[-1]), -1)
    q = F.softmax(best.values / temperature, -1)
    q_ids = vocabulary.ids[:, None].expand(-1, logits.shape[1], -1).gather(-1, best.indices)
    p_ids, p = targets.processed(temperature, top_k)
    p = on_drafts(p_ids, p, q_ids)
    few = torch.where(depth == 0, among_best(p, q, 3), among_best(p, q, 2))
    return Match(among_best(p, q, 1), few, q_ids, q.detach())


def expected_accepted(
    chances: torch.Tensor, depth: torch.Tensor, valid: torch.Tensor, survival: float, deepest: int
) -> torch.Tensor:
    """Mean drafts accepted in one chain of each sequence [batch], Σ_j Π_{i≤j} chance_i, differentiable.

    Args:
        chances: [batch, rows], rows of a chain one after the other.
        depth: [batch, rows], 0 starts a chain.
        valid: [batch, rows], False rows count nothing.
        survival: chance that a chain goes one row deeper; deeper rows are weighted up by its inverse.
        deepest: rows of the longest chain.
    """
    total = chances.new_zeros(chances.shape[0])
    product = chances
    weight = 1.0
    for j in range(deepest):
        rows = (depth == j) & valid
        total = total + weight * torch.where(rows, product, torch.zeros_like(product)).sum(1)
        # shift: the row below continues this row's product
        product = torch.cat((product.new_ones(len(product), 1), product[:, :-1]), 1) * chances
        weight /= survival
    return total / (valid & (depth == 0)).sum(1).clamp_min(1)
