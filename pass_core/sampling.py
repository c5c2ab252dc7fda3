"""The one place that turns logits into probabilities: temperature and exact top-k, in float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pass_core.decoding.settings import SamplingSettings
from pass_core.noise import Stream, gumbel

_BLOCK = 128
_COLDEST = 1e-30  # a temperature that float32 can still divide by


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution over the tokens that temperature and top-k left.

    Attributes:
        ids: [K] token ids, likeliest first, ties by lower id; with top-k off all ids in ascending order.
        log_p: [K] float64, normalised log probabilities.
    """

    ids: npt.NDArray[np.int64]
    log_p: npt.NDArray[np.float64]

    def log_prob(self, token: int) -> float:
        """Log probability of a token, -inf outside the support."""
        at = np.flatnonzero(self.ids == token)
        return float(self.log_p[at[0]]) if at.size else float("-inf")

    def prob(self, token: int) -> float:
        """Probability of a token, 0 outside the support."""
        return float(np.exp(self.log_prob(token)))

    def likeliest(self, count: int) -> list[tuple[int, float]]:
        """The `count` likeliest (id, probability), ties by lower id."""
        if self.ids.size > count:
            part = np.flatnonzero(self.log_p >= np.partition(self.log_p, -count)[-count])
        else:
            part = np.arange(self.ids.size)
        order = part[np.lexsort((self.ids[part], -self.log_p[part]))][:count]
        return [(int(self.ids[i]), float(np.exp(self.log_p[i]))) for i in order]

    def perturbed(self, seed: int, position: int, stream: Stream = Stream.TARGET) -> npt.NDArray[np.float64]:
        """[K] log p + Gumbel noise of this position; its argmax is an exact sample."""
        return self.log_p + gumbel(seed, position, self.ids, stream)

    def sample(self, seed: int, position: int, stream: Stream = Stream.TARGET) -> int:
        """The exact sample that seed, position and stream determine."""
        if self.ids.size == 1:
            return int(self.ids[0])
        return int(self.ids[int(np.argmax(self.perturbed(seed, position, stream)))])


def distributions(logits: torch.Tensor, sampling: SamplingSettings) -> list[Distribution]:
    """Process the rows of `logits` [n, vocabulary] (any floating dtype and device) into distributions.

    Temperature 0 is the one-hot argmax. Top-k keeps exactly K tokens, ties broken by the lower id.
    """
    if logits.shape[0] == 0:
        return []
    logits = logits.float()
    if sampling.temperature == 0.0:
        ids, _ = top_candidates(logits, 1)
        return [Distribution(row[:1], np.zeros(1)) for row in ids]
    vocabulary = logits.shape[1]
    if sampling.top_k == 0 or sampling.top_k >= vocabulary:
        below = logits - logits.amax(dim=-1, keepdim=True)  # first, so that no tiny temperature overflows
        scaled = below / max(sampling.temperature, _COLDEST)
        log_p = torch.log_softmax(scaled, dim=-1).cpu().numpy().astype(np.float64)
        every = np.arange(vocabulary, dtype=np.int64)
        return [Distribution(every, row) for row in log_p]
    ids, values = top_candidates(logits, sampling.top_k)
    return [Distribution(i, normalise(v, sampling.temperature)) for i, v in zip(ids, values)]


def candidate_distributions(
    ids: npt.NDArray[np.int64], logits: npt.NDArray[np.float32], sampling: SamplingSettings
) -> list[Distribution]:
    """Distributions over given candidates only: rising ids [C], logits [m, C] (re-scored drafts)."""
    kept = 1 if sampling.temperature == 0.0 else sampling.top_k or ids.size
    order = np.argsort(-logits, axis=1, kind="stable")[:, :kept]
    if sampling.temperature == 0.0:
        return [Distribution(ids[row], np.zeros(1)) for row in order]
    log_p = normalise(np.take_along_axis(logits, order, axis=1), sampling.temperature)
    return [Distribution(ids[row], p) for row, p in zip(order, log_p)]


def normalise(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """Log softmax of logits / temperature over the last axis."""
    below = (logits - logits.max(-1, keepdims=True)).astype(np.float64)
    scaled = below / max(temperature, _COLDEST)
    return scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))


def top_candidates(
    logits: torch.Tensor, count: int
) -> tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.float32]]]:
    """The `count` largest of each row of float32 `logits` [n, vocabulary], ties by lower id, largest first.

    Returns:
        Per row the [count] ids and their [count] logits. One device-to-host copy.
    """
    rows, vocabulary = logits.shape
    count = min(count, vocabulary)
    taken = min(count + 1, vocabulary)
    values, ids = _top(logits, taken)
    # Ids travel as float32, exact up to 2**24: one copy, and MPS has no float64.
    packed = torch.cat((values, ids.float()), dim=1).cpu().numpy()
    host_values = packed[:, :taken]
    host_ids = packed[:, taken:].astype(np.int64)
    out_ids: list[npt.NDArray[np.int64]] = []
    out_values: list[npt.NDArray[np.float32]] = []
    for row in range(rows):
        v, i = host_values[row], host_ids[row]
        if taken > count and v[count] == v[count - 1]:
            # A tie across the boundary: the fast selection may have kept the wrong ids.
            full = logits[row].cpu().numpy()
            i = np.flatnonzero(full >= v[count - 1]).astype(np.int64)
            v = full[i]
        order = np.lexsort((i, -v))[:count]
        out_ids.append(i[order])
        out_values.append(v[order])
    return out_ids, out_values


def _top(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """torch.topk, by way of the blocks with the largest maxima: selecting among a whole vocabulary is slow on CPUs."""
    rows, vocabulary = logits.shape
    blocks = vocabulary // _BLOCK
    if logits.device.type != "cpu" or vocabulary % _BLOCK or blocks <= 2 * count:
        return torch.topk(logits, count, dim=-1, sorted=True)
    grouped = logits.view(rows, blocks, _BLOCK)
    chosen = torch.topk(grouped.amax(-1), count, dim=-1, sorted=False).indices
    inside = torch.gather(grouped, 1, chosen[:, :, None].expand(-1, -1, _BLOCK)).reshape(rows, -1)
    values, at = torch.topk(inside, count, dim=-1, sorted=True)
    ids = torch.gather(chosen, 1, at // _BLOCK) * _BLOCK + at % _BLOCK
    return values, ids
