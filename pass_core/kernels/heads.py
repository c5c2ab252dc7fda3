"""Draft heads in torch, on the model's device: draft scores that know the token before the drafted one.

Operands of products are rounded to the model's dtype, or to another one; sums are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch

from pass_core.lookahead import sampler, state_head
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.models.language_model import LanguageModel

_Head = TypeVar("_Head")


class KeptHeads(Generic[_Head]):
    """Heads made of weights, the last few of them: a text need not pack again what the text before packed."""

    MOST = 4

    def __init__(self) -> None:
        self._made: list[tuple[object, _Head]] = []

    def get(self, weights: object, make: Callable[[], _Head]) -> _Head:
        """The head of these very weights, made now unless it is kept."""
        for known, head in self._made:
            if known is weights:
                return head
        head = make()
        self._made = [*self._made[-self.MOST + 1 :], (weights, head)]
        return head


class TorchHead(Protocol):
    """Corrects h, a look-ahead state after the final norm, by the token before the drafted one."""

    def prepare(self, states: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """[m, inner] the part that depends on the states [m, hidden] and their 0-based look-ahead steps [m] alone."""
        ...

    def scores(
        self, state: torch.Tensor, prepared: torch.Tensor, before: torch.Tensor, candidates: torch.Tensor
    ) -> torch.Tensor:
        """Float32 logits [m, C] of candidate ids [C] for one state [hidden], [inner] and tokens before, ids [m]."""
        ...


class TorchSamplerHead:
    """The sampler head; see `pass_core.lookahead.sampler`.

    Args:
        operands: what factors of products are rounded to; the model's dtype by default.
    """

    def __init__(self, weights: SamplerWeights, model: LanguageModel, operands: torch.dtype | None = None) -> None:
        table = model.input_embedding.weight
        self._operands = operands or table.dtype
        self._table, self._logits = table, model.logits
        self._w_in = weights.w_in.to(table.device, self._operands).float()
        self._w_out = (
            weights.w_out.to(table.device, self._operands).float().T.contiguous().T
        )  # few rows read it faster so
        self._step = weights.step.to(table.device).float()

    def prepare(self, states: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        states, steps = states.to(self._table.device), steps.to(self._table.device)
        return sampler.from_state(states, self._w_in, self._step.index_select(0, steps), self._operands)

    def scores(
        self, state: torch.Tensor, prepared: torch.Tensor, before: torch.Tensor, candidates: torch.Tensor
    ) -> torch.Tensor:
        # Where layers are spread over devices, states come from the last one, and the head may wait on another.
        tokens = self._table.index_select(0, before.to(self._table.device)).to(self._operands)
        wide = state.to(self._table.device).float().expand(tokens.shape[0], -1)
        fitted = sampler.corrected(wide, prepared, tokens, self._w_in, self._w_out, self._operands)
        return self._logits(fitted.to(self._operands).float(), candidates, self._operands)

    def guess(self, state: torch.Tensor, token: int | torch.Tensor, depth: int) -> torch.Tensor:
        """States [depth, hidden] of a state head's first layer, on the states' device; see `state_head.guess`.

        Args:
            token: an id, or a tensor [1] that holds it.
        """
        row = self._table[token] if isinstance(token, int) else self._table.index_select(0, token)[0]
        embedding = row.to(self._operands)
        here = state.to(self._table.device).float()
        out = state_head.guess(here, embedding, depth, self._w_in, self._step, self._w_out, self._operands)
        return out.to(state)


class TorchBigramHead:
    """The model's own bigrams as a head: h' = h + the vector of the token before."""

    def __init__(self, bigrams: Bigrams, model: LanguageModel, operands: torch.dtype | None = None) -> None:
        self._operands = operands or model.input_embedding.weight.dtype
        self._bigrams, self._logits = bigrams.to(model.device), model.logits

    def prepare(self, states: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        return states[:, :0]

    def scores(
        self, state: torch.Tensor, prepared: torch.Tensor, before: torch.Tensor, candidates: torch.Tensor
    ) -> torch.Tensor:
        shifts = self._bigrams.after(before)
        fitted = state.to(shifts.device).float() + shifts.float()
        return self._logits(fitted.to(self._operands).float(), candidates, self._operands)
