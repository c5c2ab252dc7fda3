"""How another thread holds a training run."""

from __future__ import annotations

import threading

from pass_core.progress import CancelToken


class PauseSwitch:
    """A flag that one thread sets and the training thread waits on between two steps."""

    def __init__(self) -> None:
        self._running = threading.Event()
        self._running.set()

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    def pause(self) -> None:
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    def wait(self, cancel: CancelToken) -> None:
        """Return when not paused, or when cancelled."""
        while not self._running.wait(0.2):
            if cancel.cancelled:
                return
