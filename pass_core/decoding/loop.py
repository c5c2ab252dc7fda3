"""The one decoding loop: prefill, steps, stop reasons. (Signature fixed; being written.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pass_core.decoding.events import StepEvent
from pass_core.decoding.settings import DecodingSettings, StopConditions
from pass_core.lookahead import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel


def decode(
    model: LanguageModel,
    prompt: str | Sequence[int],
    settings: DecodingSettings | Callable[[], DecodingSettings],
    *,
    lookahead: LookaheadEmbeddings | None = None,
    stop: StopConditions | None = None,
    seed: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[StepEvent]:
    """Generate text and yield one frozen event a step.

    Args:
        prompt: text (tokenised as it is) or token ids.
        settings: fixed, or a callable that is asked before every step.
        lookahead: the drafts' embeddings; without any, drafting strategies use the untrained mean embedding.
        cancelled: asked before every model call; True ends the run with StopReason.CANCELLED.
    """
    raise NotImplementedError
