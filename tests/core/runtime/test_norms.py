"""Norms in one operation: the module's own bits, only where it is that norm, and only inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pass_core.runtime.cuda_graphs.norms import FusedNorms
from tests import tiny


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_computes_the_same_bits(family: str, dtype: torch.dtype) -> None:
    model = tiny.FAMILIES[family](dtype=dtype)
    for module in model.base.modules():
        if "norm" in type(module).__name__.lower():
            module.weight.data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(3))  # type: ignore[union-attr, operator]
    norms = FusedNorms(model)
    states = torch.randn(1, 5, model.hidden_size, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        expected = model.base(inputs_embeds=states).last_hidden_state
        with norms.active():
            got = model.base(inputs_embeds=states).last_hidden_state
    assert torch.equal(got, expected)
    assert not any("forward" in vars(m) for m in model.base.modules())
    # Two norms a layer and one at the end; Qwen 3 has two more in each attention. The others compute something else.
    assert norms.count == {"llama": 5, "mistral": 5, "qwen2": 5, "qwen3": 9}.get(family, 0)


class _Other(nn.Module):
    """Looks like an RMS norm, and multiplies by 1 + weight."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = like.weight, like.variance_epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.rms_norm(x, (x.shape[-1],), None, self.variance_epsilon) * (1 + self.weight)


def test_a_norm_that_computes_something_else_keeps_its_forward() -> None:
    model = tiny.tiny_llama()
    base: Any = model.base
    base.norm = _Other(base.norm)
    norms = FusedNorms(model)
    assert norms.count == 4
    states = torch.randn(1, 5, model.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = base(inputs_embeds=states).last_hidden_state
        with norms.active():
            assert torch.equal(base(inputs_embeds=states).last_hidden_state, expected)
