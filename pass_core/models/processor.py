"""What tells this processor from another, for measurements that are kept."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

_LINES = ("model name", "flags", "Features", "CPU part", "CPU implementer")


@functools.cache
def processor_key() -> str:
    """The processor's name, features and number of cores, as the system tells them."""
    words = [platform.machine(), platform.processor(), str(os.cpu_count())]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    words += sorted({line for line in lines if line.startswith(_LINES)})
    return "\n".join(words)
