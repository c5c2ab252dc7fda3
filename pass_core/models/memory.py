"""Memory in use, for display: the process and the model's device."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes in use.

    Attributes:
        process: resident memory of this process.
        device: held on the GPU by this process, None on the CPU.
        device_total: the GPU's size, None where unknown or on the CPU.
    """

    process: int
    device: int | None = None
    device_total: int | None = None


def memory_in_use(device: torch.device | str = "cpu") -> MemoryUse:
    """Read the counters (microseconds; fit for a status line)."""
    device = torch.device(device)
    process = psutil.Process(os.getpid()).memory_info().rss
    if device.type == "cuda":
        return MemoryUse(
            process, torch.cuda.memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
        )
    if device.type == "mps":
        return MemoryUse(process, torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory())
    return MemoryUse(process)
