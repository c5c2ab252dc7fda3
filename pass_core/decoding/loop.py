"""The one decoding loop: prefill, steps, stop reasons. Strategies plug into it; events come out of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from pass_core.decoding.autoregressive import AutoregressiveStepper
from pass_core.decoding.events import PrefillInfo, StepEvent, StopReason
from pass_core.decoding.fused import FusedStepper
from pass_core.decoding.repetition_bonus import TextMemory
from pass_core.decoding.resources import Resources
from pass_core.decoding.state import DecodeState, Stepper
from pass_core.decoding.state_proposer import StateProposer
from pass_core.decoding.step_recorder import StepCost, StepRecorder
from pass_core.decoding.two_call import TwoCallStepper
from pass_core.kernels.factory import device_steps
from pass_core.kernels.interface import DraftHead
from pass_core.lookahead.embeddings import LookaheadEmbeddings, mean_embedding
from pass_core.runtime.rows import chain_rows
from pass_core.sampling.rules import VerificationRule, rule_for
from pass_core.settings import MAX_ROWS, DecodingSettings, LookaheadPart, StopConditions, Strategy

PREFILL_ROWS = 256


class UnsupportedStrategy(ValueError):
    """The model cannot run a drafting strategy; the message says why."""


class Generation:
    """One text, from its prompt to its stop reason. `Engine.decode` makes it and says what may be raised."""

    def __init__(
        self,
        resources: Resources,
        ids: list[int],
        lookahead: LookaheadEmbeddings | None,
        stop: StopConditions,
        seed: int,
        cancelled: Callable[[], bool],
    ) -> None:
        model, runtime = resources.model, resources.runtime
        self.resources, self.lookahead, self.cancelled = resources, lookahead, cancelled
        if lookahead is not None:
            lookahead.check(model)
        limit = model.capabilities.context_length
        # Behind the last token a pass may still write the rows of its drafts and look-ahead.
        capacity = min(limit, len(ids) + stop.max_new_tokens) + MAX_ROWS
        self.state = DecodeState(runtime, resources.kernels, runtime.new_cache(capacity), ids, seed, limit)
        self.state.device = device_steps(resources.kernels, runtime)
        self.recorder = StepRecorder(resources.token_bytes, model.eos_token_ids, stop, len(ids), limit)
        self.steppers: dict[Strategy, Stepper] = {
            Strategy.AUTOREGRESSIVE: AutoregressiveStepper(),
            Strategy.TWO_CALL: TwoCallStepper(self.recorder.ends_text, cancelled),
            Strategy.FUSED: FusedStepper(resources.cost, None if lookahead is None else lookahead.training),
        }
        self._disabled: frozenset[LookaheadPart] | None = None
        if resources.cost is not None:
            self.state.clock = resources.cost.clock

    def steps(self, ask: Callable[[], DecodingSettings], rule: VerificationRule | None) -> Iterator[StepEvent]:
        """Prefill, then one event for each step; `ask` gives the settings of the next one."""
        state, recorder = self.state, self.recorder
        settings = self._in_force(ask())
        if len(state.tokens) >= state.context_length:
            yield recorder.stopped(settings, StopReason.CONTEXT_FULL)
            return
        if not self._prefill():
            yield recorder.stopped(settings, StopReason.CANCELLED)
            return
        previous: Stepper | None = None
        while True:
            settings = self._in_force(ask())
            if self.cancelled():
                yield recorder.stopped(settings, StopReason.CANCELLED)
                return
            started = state.clock()
            state.begin_step()
            state.remaining = recorder.remaining
            stepper = self.steppers[settings.strategy if settings.k > 0 else Strategy.AUTOREGRESSIVE]
            if stepper is not previous:
                stepper.forget()
                previous = stepper
            outcome = stepper.step(state, settings, rule or rule_for(settings.verification))
            cost = StepCost(state.calls, tuple(state.rows), state.lookahead_rows, state.forward_seconds)
            event = recorder.record(outcome, cost, settings, state.seed, lambda: state.clock() - started)  # noqa: B023
            stepper.learn(event.seconds)
            state.tokens.extend(token.id for token in event.tokens)
            yield event
            if event.stop_reason is not None:
                return

    def _in_force(self, settings: DecodingSettings) -> DecodingSettings:
        """The settings with k reduced to L. Raises UnsupportedStrategy where the model cannot draft."""
        model = self.resources.model
        if settings.strategy is Strategy.AUTOREGRESSIVE or settings.k == 0:
            return settings
        if not model.capabilities.supports_pass:
            raise UnsupportedStrategy(
                f"{model.name} cannot run PASS: {model.capabilities.reason} "
                "Choose the autoregressive strategy for this model."
            )
        if self.lookahead is None:
            self.lookahead = mean_embedding(model.input_embedding.weight)
        if settings.disabled_parts != self._disabled:
            self._use_parts(self.lookahead, settings.disabled_parts)
        deeper = settings.prompt_lookup and settings.strategy is Strategy.FUSED  # its drafts need no look-ahead row
        if settings.k > self.lookahead.count and not deeper:
            return replace(settings, k=self.lookahead.count)
        return settings

    def _use_parts(self, lookahead: LookaheadEmbeddings, disabled: frozenset[LookaheadPart]) -> None:
        """Draft with all parts but the disabled ones from now on."""
        self._disabled = disabled
        active = lookahead.without(disabled)
        self.state.lookahead = active
        self.state.runtime.use_lookahead(active)
        self.state.head = self._head(active, disabled)
        kernels, runtime = self.state.kernels, self.state.runtime
        self.state.state_head = None if active.state is None else StateProposer.of(active.state, kernels, runtime)
        self.state.memory = None if LookaheadPart.REPEATS in disabled else TextMemory()
        for stepper in self.steppers.values():
            stepper.forget()

    def _head(self, lookahead: LookaheadEmbeddings, disabled: frozenset[LookaheadPart]) -> DraftHead | None:
        """The draft head: the file's sampler head, else the model's own bigrams if they were read."""
        kernels = self.state.kernels
        if lookahead.sampler is not None:
            return kernels.sampler_head(lookahead.sampler)
        bigrams = None if LookaheadPart.BIGRAMS in disabled else self.resources.bigrams
        return None if bigrams is None else kernels.bigram_head(bigrams)

    def _prefill(self) -> bool:
        """Cache everything but the last token; False when cancelled on the way."""
        state = self.state
        ids = np.asarray(state.tokens[:-1], dtype=np.int64)
        started = time.perf_counter()
        calls = 0
        for begin in range(0, ids.size, PREFILL_ROWS):
            if self.cancelled():
                return False
            chunk = ids[begin : begin + PREFILL_ROWS]
            hidden = state.runtime.forward(state.cache, chain_rows(chunk))
            state.cache.commit(range(chunk.size))
            state.predicting = (begin + chunk.size, hidden[-1].clone())
            calls += 1
        state.runtime.synchronize()
        self.recorder.prefill = PrefillInfo(len(state.tokens), time.perf_counter() - started, calls)
        return True
