"""What other programs take of this machine's processors while something is timed."""

from __future__ import annotations

import os
import time

import psutil

BUSY_SHARE = 0.1
"""Of all processors: other work above this share makes a machine busy."""


def is_busy(others: float | None) -> bool:
    """Whether this many processors, kept busy by other work, spoil a timing; False where nobody knows."""
    return others is not None and others > BUSY_SHARE * (os.cpu_count() or 1)


class OtherWork:
    """Measures what other programs use, from now until `processors` is read."""

    def __init__(self) -> None:
        self._started, self._all, self._own = time.monotonic(), _all_seconds(), _own_seconds()

    def processors(self) -> float | None:
        """Processors that others kept busy on average; None where too little time went by to say."""
        elapsed = time.monotonic() - self._started
        if elapsed < 0.05:  # the kernel counts in hundredths of a second
            return None
        return max(0.0, (_all_seconds() - self._all) - (_own_seconds() - self._own)) / elapsed


def _all_seconds() -> float:
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(times, name, 0.0)) for name in names)


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
