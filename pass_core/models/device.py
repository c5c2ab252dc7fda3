"""The device and dtype that a choice means on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from pass_core.models.errors import DeviceUnavailable

DeviceChoice = str  # "auto", "cpu", "cuda", "cuda:1", "mps"
DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: DeviceChoice = "auto") -> torch.device:
    """The device that a choice means on this machine.

    Raises:
        DeviceUnavailable: it is none, or not here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DeviceUnavailable(f"“{device}” is no device. Choose auto, cpu, cuda, cuda:1 … or mps.") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise DeviceUnavailable(
                "No CUDA GPU can be used: there is none, its driver is missing, or this torch was built without CUDA "
                f"(torch {torch.__version__}). Choose the CPU, or install a CUDA build of torch as the README says."
            )
        count = torch.cuda.device_count()
        if ":" in device and chosen.index >= count:
            raise DeviceUnavailable(f"There is no {device}: this machine has {count} CUDA GPU(s), counted from cuda:0.")
        return chosen if ":" in device else torch.device("cuda", torch.cuda.current_device())
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable("Apple's GPU (mps) cannot be used on this machine. Choose the CPU.")
    if chosen.type not in ("cpu", "mps"):
        raise DeviceUnavailable(f"The device “{device}” is not supported. Choose auto, cpu, cuda or mps.")
    return chosen


def choose_dtype(dtype: DtypeChoice = "auto", device: DeviceChoice = "auto") -> torch.dtype:
    """The dtype that a choice means on a device.

    Raises:
        DeviceUnavailable: unknown dtype or device.
    """
    target = choose_device(device)
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise DeviceUnavailable(f"“{dtype}” is no dtype for weights. Choose auto, {', '.join(_DTYPES)}.")
        return _DTYPES[dtype]
    if target.type == "cuda":
        # Older GPUs emulate bfloat16, many times slower than float16.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if target.type == "mps":
        return torch.float16
    return torch.bfloat16 if cpu_has_fast_bfloat16() else torch.float32


def cpu_has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); elsewhere float32 is faster."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        check: Callable[[], bool] | None = getattr(torch.cpu, name, None)
        if check is not None and check():
            return True
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False
