"""What decodes: our engine, and the decoders of others that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pass_core.decoding.events import StepEvent
from pass_core.prompt import Prompt
from pass_core.settings import StopConditions


class Decoder(Protocol):
    """Continues a prompt with settings of its own, and yields one frozen event for each step; the last one carries the
    stop reason. `pass_core.evaluation.baselines.decoders.decoder_for` makes one of settings."""

    def decode(
        self,
        prompt: Prompt | str | Sequence[int],
        *,
        stop: StopConditions | None = None,
        seed: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[StepEvent]: ...
