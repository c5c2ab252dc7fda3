"""The one background thread that does everything torch does for a model: load, prepare, decode, measure, train.

Each thread that calls torch gets an OpenMP pool of its own; once the pools together have more threads than the machine
has cores, every barrier sleeps, and torch is three times slower. A CUDA graph also belongs to the thread that captured
it. So all such work is one task after another in one thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator

from PySide6.QtCore import QObject, QThread

log = logging.getLogger(__name__)

Task = Callable[[], None]


class EngineThread(QThread):
    """Takes tasks one after another, in the order in which they came.

    A task of `submit(..., short=True)` reads a file or the like. The task that runs lets it in where it can rest
    (a generation between two steps, a job whenever it looks at its cancel token), so that a file need not wait for the
    end of a training.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("engine")
        self._tasks: deque[tuple[Task, bool]] = deque()
        self._changed = threading.Condition()
        self._leaving = False
        self._ident = 0

    @property
    def leaving(self) -> bool:
        """Whether `close` was called: no task is taken any more."""
        return self._leaving

    def submit(self, task: Task, *, short: bool = False) -> None:
        """Queue a task; it must not raise.

        Raises:
            RuntimeError: the thread is ending.
        """
        with self._changed:
            if self._leaving:
                raise RuntimeError("the engine thread is ending")
            self._tasks.append((task, short))
            self._changed.notify()
        if not self.isRunning():
            self.start()

    def run(self) -> None:
        """Not to be called: `submit` starts the thread."""
        self._ident = threading.get_ident()
        _yield_to_the_window()
        while True:
            with self._changed:
                while not self._tasks and not self._leaving:
                    self._changed.wait()
                if not self._tasks:
                    return
                task, _ = self._tasks.popleft()
            task()

    def let_short_tasks_in(self) -> None:
        """Called by a task where it can rest: runs the short tasks that wait. Does nothing in any other thread."""
        if threading.get_ident() != self._ident or not self._tasks:
            return
        while True:
            with self._changed:
                waiting = next((entry for entry in self._tasks if entry[1]), None)
                if waiting is None:
                    return
                self._tasks.remove(waiting)
            with _own_mode():
                waiting[0]()

    def close(self) -> None:
        """Take no more tasks; those that were taken are still carried out. Idempotent."""
        with self._changed:
            self._leaving = True
            self._changed.notify()

    def shut_down(self, seconds: float) -> bool:
        """Take no more tasks, drop those that wait, and let the present one end. Idempotent.

        Returns:
            Whether the thread has ended; when it has not, the process must be ended by force.
        """
        with self._changed:
            self._tasks.clear()
        self.close()
        return self.wait(max(1, round(seconds * 1000)))


@contextlib.contextmanager
def _own_mode() -> Iterator[None]:
    """What a guest makes must not carry its host's inference mode: such tensors are of no use to a training."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
    else:
        with torch.inference_mode(False):
            yield


def _yield_to_the_window() -> None:
    """On Linux niceness is per thread and inherited by torch's helpers: the GUI thread wins every contest."""
    if not sys.platform.startswith("linux"):
        return
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
    except OSError:
        log.debug("could not lower the engine thread's priority")
