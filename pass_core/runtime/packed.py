"""Linear layers with weights packed once for oneDNN: on CPUs the cost is then nearly flat over a few rows.

PyTorch reorders a weight at every call of `nn.Linear`. With a handful of rows that costs more than the product.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Generator
from typing import Any, cast

import psutil
import torch
from torch import nn

from pass_core.models.language_model import LanguageModel
from pass_core.models.placement import is_spread

_ROWS_HINT = 16
log = logging.getLogger(__name__)


def pack_linears(model: LanguageModel) -> bool:
    """Give the model's linear layers packed weights beside their own; False where that is not possible.

    Needs as much memory again as the layers have. Calls that need gradients still go through `nn.Linear`.
    """
    if model.device.type != "cpu" or model.dtype not in (torch.float32, torch.bfloat16):
        return False
    if model.quantization or is_spread(model.model):
        return False
    if not can_pack(model.dtype):
        return False
    operators: Any = torch.ops.mkldnn
    linears = [m for m in model.model.modules() if type(m) is nn.Linear]
    needed = sum(m.weight.numel() * m.weight.element_size() for m in linears)
    if needed * 2 > psutil.virtual_memory().available:
        log.info("linear layers stay unpacked: packing needs %.1f GB more memory", needed / 1e9)
        return False
    for module in linears:
        with torch.no_grad():
            packed = operators._reorder_linear_weight(module.weight.detach(), _ROWS_HINT)
        cast(Any, module).forward = _packed_forward(module, packed)
    return True


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this processor and this torch pack weights of a dtype, tried on a small one.

    oneDNN packs bfloat16 only where AVX-512 or AVX-NE-CONVERT is; elsewhere it raises.
    """
    operators: Any = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(operators, "_linear_pointwise")):
        return False
    try:
        packed = operators._reorder_linear_weight(torch.ones(16, 16, dtype=dtype), _ROWS_HINT)
        product = operators._linear_pointwise(torch.ones(1, 16, dtype=dtype), packed, None, "none", [], "")
    except RuntimeError as error:
        log.info("linear layers stay unpacked: %s", error)
        return False
    return bool((product == 16).all())


def _packed_forward(module: nn.Linear, packed: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    product: Any = torch.ops.mkldnn._linear_pointwise

    def forward(x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            return nn.functional.linear(x, module.weight, module.bias)
        return product(x, packed, module.bias, "none", [], "")

    return forward


@contextlib.contextmanager
def plain_linears(model: LanguageModel) -> Generator[None]:
    """The model's layers as transformers made them, for measurements of transformers itself."""
    packed = {
        m: m.__dict__.pop("forward") for m in model.model.modules() if type(m) is nn.Linear and "forward" in m.__dict__
    }
    try:
        yield
    finally:
        for module, forward in packed.items():
            cast(Any, module).forward = forward
