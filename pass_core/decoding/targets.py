"""The target's distributions of a forward pass's rows, each processed when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import torch

from pass_core.kernels.interface import ROOT, Kernels, SampledPath, WalkRequest
from pass_core.sampling import nucleus
from pass_core.sampling.distribution import COLDEST, Distribution, distributions, normalise
from pass_core.sampling.noise import Stream, stream_hash
from pass_core.settings import SamplingSettings


class RowDistributions(Sequence[Distribution]):
    """The distributions of rows of `logits` [n, vocabulary]: a walk through a tree of drafts looks at few of them."""

    def __init__(self, logits: torch.Tensor, sampling: SamplingSettings, kernels: Kernels) -> None:
        self._logits = logits.float()
        self._sampling = sampling
        self._kernels = kernels
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
        index = range(len(self))[index]
        if index not in self._known:
            # One copy from a device for all rows: it costs more than what it carries.
            wanted = [index] if self._logits.device.type == "cpu" else list(range(len(self)))
            made = distributions(self._logits, self._sampling, wanted, self._kernels.top_k)
            for row, distribution in zip(wanted, made):
                self._known.setdefault(row, distribution)
        return self._known[index]

    def sample_path(
        self, seed: int, position: int, tokens: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> list[int]:
        """The target's samples from row 0 on, for as long as a draft is the sample before: at least one.

        Args:
            position: of the first sample.
            tokens, parents: of the drafts, parents (-1: the root) before children; row i + 1 follows draft i.
        """
        request = walk_request(self._sampling, seed, position)
        if nucleus.is_on(self._sampling) and not request.top_k:
            return self._walk(seed, position, tokens, parents)
        path = self._kernels.sample_path(self._logits, request, tokens, parents)
        if path.ids.shape[1]:
            for row, distribution in _along(path, request):
                self._known.setdefault(row, distribution)
        return path.samples

    def _walk(self, seed: int, position: int, tokens: Sequence[int], parents: Sequence[int]) -> list[int]:
        """The same by each row's own distribution: top-p and min-p of the whole vocabulary."""
        samples: list[int] = []
        at: int | None = ROOT
        while at is not None:
            sample = self[at + 1].sample(seed, position + len(samples))
            samples.append(sample)
            below = (i for i, above in enumerate(parents) if above == at and tokens[i] == sample)
            at = next(below, None)
        return samples


class PathDistributions:
    """The distributions of the rows that a walk has met, and its samples: what verification asks for.

    Args:
        path: with the tokens that could be sampled.
        request: what it was sampled by.
    """

    def __init__(self, path: SampledPath, request: WalkRequest) -> None:
        self._samples, self._known = path.samples, dict(_along(path, request))

    def __getitem__(self, index: int) -> Distribution:
        return self._known[index]

    def sample_path(
        self, seed: int, position: int, tokens: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> list[int]:
        """The samples that are known."""
        return self._samples


def walk_request(sampling: SamplingSettings, seed: int, position: int) -> WalkRequest:
    """How the target is sampled, from `position` on."""
    top_k = 1 if sampling.temperature == 0.0 else sampling.top_k
    request = WalkRequest(stream_hash(seed, Stream.TARGET), position, max(sampling.temperature, COLDEST), top_k)
    if nucleus.is_on(sampling) and top_k > 1:
        request = replace(request, top_p=sampling.top_p, log_min_p=sampling.log_min_p)
    return request


def _along(path: SampledPath, request: WalkRequest) -> Iterator[tuple[int, Distribution]]:
    """Each row that the walk met, and its distribution."""
    if nucleus.is_on(request):
        for row, ids, values, kept in zip(path.rows, path.ids, path.values, path.kept):
            yield row, Distribution(ids[:kept], normalise(values[:kept], request.temperature))
        return
    log_p = np.zeros(path.ids.shape) if request.top_k == 1 else normalise(path.values, request.temperature)
    for row, ids, p in zip(path.rows, path.ids, log_p):
        yield row, Distribution(ids, p)
