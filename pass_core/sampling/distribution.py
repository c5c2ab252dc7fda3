"""The one place that turns logits into probabilities: temperature and exact top-k, in float32."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import overload

import numpy as np
import numpy.typing as npt
import torch

from pass_core.runtime.native.top import native_top
from pass_core.runtime.native.walk import native_walk
from pass_core.sampling.noise import Stream, gumbel, stream_hash
from pass_core.settings import SamplingSettings

_SHORT = 512
_FETCHED = 160  # of each row, from a device: the 128 that the sampler head re-scores, and some for ties
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
    _by_id: dict[int, float] | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def certain(cls, token: int) -> Distribution:
        """All probability on one token: what a copied draft comes from."""
        return cls(np.array([token]), np.zeros(1))

    def log_prob(self, token: int) -> float:
        """Log probability of a token, -inf outside the support."""
        if self.ids.size <= _SHORT:  # asked for many tokens in turn
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
        if self.ids.size <= _SHORT:
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
    logits: torch.Tensor, sampling: SamplingSettings, rows: Sequence[int] | None = None
) -> list[Distribution]:
    """Process rows of `logits` [n, vocabulary] (any floating dtype and device) into distributions.

    Temperature 0 is the one-hot argmax. Top-k keeps exactly K tokens, ties broken by the lower id.

    Args:
        rows: which rows, in this order; all of them by default.
    """
    if not (logits.shape[0] if rows is None else len(rows)):
        return []
    logits = logits.float()
    if sampling.temperature == 0.0:
        ids, _ = top_candidates(logits, 1, rows)
        return [Distribution(row, np.zeros(1)) for row in ids]
    vocabulary = logits.shape[1]
    if sampling.top_k == 0 or sampling.top_k >= vocabulary:
        chosen = logits if rows is None else logits[list(rows)]
        below = chosen - chosen.amax(dim=-1, keepdim=True)  # first, so that no tiny temperature overflows
        scaled = below / max(sampling.temperature, _COLDEST)
        log_p = torch.log_softmax(scaled, dim=-1).cpu().numpy().astype(np.float64)
        every = np.arange(vocabulary, dtype=np.int64)
        return [Distribution(every, row) for row in log_p]
    ids, values = top_candidates(logits, sampling.top_k, rows)
    return [Distribution(i, p) for i, p in zip(ids, normalise(values, sampling.temperature))]


class RowDistributions(Sequence[Distribution]):
    """The distributions of rows of `logits` [n, vocabulary], each processed when it is first asked for: a walk through
    a tree of drafts looks at few of them."""

    def __init__(self, logits: torch.Tensor, sampling: SamplingSettings) -> None:
        self._logits = logits.float()
        self._sampling = sampling
        self._known: dict[int, Distribution] = {}

    def __len__(self) -> int:
        return int(self._logits.shape[0])

    @overload
    def __getitem__(self, index: int) -> Distribution: ...

    @overload
    def __getitem__(self, index: slice) -> list[Distribution]: ...

    def __getitem__(self, index: int | slice) -> Distribution | list[Distribution]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        found = self._known.get(index)
        if found is None:
            found = self._known[index] = distributions(self._logits, self._sampling, [range(len(self))[index]])[0]
        return found

    def sample_path(
        self, seed: int, position: int, tokens: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> list[int]:
        """The target's samples from row 0 on, for as long as a draft is the sample before: at least one.

        Args:
            position: of the first sample.
            tokens, parents: of the drafts, parents (-1: the root) before children; row i + 1 follows draft i.
        """
        sampling = self._sampling
        kept = 1 if sampling.temperature == 0.0 else sampling.top_k
        noise = stream_hash(seed, Stream.TARGET)
        temperature = max(sampling.temperature, _COLDEST)
        walk = native_walk(self._logits, kept, temperature, noise, position, tokens, parents)
        if walk is not None:
            log_p = np.zeros(walk.ids.shape) if kept == 1 else normalise(walk.values, temperature)
            for row, ids, p in zip(walk.rows, walk.ids, log_p):
                self._known.setdefault(row, Distribution(ids, p))
            return walk.samples
        samples: list[int] = []
        at: int | None = -1
        while at is not None:
            token = self[at + 1].sample(seed, position + len(samples))
            samples.append(token)
            at = next((i for i, (t, above) in enumerate(zip(tokens, parents)) if above == at and t == token), None)
        return samples


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
    logits: torch.Tensor, count: int, rows: Sequence[int] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The `count` largest of rows of float32 `logits` [n, vocabulary], ties by lower id, largest first.

    Args:
        rows: which rows, in this order; all of them by default.

    Returns:
        Ids and logits, [rows, count] each (fewer columns for a smaller vocabulary). One device-to-host copy for all
        questions about the same logits, unless ties go on for long.
    """
    count = min(count, logits.shape[1])
    found = native_top(logits, count, range(logits.shape[0]) if rows is None else rows)
    if found is not None:
        return found
    if rows is not None and not _copies_are_dear(logits):
        logits, rows = logits[list(rows)], None
    packed = _fetched(logits, count)
    at = range(logits.shape[0]) if rows is None else rows
    taken = packed.shape[1] // 2
    out_ids = np.empty((len(at), count), dtype=np.int64)
    out_values = np.empty((len(at), count), dtype=np.float32)
    for out, row in enumerate(at):
        v, i = packed[row, :taken], packed[row, taken:].astype(np.int64)
        if taken < logits.shape[1] and v[taken - 1] == v[count - 1]:
            # A tie across the boundary that may go on beyond: the fast selection may have kept the wrong ids.
            full = logits[row].cpu().numpy()
            i = np.flatnonzero(full >= v[count - 1]).astype(np.int64)
            v = full[i]
        order = np.lexsort((i, -v))[:count]
        out_ids[out], out_values[out] = i[order], v[order]
    return out_ids, out_values


def _fetched(logits: torch.Tensor, count: int) -> npt.NDArray[np.float32]:
    """More than `count` of the largest logits of each row, then their ids: [n, 2 * taken] on the host.

    A copy from a device costs more than what it carries: there candidates come to spare (ties are frequent in
    bfloat16), and stay for the next question about the same logits.
    """
    global _last
    if not _copies_are_dear(logits):
        return _largest(logits, count + 1)
    kept, packed = _last
    if kept() is not logits or packed.shape[1] < 2 * min(count + 1, logits.shape[1]):
        packed = _largest(logits, max(count + 1, _FETCHED))
        _last = (weakref.ref(logits), packed)
    return packed


def _copies_are_dear(logits: torch.Tensor) -> bool:
    return logits.device.type != "cpu"


def _largest(logits: torch.Tensor, taken: int) -> npt.NDArray[np.float32]:
    """[n, 2 * taken] the largest logits and their ids. Ids travel as float32, exact up to 2**24: MPS has no float64."""
    values, ids = torch.topk(logits, min(taken, logits.shape[1]), dim=-1, sorted=True)
    return torch.cat((values, ids.float()), dim=1).cpu().numpy()


_last: tuple[Callable[[], torch.Tensor | None], npt.NDArray[np.float32]] = (lambda: None, np.empty((0, 0), np.float32))
