"""What this machine has, for choices that would fail without it."""

from __future__ import annotations

import ctypes.util
import importlib.util
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from pass_core.runtime.native.build import reason_missing

TRACES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's driver, AMD's, and Windows' for Linux inside it


def why_no_device(device: str) -> str:
    """Why this device cannot be chosen here, "" when it may be tried. Does not import torch, which takes seconds."""
    if device == "cuda" and not _has_gpu_driver():
        return "No NVIDIA or ROCm driver was found on this machine"
    if device == "mps" and (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return "Only Macs with an Apple processor have it"
    return ""


def why_no_weights(
    quantize: str,
    find: Callable[[str], object] = importlib.util.find_spec,
    device: Callable[[str], str] = why_no_device,
    library: Callable[[], str] = reason_missing,
) -> str:
    """Why these weights cannot be chosen here, "" when they may be tried."""
    package = {"int8": "torchao", "int4": "bitsandbytes"}.get(quantize)
    if package is None:
        return ""
    if quantize == "int4" and (why := device("cuda")):
        return f"int4 needs a CUDA device. {why}"
    if quantize == "int8" and not library():
        return ""
    if find(package) is None:
        return f"The package {package} is not installed (pip install pass-playground[quant])"
    return ""


def _has_gpu_driver() -> bool:
    programs = any(shutil.which(name) for name in ("nvidia-smi", "rocminfo"))
    return programs or any(Path(p).exists() for p in TRACES) or ctypes.util.find_library("cuda") is not None
