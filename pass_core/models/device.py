"""The device and dtype that a choice means on this machine."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from typing import Literal

import torch

from pass_core.files import cache_folder, keep
from pass_core.models.errors import DeviceUnavailable
from pass_core.models.processor import processor_key

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
    if chosen.index:
        raise DeviceUnavailable(f"There is no {device}: there is one {chosen.type}. Choose {chosen.type}.")
    if chosen.type not in ("cpu", "mps"):
        raise DeviceUnavailable(f"The device “{device}” is not supported. Choose auto, cpu, cuda or mps.")
    return torch.device(chosen.type)


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
    return fastest_cpu_dtype()


def exact_cpu_dtype(stored: torch.dtype | None) -> torch.dtype:
    """The dtype that holds a checkpoint exactly on the CPU: of bfloat16 and float32 the faster one where both do."""
    return fastest_cpu_dtype() if stored is torch.bfloat16 else torch.float32


@functools.cache
def fastest_cpu_dtype() -> torch.dtype:
    """bfloat16 or float32, whichever this processor multiplies faster in PyTorch: measured once and kept."""
    words = f"{torch.__version__}\n{torch.get_num_threads()}\n{processor_key()}"
    path = cache_folder() / "dtype" / f"1-{hashlib.sha256(words.encode()).hexdigest()[:24]}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["dtype"]
    except (OSError, ValueError, KeyError, TypeError):
        kept = ""
    if kept not in ("float32", "bfloat16"):
        seconds = {name: _product_seconds(_DTYPES[name]) for name in ("float32", "bfloat16")}
        kept = min(seconds, key=lambda name: seconds[name])
        keep(path, json.dumps({"dtype": kept, "milliseconds": {n: 1000 * s for n, s in seconds.items()}}).encode())
    return _DTYPES[kept]


def _product_seconds(dtype: torch.dtype) -> float:
    """The fastest of some products of 8 rows with a weight that no cache holds."""
    weight, rows = torch.ones(4096, 4096, dtype=dtype), torch.ones(8, 4096, dtype=dtype)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(6):
            started = time.perf_counter()
            torch.nn.functional.linear(rows, weight)
            best = min(best, time.perf_counter() - started)
    return best
