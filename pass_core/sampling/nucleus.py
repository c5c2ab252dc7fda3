"""Top-p and min-p: how many of the likeliest tokens they keep.

Top-p keeps the fewest likeliest tokens whose probabilities add up to p or more, and min-p those that have at least p
times the probability of the likeliest one. Both keep the beginning of a list ordered by falling logit and rising token
id. Probabilities are added as whole numbers: such a sum is the same in every order, so that neither threads nor other
rows nor a GPU can move the edge.

Sources: Holtzman et al. 2020 (top-p), Nguyen et al. 2024 (min-p), with the meaning of transformers'
TopPLogitsWarper and MinPLogitsWarper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

ONE = 2.0**43  # the weight of the likeliest token; 2^19 such tokens stay below 2^63
_TRIED = (256, 4096)  # likeliest tokens that are looked at before all of them are

TopK = Callable[[torch.Tensor, int, Sequence[int] | None], tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]
"""The largest logits of rows: `top_candidates`, or what a `Kernels` has for it."""


class Cut(Protocol):
    """Top-p, 1 for off, and the logarithm of min-p, -inf for off."""

    @property
    def top_p(self) -> float: ...

    @property
    def log_min_p(self) -> float: ...


def is_on(cut: Cut) -> bool:
    """Whether either of them can leave a token out."""
    return cut.top_p < 1.0 or cut.log_min_p > -math.inf


def weights(scaled: torch.Tensor) -> torch.Tensor:
    """Int64 weights of float64 log weights of which the largest is 0."""
    return torch.round(torch.exp(scaled) * ONE).long()


def kept(scaled: torch.Tensor, cut: Cut, total: torch.Tensor | None = None) -> torch.Tensor:
    """Int64 [...], at least 1: how many from the first on are kept.

    Args:
        scaled: [..., K] float64, logits / temperature less the largest of them, falling.
        total: [...] sum of the weights of all tokens that top-p counts; those of `scaled` by default.
    """
    inside = scaled >= cut.log_min_p
    if cut.top_p < 1.0:
        weight = weights(scaled)
        likelier = weight.cumsum(-1) - weight
        total = weight.sum(-1) if total is None else total.to(weight.device)
        inside = inside & (likelier.double() < cut.top_p * total.double()[..., None])
    return inside.sum(-1).clamp_min(1)


def largest_of_all(
    logits: torch.Tensor, temperature: float, cut: Cut, rows: Sequence[int] | None, select: TopK
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Ids and logits that are kept of the whole vocabulary, for each row, likeliest first.

    The sum goes over every token. Only as many are sorted as are kept, or some more.

    Args:
        logits: float32 [n, vocabulary].
        temperature: above 0.
        rows: which rows, in this order; all of them for None.
    """
    every = list(range(logits.shape[0])) if rows is None else list(rows)
    wide = (logits.cpu() if logits.device.type == "mps" else logits)[every].double()  # MPS has no float64
    total = weights((wide - wide.amax(1, keepdim=True)) / temperature).sum(1).cpu()
    found: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = {}
    for count in (*_TRIED, logits.shape[1]):
        missing = [i for i in range(len(every)) if i not in found]
        if not missing:
            break
        ids, values = select(logits, min(count, logits.shape[1]), [every[i] for i in missing])
        counts = kept(scaled_of(values, temperature), cut, total[missing]).tolist()
        for i, n, row, numbers in zip(missing, counts, ids, values):
            if n < count or count >= logits.shape[1]:
                found[i] = row[:n], numbers[:n]
    return [found[i] for i in range(len(every))]


def scaled_of(values: npt.NDArray[np.float32], temperature: float) -> torch.Tensor:
    """[rows, K] float64: logits that fall from the first on, as `kept` takes them."""
    wide = torch.from_numpy(values).double()
    return (wide - wide[:, :1]) / temperature
