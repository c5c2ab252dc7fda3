"""Progress and cancellation of long work, the same for downloads, loading, training and benchmarks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


class Cancelled(Exception):
    """The user cancelled the work; nothing half-made is left behind."""


class CancelToken:
    """A flag that one thread sets and the working thread checks."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises:
        Cancelled: when `cancel` was called.
        """
        if self._event.is_set():
            raise Cancelled("cancelled by the user")


@dataclass(frozen=True, slots=True)
class Progress:
    """A report from long work.

    Attributes:
        stage: what is being done, as a person would say it ("Downloading SmolLM2-135M").
        done, total: amounts in `unit`; total is None while unknown.
        unit: "B" for bytes, else a plural noun.
        seconds_left: estimate, None while unknown.
    """

    stage: str
    done: float
    total: float | None = None
    unit: str = "steps"
    seconds_left: float | None = None


ProgressCallback = Callable[[Progress], None]


class ProgressReporter:
    """Turns counts into `Progress` reports with time left, at most ten a second, and checks for cancellation."""

    def __init__(
        self,
        stage: str,
        total: float | None,
        unit: str = "steps",
        callback: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self._callback, self._cancel = callback, cancel
        self._started = time.monotonic()
        self._last = float("-inf")

    def update(self, done: float) -> None:
        """Report `done` of `total`.

        Raises:
            Cancelled: when the token was set.
        """
        if self._cancel is not None:
            self._cancel.raise_if_cancelled()
        now = time.monotonic()
        finished = self.total is not None and done >= self.total
        if self._callback is None or (now - self._last < 0.1 and not finished):
            return
        self._last = now
        left: float | None = None
        if self.total and done > 0:
            left = max(0.0, (now - self._started) * (self.total - done) / done)
        self._callback(Progress(self.stage, done, self.total, self.unit, left))
