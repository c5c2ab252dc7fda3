"""Writes a finished text again by plain decoding, and says where the two part, if anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pass_core.decoding.events import StepEvent, StopReason, TokenEvent
from pass_core.decoding.summary import summarize
from pass_core.engine import Engine
from pass_core.progress import CancelToken, Progress, ProgressCallback
from pass_core.prompt import Prompt
from pass_core.records.text_hash import sampling_schedule, text_hash
from pass_core.settings import DecodingSettings, SettingsError, StopConditions, Strategy

CUT_FROM_OUTSIDE = (StopReason.CANCELLED, StopReason.CONTEXT_FULL)
"""Stop reasons that come at another token where another number of drafts is under way."""


@dataclass(frozen=True, slots=True)
class TextProof:
    """How a text compares with the one that plain decoding writes.

    Attributes:
        hash: of the text that was given; see `text_hash`.
        plain_hash: of the text of plain decoding, as far as it was written (to the first difference).
        tokens: how many tokens both have in common.
        given, plain: the first tokens that differ; None where one text ends, or where both are the same.
        calls, seconds: forward passes and decoding time of plain decoding.
    """

    hash: str
    plain_hash: str
    tokens: int
    given: TokenEvent | None
    plain: TokenEvent | None
    calls: int
    seconds: float

    @property
    def same(self) -> bool:
        """Whether both texts are the same."""
        return self.hash == self.plain_hash


def prove_same_text(
    engine: Engine,
    prompt: Prompt,
    steps: Sequence[StepEvent],
    *,
    seed: int,
    stop: StopConditions,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> TextProof:
    """Write the text of `steps` again with one forward pass for each token, from the same prompt and seed.

    Sampling settings that were changed while the text was written are changed at the same tokens. A text that was
    stopped by hand, or that filled the context, is compared as far as it goes.

    Raises:
        SettingsError: `steps` holds no token.
        Cancelled: through `cancel`.
        PromptError, OutOfMemory: see `Engine.decode`.
    """
    tokens = [t for s in steps for t in s.tokens]
    schedule = sampling_schedule(steps)
    if not tokens:
        raise SettingsError("there is no token to compare")
    cancel = cancel or CancelToken()
    ids = engine.encode(prompt)
    until = replace(stop, max_new_tokens=len(tokens)) if steps[-1].stop_reason in CUT_FROM_OUTSIDE else stop
    written: list[StepEvent] = []
    count = 0

    def settings() -> DecodingSettings:
        held = [s for at, s in schedule if at <= count][-1]
        return DecodingSettings(Strategy.AUTOREGRESSIVE, k=0, sampling=held, auto=False)

    fixed = settings() if len(schedule) == 1 else settings
    for step in engine.decode(prompt, fixed, stop=until, seed=seed, cancelled=lambda: cancel.cancelled):
        cancel.raise_if_cancelled()
        written.append(step)
        count += len(step.tokens)
        if progress is not None:
            progress(Progress("Writing it again by plain decoding", count, len(tokens), unit="tokens"))
        if [t.id for t in step.tokens] != [t.id for t in tokens[count - len(step.tokens) : count]]:
            break
    again = [t for s in written for t in s.tokens]
    both = next((i for i, (a, b) in enumerate(zip(tokens, again)) if a.id != b.id), min(len(tokens), len(again)))
    plain = summarize(written)
    return TextProof(
        hash=text_hash(engine.model.fingerprint, ids, steps, seed=seed, stop=stop),
        plain_hash=text_hash(engine.model.fingerprint, ids, written, seed=seed, stop=stop),
        tokens=both,
        given=tokens[both] if both < len(tokens) else None,
        plain=again[both] if both < len(again) else None,
        calls=plain.calls,
        seconds=plain.decode_seconds,
    )
