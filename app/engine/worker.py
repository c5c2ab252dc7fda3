"""The decoding worker: lives in the engine's QThread, consumes `decode`, and fills a queue."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Slot

from pass_core.decoding.events import StepEvent
from pass_core.settings import DecodingSettings, StopConditions

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Order:
    """What the worker needs of a run; `cancel` is the only part that another thread touches."""

    run_id: int
    model: LanguageModel
    prompt: str
    settings: Callable[[], DecodingSettings]
    stop: StopConditions
    seed: int
    lookahead: LookaheadEmbeddings | None
    cancel: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Ended:
    """The last thing a run puts into the queue."""

    error: BaseException | None


Message = tuple[int, StepEvent | Ended]


class Worker(QObject):
    """Runs orders one after the other; every message in `queue` carries its run's id."""

    def __init__(self, queue: deque[Message]) -> None:
        super().__init__()
        self._queue = queue
        self._polite = False

    @Slot(object)
    def run(self, order: Order) -> None:
        """Decode to the end, or until the order is cancelled."""
        from pass_core.decoding.loop import decode

        self._yield_to_the_window()
        error: BaseException | None = None
        try:
            steps = decode(
                order.model,
                order.prompt,
                order.settings,
                lookahead=order.lookahead,
                stop=order.stop,
                seed=order.seed,
                cancelled=order.cancel.is_set,
            )
            for step in steps:
                self._queue.append((order.run_id, step))
        except BaseException as raised:
            log.exception("generation %d failed", order.run_id)
            error = raised
        self._queue.append((order.run_id, Ended(error)))

    def _yield_to_the_window(self) -> None:
        """On Linux niceness is per thread and inherited by torch's helpers: the GUI thread wins every contest."""
        if self._polite or not sys.platform.startswith("linux"):
            return
        self._polite = True
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        except OSError:
            log.debug("could not lower the engine thread's priority")
