"""Memory of the process and the device: in use, settled while something runs, given back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
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


def freeze_heap() -> None:
    """Collect garbage now, and let later collections pass over what is alive.

    With the libraries loaded, a full collection looks at 400,000 objects and stops every thread for a quarter of a
    second: in the middle of a stream it would be seen, and in a benchmark be measured. `release_memory` undoes it.
    """
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Give memory that nothing uses back to the device and to the system."""
    gc.unfreeze()
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
    if sys.platform == "linux":
        # glibc keeps freed heap pages; without this the process would look as large as before.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
