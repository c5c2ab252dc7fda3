"""The one decoding loop: prefill, steps, stop reasons. Strategies plug into it; events come out of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pass_core.decoding.autoregressive import AutoregressiveStepper
from pass_core.decoding.emission import Emission
from pass_core.decoding.events import PrefillInfo, StepEvent, StopReason
from pass_core.decoding.fused import FusedStepper
from pass_core.decoding.repetition_bonus import TextMemory
from pass_core.decoding.state import DecodeState, Stepper
from pass_core.decoding.two_call import TwoCallStepper
from pass_core.evaluation.baselines.transformers_generate import lookup_steps
from pass_core.lookahead.embeddings import LookaheadEmbeddings, mean_embedding
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, Progress, ProgressCallback
from pass_core.runtime.bigram_reader import bigrams_for, ready_bigrams
from pass_core.runtime.cost import cost_for
from pass_core.runtime.cuda_graphs.runtime import StaticRuntime
from pass_core.runtime.draft_heads import DraftHead
from pass_core.runtime.factory import runtime_for
from pass_core.runtime.rows import chain_rows
from pass_core.sampling.rules import VerificationRule, rule_for
from pass_core.settings import MAX_ROWS, DecodingSettings, LookaheadPart, StopConditions, Strategy

PREFILL_ROWS = 256


class PromptError(ValueError):
    """The prompt cannot be used; the message says why."""


class UnsupportedStrategy(ValueError):
    """The model cannot run a drafting strategy; the message says why."""


def decode(
    model: LanguageModel,
    prompt: str | Sequence[int],
    settings: DecodingSettings | Callable[[], DecodingSettings],
    *,
    lookahead: LookaheadEmbeddings | None = None,
    stop: StopConditions | None = None,
    seed: int = 0,
    cancelled: Callable[[], bool] | None = None,
    rule: VerificationRule | None = None,
) -> Iterator[StepEvent]:
    """Generate text and yield one frozen event a step; the last one carries the stop reason.

    Under the coupled rule the tokens depend on model, prompt, seed and sampling settings alone: every strategy, k and
    look-ahead file gives the same text. One generation at a time per model.

    Args:
        prompt: text (tokenised as it is, special tokens by the tokenizer's habit) or token ids.
        settings: fixed, or a callable that is asked before every step.
        lookahead: the drafts' embeddings; without any, drafting strategies use the untrained mean embedding.
        stop: when to end; StopConditions() by default.
        seed: of all random numbers of this run.
        cancelled: asked before every model call; True ends the run with StopReason.CANCELLED.
        rule: replaces the verification rule of the settings (for experiments that test the tests).

    Raises:
        PromptError: an empty prompt for a model without a start token, or ids outside the vocabulary.
        UnsupportedStrategy: a drafting strategy on a model that cannot roll its cache back, or a change to
            transformers' prompt lookup while it runs.
        LookaheadError: the embeddings do not fit the model.
    """
    ask = settings if callable(settings) else lambda: settings
    is_cancelled = cancelled or (lambda: False)
    stop = stop or StopConditions()
    ids = prompt_ids(model, prompt)
    first = ask()
    if first.strategy is Strategy.PROMPT_LOOKUP:
        yield from lookup_steps(model, ids, first, stop, seed, is_cancelled)
        return
    run = _Run(model, ids, lookahead, stop, seed, is_cancelled)
    yield from run.steps(ask, rule)


def prepare(model: LanguageModel, progress: ProgressCallback | None = None) -> None:
    """Pack the weights and measure the cost of a call now (a second or two), so that the first run need not wait.

    On a GPU this also captures the calls of a plain text; those with look-ahead rows are captured when first needed.
    """
    runtime = runtime_for(model)
    if not model.capabilities.supports_pass:
        return
    if progress is not None and isinstance(runtime, StaticRuntime):
        runtime.on_capture = lambda what: progress(Progress(f"Capturing calls ({what})", 0, None))
    try:
        cost_for(model)
        if isinstance(runtime, StaticRuntime):
            runtime.warm_up()  # a table that was kept from an earlier day captured nothing
    finally:
        if isinstance(runtime, StaticRuntime):
            runtime.on_capture = None


def prepare_drafts(
    model: LanguageModel,
    lookahead: LookaheadEmbeddings,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    *,
    disabled: frozenset[LookaheadPart] = frozenset(),
) -> None:
    """Make ready what drafts of these embeddings take from the model itself: its bigrams, where there is no sampler.

    They are read once for each model and kept in the user's cache; a run does without those that were never read.

    Raises:
        Cancelled: before they were.
    """
    wanted = LookaheadPart.BIGRAMS not in disabled and lookahead.without(disabled).sampler is None
    if wanted and model.capabilities.supports_pass:
        bigrams_for(model, progress, cancel)


def prompt_ids(model: LanguageModel, prompt: str | Sequence[int]) -> list[int]:
    """Token ids of a prompt; an empty text becomes the start token where the model has one.

    Raises:
        PromptError: see `decode`.
    """
    if isinstance(prompt, str):
        ids = [int(i) for i in model.tokenizer(prompt)["input_ids"]] if prompt else []
    else:
        ids = [int(i) for i in prompt]
    if not ids:
        start = getattr(model.tokenizer, "bos_token_id", None)
        if start is None:
            raise PromptError("The prompt is empty, and this model has no start token. Write at least one word.")
        ids = [int(start)]
    vocabulary = model.vocabulary_size
    if any(not 0 <= i < vocabulary for i in ids):
        raise PromptError(f"The prompt holds token ids outside the model's vocabulary of {vocabulary}.")
    return ids


class _Run:
    """One generation."""

    def __init__(
        self,
        model: LanguageModel,
        ids: list[int],
        lookahead: LookaheadEmbeddings | None,
        stop: StopConditions,
        seed: int,
        cancelled: Callable[[], bool],
    ) -> None:
        self.model, self.stop, self.cancelled = model, stop, cancelled
        self.lookahead = lookahead
        if lookahead is not None:
            lookahead.check(model)
        runtime = runtime_for(model)
        limit = model.capabilities.context_length
        # The last tokens' rows may be followed by one call's worth of drafts and look-ahead rows.
        capacity = min(limit, len(ids) + stop.max_new_tokens) + MAX_ROWS
        self.state = DecodeState(runtime, runtime.new_cache(capacity), ids, seed, limit)
        self.emission = Emission(model, stop)
        self.end = min(limit, len(ids) + stop.max_new_tokens)
        ends = self.emission.ends_text
        self.steppers: dict[Strategy, Stepper] = {
            Strategy.AUTOREGRESSIVE: AutoregressiveStepper(),
            Strategy.TWO_CALL: TwoCallStepper(ends, cancelled),
            Strategy.FUSED: FusedStepper(model),
        }
        self._disabled: frozenset[LookaheadPart] | None = None

    def steps(self, ask: Callable[[], DecodingSettings], rule: VerificationRule | None) -> Iterator[StepEvent]:
        state = self.state
        settings = self._in_force(ask())
        if len(state.tokens) >= state.context_length:
            yield self._stopped(0, settings, StopReason.CONTEXT_FULL, PrefillInfo(len(state.tokens), 0.0, 0))
            return
        prefill = self._prefill()
        if prefill is None:
            yield self._stopped(0, settings, StopReason.CANCELLED, PrefillInfo(len(state.tokens), 0.0, 0))
            return
        index = 0
        previous: Stepper | None = None
        while True:
            settings = self._in_force(ask())
            if self.cancelled():
                yield self._stopped(index, settings, StopReason.CANCELLED, prefill)
                return
            started = time.perf_counter()
            state.begin_step()
            state.remaining = self.end - len(state.tokens)
            stepper = self.steppers[settings.strategy if settings.k > 0 else Strategy.AUTOREGRESSIVE]
            if stepper is not previous:
                stepper.forget()
                previous = stepper
            outcome = stepper.step(state, settings, rule or rule_for(settings.verification))
            kept, reason, overlap = self.emission.cut(outcome.emitted)
            position = state.position
            state.tokens.extend(e.token for e in outcome.emitted[:kept])
            if reason is None and len(state.tokens) >= self.end:
                full = len(state.tokens) >= state.context_length
                reached = self.emission.count + kept >= self.stop.max_new_tokens
                reason = StopReason.CONTEXT_FULL if full and not reached else StopReason.MAX_NEW_TOKENS
            tokens, drafts = self.emission.events(
                outcome, kept, position, state.seed, settings, last=reason is not None
            )
            yield StepEvent(
                index=index,
                tokens=tokens,
                drafts=drafts,
                calls=state.calls,
                rows=tuple(state.rows),
                lookahead_rows=state.lookahead_rows,
                seconds=time.perf_counter() - started,
                forward_seconds=state.forward_seconds,
                settings=settings,
                context_length=len(state.tokens),
                reason=outcome.reason,
                prefill=prefill,
                stop_reason=reason,
                stop_overlap=overlap,
            )
            if reason is not None:
                return
            prefill = None
            index += 1

    def _in_force(self, settings: DecodingSettings) -> DecodingSettings:
        """The settings with k reduced to L, and the look-ahead parts they ask for made ready."""
        if settings.strategy is Strategy.PROMPT_LOOKUP:
            raise UnsupportedStrategy("transformers' prompt lookup writes a whole text or none: start anew with it.")
        if settings.strategy is Strategy.AUTOREGRESSIVE or settings.k == 0:
            return settings
        if not self.model.capabilities.supports_pass:
            raise UnsupportedStrategy(
                f"{self.model.name} cannot run PASS: {self.model.capabilities.reason} "
                "Choose the autoregressive strategy for this model."
            )
        if self.lookahead is None:
            self.lookahead = mean_embedding(self.model.input_embedding.weight)
        if settings.strategy is Strategy.FUSED and settings.auto:
            cost_for(self.model)  # measured here, outside any step's clock, unless `prepare` was called
        if settings.disabled_parts != self._disabled:
            self._disabled = settings.disabled_parts
            active = self.lookahead.without(settings.disabled_parts)
            self.state.lookahead = active
            self.state.runtime.use_lookahead(active)
            self.state.head = self._head(active, settings.disabled_parts)
            self.state.memory = None if LookaheadPart.REPEATS in settings.disabled_parts else TextMemory()
            for stepper in self.steppers.values():
                stepper.forget()
        deeper = settings.prompt_lookup and settings.strategy is Strategy.FUSED  # its drafts need no look-ahead row
        if settings.k > self.lookahead.count and not deeper:
            return replace(settings, k=self.lookahead.count)
        return settings

    def _head(self, lookahead: LookaheadEmbeddings, disabled: frozenset[LookaheadPart]) -> DraftHead | None:
        """What scores drafts by the token before them: the file's sampler, else the model's own bigrams if read."""
        runtime = self.state.runtime
        if lookahead.sampler is not None:
            return runtime.sampler_head(lookahead.sampler)
        bigrams = None if LookaheadPart.BIGRAMS in disabled else ready_bigrams(self.model)
        return None if bigrams is None else runtime.bigram_head(bigrams)

    def _prefill(self) -> PrefillInfo | None:
        """Cache everything but the last token; None when cancelled on the way."""
        state = self.state
        ids = np.asarray(state.tokens[:-1], dtype=np.int64)
        started = time.perf_counter()
        calls = 0
        for begin in range(0, ids.size, PREFILL_ROWS):
            if self.cancelled():
                return None
            chunk = ids[begin : begin + PREFILL_ROWS]
            state.runtime.forward(state.cache, chain_rows(chunk))
            state.cache.commit(range(chunk.size))
            calls += 1
        state.runtime.synchronize()
        return PrefillInfo(len(state.tokens), time.perf_counter() - started, calls)

    def _stopped(
        self, index: int, settings: DecodingSettings, reason: StopReason, prefill: PrefillInfo | None
    ) -> StepEvent:
        return StepEvent.stopped(index, settings, len(self.state.tokens), reason, prefill)
