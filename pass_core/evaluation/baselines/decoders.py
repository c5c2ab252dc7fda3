"""Which decoder writes a text: our engine with its look-ahead file, or transformers' own generate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pass_core.decoding.decoder import Decoder
from pass_core.decoding.events import StepEvent
from pass_core.engine import Engine
from pass_core.evaluation.baselines.transformers_generate import TransformersDecoder
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.prompt import Prompt
from pass_core.settings import DecodingSettings, StopConditions, Strategy


class EngineDecoder:
    """Our engine with the look-ahead file that it drafts with; fits the `Decoder` protocol."""

    def __init__(self, engine: Engine, lookahead: LookaheadEmbeddings | None) -> None:
        self._engine, self._lookahead = engine, lookahead

    def decode(
        self,
        prompt: Prompt | str | Sequence[int],
        settings: DecodingSettings | Callable[[], DecodingSettings],
        *,
        stop: StopConditions | None = None,
        seed: int = 0,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[StepEvent]:
        """As `Engine.decode`."""
        return self._engine.decode(
            prompt, settings, lookahead=self._lookahead, stop=stop, seed=seed, cancelled=cancelled
        )


def decoder_for(
    engine: Engine,
    settings: DecodingSettings | Callable[[], DecodingSettings],
    lookahead: LookaheadEmbeddings | None = None,
) -> Decoder:
    """The decoder that the settings ask for.

    Args:
        settings: those that a text begins with count.
        lookahead: what our engine drafts with.
    """
    chosen = settings() if callable(settings) else settings
    if chosen.strategy is Strategy.PROMPT_LOOKUP:
        return TransformersDecoder(engine)
    return EngineDecoder(engine, lookahead)
