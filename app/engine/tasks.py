"""Coroutines started from the GUI: kept alive while they run, their errors never lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)
_running: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, Any], on_error: Callable[[BaseException], None]) -> asyncio.Task[Any]:
    """Run a coroutine on the application's loop; `on_error` gets what it raises, cancellation left out."""
    task = asyncio.ensure_future(coroutine)
    _running.add(task)

    def finished(done: asyncio.Task[Any]) -> None:
        _running.discard(done)
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("a task failed", exc_info=error)
            on_error(error)

    task.add_done_callback(finished)
    return task


def cancel_all() -> None:
    """Cancel every running coroutine (at shutdown)."""
    for task in list(_running):
        task.cancel()
