"""The target's distributions of a forward pass's rows, each processed when it is first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import torch

from pass_core.kernels.interface import ROOT, Kernels, WalkRequest
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
        sampling = self._sampling
        top_k = 1 if sampling.temperature == 0.0 else sampling.top_k
        cut = nucleus.is_on(sampling) and top_k != 1
        if cut and not top_k:
            return self._walk(seed, position, tokens, parents)
        temperature = max(sampling.temperature, COLDEST)
        request = WalkRequest(stream_hash(seed, Stream.TARGET), position, temperature, top_k)
        if cut:
            request = replace(request, top_p=sampling.top_p, log_min_p=sampling.log_min_p)
        path = self._kernels.sample_path(self._logits, request, tokens, parents)
        if not path.ids.shape[1]:
            return path.samples
        if cut:
            for row, ids, values, kept in zip(path.rows, path.ids, path.values, path.kept):
                self._known.setdefault(row, Distribution(ids[:kept], normalise(values[:kept], temperature)))
            return path.samples
        log_p = np.zeros(path.ids.shape) if top_k == 1 else normalise(path.values, temperature)
        for row, ids, p in zip(path.rows, path.ids, log_p):
            self._known.setdefault(row, Distribution(ids, p))
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
