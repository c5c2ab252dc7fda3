"""Draft heads on a device: draft scores that know the token before the drafted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights

Logits = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class DraftHead(Protocol):
    """Corrects h, a look-ahead state after the final norm, by the token before the drafted one."""

    def prepare(self, states: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        """[m, inner] what depends on the states [m, hidden] and their 0-based look-ahead steps alone."""
        ...

    def scores(
        self, state: torch.Tensor, prepared: torch.Tensor, before: np.ndarray, candidates: np.ndarray
    ) -> np.ndarray:
        """Float32 logits [m, C] of candidate ids [C] for one state [hidden], [inner] and tokens before, ids [m]."""
        ...


class TorchSamplerHead:
    """The coherent-draft head in PyTorch, on any device (arXiv 2507.11851, "sampler module").

    z = silu(W_in [rms(h); rms(e)] + step_j), h' = h + W_out z; e is the embedding of the token before.

    Args:
        table: input embeddings [vocabulary, hidden].
        logits: the model's own, of states [m, hidden] and candidate ids [C].
    """

    def __init__(self, weights: SamplerWeights, table: torch.Tensor, logits: Logits) -> None:
        hidden = weights.w_out.shape[0]
        self._table, self._logits = table, logits
        self._from_hidden = weights.w_in[:, :hidden].to(table).T.contiguous()
        self._from_token = weights.w_in[:, hidden:].to(table).T.contiguous()
        self._step = weights.step.to(table)
        self._out = weights.w_out.to(table).T.contiguous()

    def prepare(self, states: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            return rms(states.to(self._table.device)) @ self._from_hidden + self._step[list(steps)]

    def scores(
        self, state: torch.Tensor, prepared: torch.Tensor, before: np.ndarray, candidates: np.ndarray
    ) -> np.ndarray:
        with torch.inference_mode():
            tokens = self._table[torch.from_numpy(before).to(self._table.device)]
            inner = nn.functional.silu(prepared + rms(tokens) @ self._from_token)
            # Where layers are spread over devices, states come from the last one, and the head may wait on another.
            corrected = state.to(self._table.device) + inner @ self._out
            return self._logits(corrected, torch.from_numpy(candidates)).cpu().numpy()


class TorchBigramHead:
    """The model's own bigrams as a head, in PyTorch, on any device: h' = h + the vector of the token before."""

    def __init__(self, bigrams: Bigrams, device: torch.device, logits: Logits) -> None:
        self._bigrams, self._logits = bigrams.to(device), logits

    def prepare(self, states: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        return states[:, :0]

    def scores(
        self, state: torch.Tensor, prepared: torch.Tensor, before: np.ndarray, candidates: np.ndarray
    ) -> np.ndarray:
        with torch.inference_mode():
            shifts = self._bigrams.after(torch.from_numpy(before))
            corrected = state.to(shifts.device) + shifts.to(state.dtype)
            return self._logits(corrected, torch.from_numpy(candidates)).cpu().numpy()


def rms(x: torch.Tensor) -> torch.Tensor:
    """x / sqrt(mean(x²) + 1e-6) over the last axis, computed in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
