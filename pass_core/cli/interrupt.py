"""Ctrl-C while a command works: the first one cancels, a second one ends the program."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from pass_core.cli.console import note
from pass_core.progress import CancelToken

KEPT = "Stopping; finished work is kept. Press Ctrl-C again to end immediately."


@contextmanager
def interrupt_cancels(cancel: CancelToken, message: str = "") -> Generator[None]:
    """The first Ctrl-C sets `cancel` (and says `message`); a second one raises KeyboardInterrupt.

    Signals reach the main thread only; in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if cancel.cancelled:
            raise KeyboardInterrupt
        if message:
            note(message)
        cancel.cancel()

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
