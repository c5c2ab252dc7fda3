"""Where a model's weights fit: one device, all of them together, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import psutil
import torch

from pass_core.models.errors import ModelTooLarge
from pass_core.models.quantize import BYTES_PER_WEIGHT, QuantizeChoice

_HEADROOM = 1.05  # buffers and fragmentation beside the weights


@dataclass(frozen=True, slots=True)
class Quantized:
    """A choice of quantisation, and what transformers takes for it."""

    choice: QuantizeChoice
    config: Any

    def weight_bytes(self, weights: int, config: Any, dtype: torch.dtype) -> float:
        """Bytes of this many weights; tables of the vocabulary keep their dtype."""
        if self.config is None:
            return weights * dtype.itemsize
        text = config.get_text_config()
        tables = min(weights, 2 * text.vocab_size * text.hidden_size)
        return tables * dtype.itemsize + (weights - tables) * BYTES_PER_WEIGHT[self.choice]


def placement(
    weights: int, config: Any, device: torch.device, dtype: torch.dtype, small: Quantized, name: str
) -> Literal["single", "spread"]:
    """One device, or spread over all GPUs, and over main memory where even they are too small together.

    Raises:
        ModelTooLarge: it fits neither way.
    """
    needed = int(small.weight_bytes(weights, config, dtype) * _HEADROOM)
    if device.type == "cuda":
        if needed <= torch.cuda.mem_get_info(device)[0]:
            return "single"
        free, where = torch.cuda.mem_get_info(device)[0], "the GPU"
        if small.config is None:
            free, where = sum(memory_to_use().values()), "the GPUs and main memory together"
            if needed <= free:
                return "spread"
    else:
        free, where = free_memory(), "memory"
    if needed > free:
        smaller = " or bfloat16 as dtype" if dtype == torch.float32 else ""
        kind = str(dtype).removeprefix("torch.") if small.config is None else f"{small.choice} weights"
        raise ModelTooLarge(
            f"{name} needs {needed / 1e9:.1f} GB in {kind}, and {free / 1e9:.1f} GB of "
            f"{where} are free. Choose a smaller model{smaller}, another device, or close other programs."
        )
    return "single"


def free_memory() -> int:
    """Bytes of main memory that this process may still take: what is free, and what its own limit leaves."""
    free = int(psutil.virtual_memory().available)
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return free
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return free
    return max(0, min(free, limit - psutil.Process().memory_info().vms))


def memory_to_use() -> dict[int | str, int]:
    """Bytes that weights may take of each GPU and of main memory; the rest is for KV caches and calls."""
    gpus = {i: int(0.85 * torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count())}
    return {**gpus, "cpu": int(0.85 * free_memory())}
