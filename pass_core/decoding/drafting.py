"""Drafts from look-ahead rows: distributions per depth, made coherent by the sampler head where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pass_core.decoding.settings import SamplingSettings
from pass_core.lookahead import SamplerWeights
from pass_core.runtime.base import Runtime
from pass_core.sampling import Distribution, candidate_distribution, distributions, top_candidates

SAMPLER_CANDIDATES = 192


class SamplerHead:
    """The coherent-draft head on the model's device (arXiv 2507.11851, "sampler module").

    h' = h + W_out silu(W_in [rms(h); rms(e)] + step_j), with e the embedding of the token before the drafted one.
    """

    def __init__(self, weights: SamplerWeights, like: torch.Tensor) -> None:
        hidden = weights.w_out.shape[0]
        self._from_hidden = weights.w_in[:, :hidden].to(like).T.contiguous()
        self._from_token = weights.w_in[:, hidden:].to(like).T.contiguous()
        self._step = weights.step.to(like)
        self._out = weights.w_out.to(like).T.contiguous()

    def prepare(self, hidden: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        """The part that does not depend on the token: [m, inner] for LA states [m, hidden] of 0-based `steps`."""
        return _rms(hidden) @ self._from_hidden + self._step[list(steps)]

    def correct(self, hidden: torch.Tensor, prepared: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Corrected states [m, hidden] for token embeddings [m, hidden]."""
        return hidden + torch.nn.functional.silu(prepared + _rms(tokens) @ self._from_token) @ self._out


def _rms(x: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class LookaheadDrafts:
    """What one chain of look-ahead rows drafts below the last committed token.

    Args:
        hidden: [c, hidden] look-ahead states after the final norm; row d-1 drafts depth d.
        steps: 0-based look-ahead step of each row (not d-1 where an ancestor's chain is borrowed).
    """

    def __init__(
        self, runtime: Runtime, hidden: torch.Tensor, steps: Sequence[int], sampler: SamplerHead | None = None
    ) -> None:
        self._runtime = runtime
        self._hidden = hidden
        self._steps = steps
        self._sampler = sampler
        self._logits = runtime.logits(hidden) if hidden.shape[0] else None
        self._plain: dict[SamplingSettings, list[Distribution]] = {}
        self._candidates: tuple[list[np.ndarray], torch.Tensor] | None = None

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
                plain = self._plain[sampling] = distributions(self._logits, sampling)
            return [plain[depth - 1]] * len(before)
        with torch.inference_mode():
            ids, prepared = self._prepare_sampler(self._sampler)
            row = self._hidden[depth - 1 : depth]
            tokens = self._runtime.embed(np.asarray(before, dtype=np.int64))
            states = self._sampler.correct(row, prepared[depth - 1 : depth], tokens)
            scores = self._runtime.candidate_logits(states, ids[depth - 1]).cpu().numpy()
        return [candidate_distribution(ids[depth - 1], row_scores, sampling) for row_scores in scores]

    def _prepare_sampler(self, sampler: SamplerHead) -> tuple[list[np.ndarray], torch.Tensor]:
        if self._candidates is None:
            assert self._logits is not None
            ids, _ = top_candidates(self._logits, SAMPLER_CANDIDATES)
            self._candidates = (ids, sampler.prepare(self._hidden, self._steps))
        return self._candidates
