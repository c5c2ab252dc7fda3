"""Where look-ahead chains are placed in a batch of sequences, and the mask and targets that follow from it.

A chain at context length c has rows LA_1..LA_d at positions c..c+d-1 (0-based). LA_j attends to tokens 0..c-1 and to
LA_1..LA_j of its own chain. It predicts token c+j; the model's own prediction of that token is the row of token c+j-1,
which is also the token right before the drafted one (the sampler head's input).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Chains:
    """Rows of all chains in a batch, [batch, rows] each, 0-based.

    Attributes:
        context: context length of the row's chain.
        chain: number of the chain within its sequence.
        depth: j - 1 for LA_j.
        valid: False for the few padding rows of a sequence too short for its share.
    """

    context: torch.Tensor
    chain: torch.Tensor
    depth: torch.Tensor
    valid: torch.Tensor

    def to(self, device: torch.device) -> Chains:
        """The same on another device."""
        return Chains(*(t.to(device) for t in (self.context, self.chain, self.depth, self.valid)))

    @property
    def position(self) -> torch.Tensor:
        """Position id of each row."""
        return self.context + self.depth

    @property
    def teacher(self) -> torch.Tensor:
        """Index of the real token whose row is the teacher and whose embedding is the parent."""
        return self.context + self.depth

    def mask(self, tokens: int) -> torch.Tensor:
        """[batch, 1, rows, tokens + rows], True where a row attends."""
        prefix = torch.arange(tokens, device=self.context.device) < self.context[..., None]
        same = self.chain[:, :, None] == self.chain[:, None, :]
        own = same & (self.depth[:, None, :] <= self.depth[:, :, None])
        return torch.cat((prefix, own), -1)[:, None]


def chain_depths(rows: int, count: int, survival: float, generator: torch.Generator) -> list[int]:
    """Depths of chains that together have exactly `rows` rows; each goes one deeper with probability `survival`."""
    depths: list[int] = []
    left = rows
    while left > 0:
        draws = torch.rand(count, generator=generator).tolist()
        depth = 1
        while depth < count and draws[depth] < survival:
            depth += 1
        depths.append(min(depth, left))
        left -= depths[-1]
    return depths


def place_chains(
    lengths: list[int],
    rows: int,
    count: int,
    survival: float,
    generator: torch.Generator,
    *,
    first: int = 1,
    weights: torch.Tensor | None = None,
    given: Sequence[Sequence[int]] = (),
) -> Chains:
    """Random chains for each sequence of the batch.

    Args:
        lengths: real tokens of each sequence.
        rows: look-ahead rows per sequence.
        count: L.
        first: least context length.
        weights: [batch, longest length] how often a chain starts at each context length; None for all alike.
        given: for each sequence context lengths at which its first chains start; the others are random.
    """
    context = torch.zeros(len(lengths), rows, dtype=torch.long)
    chain, depth = torch.full_like(context, -1), torch.zeros_like(context)
    valid = torch.zeros_like(context, dtype=torch.bool)
    for b, length in enumerate(lengths):
        depths = chain_depths(rows, count, survival, generator)
        places = length - first
        if weights is None or places < 1:
            order = torch.randperm(max(1, places), generator=generator)
        else:
            # Places in a weighted random order: none is taken twice before all were.
            keys = torch.empty(places).exponential_(generator=generator) / weights[b, first:length].clamp_min(1e-6)
            order = keys.argsort()
        wanted = list(given[b]) if given else []
        at = 0
        for n, d in enumerate(depths):
            c = wanted[n] if n < len(wanted) else first + int(order[n % len(order)])
            usable = min(d, length - c)
            span = slice(at, at + d)
            steps = torch.arange(d)
            context[b, span], chain[b, span], depth[b, span] = min(c, max(1, length - 1)), n, steps
            valid[b, span] = steps < usable
            at += d
    return Chains(context, chain, depth, valid)


def join(chains: Sequence[Chains]) -> Chains:
    """The chains of several batches in one, as many rows in each."""
    return Chains(*(torch.cat([getattr(c, f) for c in chains]) for f in ("context", "chain", "depth", "valid")))
