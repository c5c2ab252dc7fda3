"""The one place that turns logits into probabilities: temperature, exact top-k, top-p and min-p."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from pass_core.sampling import nucleus, top
from pass_core.sampling.noise import Stream, gumbel
from pass_core.sampling.nucleus import TopK
from pass_core.settings import SamplingSettings

SHORT = 512  # tokens of a distribution that top-k or the like has cut
COLDEST = 1e-30  # a temperature that float32 can still divide by


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution over the tokens that top-k, top-p and min-p left.

    Attributes:
        ids: [K] token ids, likeliest first, ties by lower id; with all three off all ids in ascending order.
        log_p: [K] float64, normalised log probabilities.
    """

    ids: npt.NDArray[np.int64]
    log_p: npt.NDArray[np.float64]
    _by_id: dict[int, float] | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def certain(cls, token: int) -> Distribution:
        """All probability on one token: what a copied draft comes from."""
        return cls(np.array([token]), np.zeros(1))

    def log_prob(self, token: int) -> float:
        """Log probability of a token, -inf outside the support."""
        if self.ids.size <= SHORT:  # asked for many tokens in turn
            known = self._by_id
            if known is None:
                known = dict(zip(self.ids.tolist(), self.log_p.tolist()))
                object.__setattr__(self, "_by_id", known)
            return known.get(token, -math.inf)
        at = (self.ids == token).argmax()
        return float(self.log_p[at]) if self.ids[at] == token else -math.inf

    def prob(self, token: int) -> float:
        """Probability of a token, 0 outside the support."""
        return math.exp(self.log_prob(token))

    def likeliest(self, count: int) -> list[tuple[int, float]]:
        """The `count` likeliest (id, probability), ties by lower id."""
        if self.ids.size <= SHORT:
            p = self.log_p.tolist()
            if all(a > b for a, b in pairwise(p)):  # as top-k lists them
                return [(i, math.exp(x)) for i, x in zip(self.ids[:count].tolist(), p)]
        if self.ids.size > count:
            part = np.flatnonzero(self.log_p >= np.partition(self.log_p, -count)[-count])
        else:
            part = np.arange(self.ids.size)
        order = part[np.lexsort((self.ids[part], -self.log_p[part]))][:count]
        return [(int(self.ids[i]), math.exp(self.log_p[i])) for i in order]

    def perturbed(self, seed: int, position: int, stream: Stream = Stream.TARGET) -> npt.NDArray[np.float64]:
        """[K] log p + Gumbel noise of this position; its argmax is an exact sample."""
        return self.log_p + gumbel(seed, position, self.ids, stream)

    def sample(self, seed: int, position: int, stream: Stream = Stream.TARGET) -> int:
        """The exact sample that seed, position and stream determine."""
        if self.ids.size == 1:
            return int(self.ids[0])
        return int(self.ids[int(np.argmax(self.perturbed(seed, position, stream)))])


def distributions(
    logits: torch.Tensor, sampling: SamplingSettings, rows: Sequence[int] | None = None, select: TopK | None = None
) -> list[Distribution]:
    """Process rows of `logits` [n, vocabulary] (any floating dtype and device) into distributions.

    Temperature 0 is the one-hot argmax. Top-k keeps exactly K tokens, ties broken by the lower id; for top-p and min-p
    see `pass_core.sampling.nucleus`.

    Args:
        rows: which rows, in this order; all of them by default.
        select: what selects the largest logits; torch by default.
    """
    select = select or top_candidates
    if not (logits.shape[0] if rows is None else len(rows)):
        return []
    logits = logits.float()
    if sampling.temperature == 0.0:
        ids, _ = select(logits, 1, rows)
        return [Distribution(row, np.zeros(1)) for row in ids]
    vocabulary = logits.shape[1]
    temperature, cut = max(sampling.temperature, COLDEST), nucleus.is_on(sampling)
    if cut and not 0 < sampling.top_k < vocabulary:
        found = nucleus.largest_of_all(logits, temperature, sampling, rows, select)
        return [Distribution(ids, normalise(values, temperature)) for ids, values in found]
    if sampling.top_k == 0 or sampling.top_k >= vocabulary:
        chosen = logits if rows is None else logits[list(rows)]
        below = chosen - chosen.amax(dim=-1, keepdim=True)  # first, so that no tiny temperature overflows
        scaled = below / temperature
        log_p = torch.log_softmax(scaled, dim=-1).cpu().numpy().astype(np.float64)
        every = np.arange(vocabulary, dtype=np.int64)
        return [Distribution(every, row) for row in log_p]
    ids, values = select(logits, sampling.top_k, rows)
    if cut:
        counts = nucleus.kept(nucleus.scaled_of(values, temperature), sampling).tolist()
        return [Distribution(i[:n], normalise(v[:n], temperature)) for i, v, n in zip(ids, values, counts)]
    return [Distribution(i, p) for i, p in zip(ids, normalise(values, temperature))]


def normalise(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """Log softmax of logits / temperature over the last axis."""
    wide = logits.astype(np.float64)
    below = wide - wide.max(-1, keepdims=True)
    scaled = below / max(temperature, COLDEST)
    return scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))


def top_candidates(
    logits: torch.Tensor, count: int, rows: Sequence[int] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The `count` largest of rows of float32 `logits` [n, vocabulary], ties by lower id, largest first.

    Args:
        rows: which rows, in this order; all of them by default.

    Returns:
        Ids and logits, [rows, count] each (fewer columns for a smaller vocabulary).
    """
    if rows is not None:
        logits = logits[list(rows)]
    ids, values = top.top_k(logits, min(count, logits.shape[1]))
    return ids.cpu().numpy(), values.cpu().numpy()
