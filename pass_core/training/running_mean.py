"""A running mean of the weights, which gets measured and exported: it shows a late step's gain without its noise."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch
from torch import nn


class RunningMean:
    """The exponential mean of a module's parameters, kept beside them in float32.

    Args:
        decay: of the mean, 0 for the parameters as they are. It warms up as (1 + step) / (10 + step).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self.values = {n: p.detach().clone() for n, p in module.named_parameters()} if decay else {}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take in the parameters as they are after `step` steps."""
        if not self.decay:
            return
        keep = min(self.decay, (1 + step) / (10 + step))
        parameters = [p.detach() for _, p in self.module.named_parameters()]
        torch._foreach_lerp_(list(self.values.values()), parameters, 1 - keep)  # pyright: ignore[reportPrivateUsage]

    @contextlib.contextmanager
    def in_place(self) -> Generator[None]:
        """Inside, the module has the mean's values."""
        if not self.decay:
            yield
            return
        own = {n: p.data for n, p in self.module.named_parameters()}
        try:
            for n, p in self.module.named_parameters():
                p.data = self.values[n]
            yield
        finally:
            for n, p in self.module.named_parameters():
                p.data = own[n]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """For a checkpoint."""
        return self.values

    @torch.no_grad()
    def load_state_dict(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            self.values[name].copy_(value)
