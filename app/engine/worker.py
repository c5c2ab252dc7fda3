"""A generation in the engine thread: consumes `decode` and fills a queue."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pass_core.decoding.events import StepEvent
from pass_core.prompt import Prompt
from pass_core.settings import BaselineSettings, DecodingSettings, StopConditions

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.lookahead.embeddings import LookaheadEmbeddings

log = logging.getLogger(__name__)


@dataclass(slots=True)
class DecodeRequest:
    """What the engine thread needs of a run; `cancel` is the only part that another thread touches."""

    run_id: int
    engine: Engine
    prompt: Prompt
    settings: BaselineSettings | Callable[[], DecodingSettings]
    stop: StopConditions
    seed: int
    lookahead: LookaheadEmbeddings | None
    cancel: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Ended:
    """The last thing a run puts into the queue."""

    error: BaseException | None


Message = tuple[int, StepEvent | Ended]


def carry_out(request: DecodeRequest, queue: deque[Message], between_steps: Callable[[], None]) -> None:
    """Decode to the end, or until the request is cancelled; every message in `queue` carries the run's id.

    Args:
        between_steps: called after each step, so that short work gets its turn.
    """
    from pass_core.evaluation.baselines.decoders import decoder_for  # imports torch, and the window is there before it

    error: BaseException | None = None
    try:
        steps = decoder_for(request.engine, request.settings, request.lookahead).decode(
            request.prompt,
            stop=request.stop,
            seed=request.seed,
            cancelled=request.cancel.is_set,
        )
        for step in steps:
            queue.append((request.run_id, step))
            between_steps()
    except BaseException as raised:
        log.exception("generation %d failed", request.run_id)
        error = raised
    queue.append((request.run_id, Ended(error)))
