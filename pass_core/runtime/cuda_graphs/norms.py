"""Norms of captured passes: torch's own operation where it computes what the model's module computes.

transformers writes an RMS norm as six operations, eight in a half dtype. torch's `rms_norm` is one kernel on CUDA where
it has `_fused_rms_norm`. The weight is multiplied after rounding to the model's dtype, as the modules do it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator
from typing import Any, cast

import torch
from torch import nn

from pass_core.models.language_model import LanguageModel

# Largest difference in units of a norm's output: a rounding of the dtype (a fused kernel sums in another order).
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
_PROBE_ROWS = 4
log = logging.getLogger(__name__)

Forward = Callable[[torch.Tensor], torch.Tensor]


class FusedNorms:
    """The RMS norms of a model that torch's operation computes, too; each kind is tried once.

    A norm that computes anything else (1 + weight, a bias, a mean) keeps its module's forward.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._forwards: dict[nn.Module, Forward] = {}
        tried: dict[tuple[Any, ...], bool] = {}
        for module in model.base.modules():
            epsilon: Any = getattr(module, "variance_epsilon", None)
            weight: Any = getattr(module, "weight", None)
            if not isinstance(epsilon, float) or not isinstance(weight, torch.Tensor) or weight.dtype != model.dtype:
                continue
            forward = _forward(weight, epsilon)
            kind = (type(module), weight.shape, weight.device, epsilon)
            if kind not in tried:
                tried[kind] = _same(module, forward, weight)
            if tried[kind]:
                self._forwards[module] = forward

    @property
    def count(self) -> int:
        """How many norms of the model are computed so."""
        return len(self._forwards)

    @contextlib.contextmanager
    def active(self) -> Generator[None]:
        """The model's norms are torch's inside."""
        for module, forward in self._forwards.items():
            cast(Any, module).forward = forward
        try:
            yield
        finally:
            for module in self._forwards:
                vars(module).pop("forward", None)


def _forward(weight: torch.Tensor, epsilon: float) -> Forward:
    shape = tuple(weight.shape)

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        # It sums in float32 and rounds once, whatever the dtype.
        return weight * nn.functional.rms_norm(hidden_states, shape, None, epsilon)

    return forward


def _same(module: nn.Module, forward: Forward, weight: torch.Tensor) -> bool:
    random = torch.Generator().manual_seed(0)
    states = torch.randn(1, _PROBE_ROWS, *weight.shape, generator=random).mul_(3)
    name = type(module).__name__
    try:
        states = states.to(weight)
        with torch.inference_mode():
            got, expected = forward(states).float(), module(states).float()
        difference = float((got - expected).abs().max() / expected.abs().max())
    except (RuntimeError, TypeError) as error:
        log.info("%s stays as transformers computes it: %s", name, error)
        return False
    if not difference <= _TOLERANCE.get(weight.dtype, 1e-5):
        log.info("%s stays as transformers computes it: torch's norm differs by %.2g", name, difference)
        return False
    return True
