"""Which decoder writes a text: our engine with its look-ahead file, or transformers' own generate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pass_core.decoding.decoder import Decoder
from pass_core.decoding.events import StepEvent
from pass_core.engine import Engine
from pass_core.evaluation.baselines.transformers_generate import TransformersDecoder
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.prompt import Prompt
from pass_core.settings import BaselineSettings, DecodingSettings, RunSettings, StopConditions


class EngineDecoder:
    """Our engine with settings and the look-ahead file that it drafts with; fits the `Decoder` protocol."""

    def __init__(
        self,
        engine: Engine,
        settings: DecodingSettings | Callable[[], DecodingSettings],
        lookahead: LookaheadEmbeddings | None,
    ) -> None:
        self._engine, self._settings, self._lookahead = engine, settings, lookahead

    def decode(
        self,
        prompt: Prompt | str | Sequence[int],
        *,
        stop: StopConditions | None = None,
        seed: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[StepEvent]:
        """As `Engine.decode`."""
        return self._engine.decode(
            prompt, self._settings, lookahead=self._lookahead, stop=stop, seed=seed, cancelled=cancelled
        )


def decoder_for(
    engine: Engine,
    settings: RunSettings | Callable[[], DecodingSettings],
    lookahead: LookaheadEmbeddings | None = None,
) -> Decoder:
    """The decoder of these settings: a baseline's, else our engine.

    Args:
        settings: our engine asks a function before each step.
        lookahead: what our engine drafts with.
    """
    if isinstance(settings, BaselineSettings):
        return TransformersDecoder(engine, settings)
    return EngineDecoder(engine, settings, lookahead)
