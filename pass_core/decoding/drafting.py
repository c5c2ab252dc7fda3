"""Drafts from look-ahead rows: distributions per depth, made coherent by the sampler head where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pass_core.decoding.settings import SamplingSettings
from pass_core.runtime.base import Runtime
from pass_core.runtime.sampler_head import SamplerHead
from pass_core.sampling import Distribution, candidate_distributions, distributions, top_candidates

SAMPLER_CANDIDATES = 128


class LookaheadDrafts:
    """What one chain of look-ahead rows drafts below the last committed token.

    Args:
        hidden: [c, hidden] look-ahead states after the final norm; row d-1 drafts depth d.
        steps: 0-based look-ahead step of each row (not d-1 where an ancestor's chain is borrowed).
        logits: [n, vocabulary] of some call's rows, where those of these rows are among them already.
        at: [c] which rows of `logits` those are; the first c by default.
    """

    def __init__(
        self,
        runtime: Runtime,
        hidden: torch.Tensor,
        steps: Sequence[int],
        sampler: SamplerHead | None = None,
        logits: torch.Tensor | None = None,
        at: Sequence[int] | None = None,
    ) -> None:
        self._runtime = runtime
        self._hidden = hidden
        self._steps = steps
        self._sampler = sampler
        known = logits is not None or not hidden.shape[0]
        self._logits = logits if known else runtime.logits(hidden)
        self._at = list(at)[: hidden.shape[0]] if known and at is not None else list(range(hidden.shape[0]))
        self._plain: dict[SamplingSettings, list[Distribution]] = {}
        self._candidates: tuple[np.ndarray, torch.Tensor] | None = None

    @property
    def depth(self) -> int:
        """How deep this chain can draft."""
        return int(self._hidden.shape[0])

    @property
    def coherent(self) -> bool:
        """Whether a draft's distribution depends on the token before it."""
        return self._sampler is not None

    def distributions(self, depth: int, before: Sequence[int], sampling: SamplingSettings) -> list[Distribution]:
        """The draft distributions at `depth` (1-based), one for each token in `before` that could precede it."""
        assert self._logits is not None
        if self._sampler is None:
            plain = self._plain.get(sampling)
            if plain is None:
                plain = self._plain[sampling] = distributions(self._logits, sampling, self._at)
            return [plain[depth - 1]] * len(before)
        candidates, prepared = self._prepare_sampler(self._sampler)
        ids = candidates[depth - 1]
        tokens = np.asarray(before, dtype=np.int64)
        scores = self._sampler.scores(self._hidden[depth - 1], prepared[depth - 1], tokens, ids)
        return candidate_distributions(ids, scores, sampling)

    def _prepare_sampler(self, sampler: SamplerHead) -> tuple[np.ndarray, torch.Tensor]:
        if self._candidates is None:
            assert self._logits is not None
            ids, _ = top_candidates(self._logits, SAMPLER_CANDIDATES, self._at)
            self._candidates = (np.sort(ids, axis=1), sampler.prepare(self._hidden, self._steps))
        return self._candidates
