"""The coupled rule's acceptance in closed form: how often drafts hold the target's token when both share their noise.

Draft and target each take the first to ring of the same exponential clocks E_v, run at rates q_v and p_v. The target
takes y at time t = E_y / p_y when no clock rang earlier there: E_v > t p_v for all v. The draft ranks y below v when
E_v / q_v < E_y / q_y. With S_y = Σ_v max(p_v / p_y, q_v / q_y) and d_v = max(0, q_v / q_y - p_v / p_y), an
integral over E_y gives for "the target takes y, and ..."

- y is the draft:                1 / S_y                                 (Daliri, Musco & Suresh 2024, arXiv 2408.07978)
- v alone stands above y:        1 / (S_y - d_v) - 1 / S_y
- v and w alone stand above y:   1 / (S_y - d_v - d_w) - 1 / (S_y - d_v) - 1 / (S_y - d_w) + 1 / S_y

The sum over y is what a chain (the first line) and a tree with two or three siblings get accepted. All of it is
differentiable in q almost everywhere.
"""

from __future__ import annotations

import torch

MOST_SIBLINGS = 3


def on_drafts(p_ids: torch.Tensor, p: torch.Tensor, q_ids: torch.Tensor) -> torch.Tensor:
    """The probabilities p [..., m] of tokens p_ids, looked up for the tokens q_ids [..., k]; 0 where p has them not."""
    same = q_ids[..., :, None] == p_ids[..., None, :]
    return (same.to(p.dtype) * p[..., None, :]).sum(-1)


def among_best(p: torch.Tensor, q: torch.Tensor, siblings: int) -> torch.Tensor:
    """Chance by row that the target's token is among the `siblings` best drafts under the shared noise.

    Args:
        p: [..., k] the target's probabilities of the draft's tokens (what is missing from 1 lies elsewhere).
        q: [..., k] the draft's probabilities of the same tokens, summing to 1.
        siblings: 1 to 3.

    Raises:
        ValueError: siblings out of range.
    """
    if not 1 <= siblings <= MOST_SIBLINGS:
        raise ValueError(f"siblings must be 1 to {MOST_SIBLINGS}, not {siblings}")
    elsewhere = (1 - p.sum(-1, keepdim=True)).clamp_min(0)
    # Everything times p_y q_y, so that no ratio is formed: [..., y, v].
    of_p, of_q = p[..., None, :] * q[..., :, None], q[..., None, :] * p[..., :, None]
    larger = torch.maximum(of_p, of_q)
    both, rest = p * q, elsewhere * q
    least = both.clamp_min(16 * torch.finfo(p.dtype).tiny ** 0.5)  # whose square, in the backward pass, is a number
    first = both / torch.maximum(larger.sum(-1) + rest, least)
    if siblings == 1:
        return first.sum(-1)
    # S_y - d_v as a sum of its own: where q_v is nearly 1, subtracting leaves nothing but rounding.
    k = p.shape[-1]
    apart = ~torch.eye(k, dtype=torch.bool, device=p.device)
    one = larger @ apart.to(p.dtype) + of_p + rest[..., None]
    without = both[..., None] / torch.maximum(one, least[..., None])
    chance = first + (without - first[..., None]).sum(-1)
    if siblings == 2:
        return chance.sum(-1)
    neither = (apart[:, :, None] & apart[:, None, :]).to(p.dtype).view(k, k * k)
    two = (larger @ neither).unflatten(-1, (k, k)) + of_p[..., :, None] + of_p[..., None, :] + rest[..., None, None]
    pairs = both[..., None, None] / torch.maximum(two, least[..., None, None])
    third = pairs - without[..., None] - without[..., None, :] + first[..., None, None]
    return (chance + 0.5 * (third * apart).sum((-1, -2))).sum(-1)
