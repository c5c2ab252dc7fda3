"""The run of a batch: seed by seed, every setting in turn, reported as events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from pass_core.engine import Engine
from pass_core.evaluation.baselines.contestant import Job, Measurement
from pass_core.evaluation.baselines.decoders import decoder_for
from pass_core.evaluation.baselines.harness import measure
from pass_core.evaluation.batch.plan import BatchError, BatchPlan
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.runtime.other_work import OtherWork
from pass_core.settings import DecodingSettings

WARM_UP_TOKENS = 16


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One text was written; `others`: processors that other programs kept busy meanwhile."""

    settings: DecodingSettings
    seed: int
    measurement: Measurement
    others: float | None


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """Every run of the plan is done."""


BatchEvent = Progress | BatchRun | BatchEnded


def run_batch(
    engine: Engine, plan: BatchPlan, lookahead: LookaheadEmbeddings | None, cancel: CancelToken
) -> Iterator[BatchEvent]:
    """Write all texts; one of them warms up each setting first and is not counted.

    Raises:
        BatchError: the prompt and the new tokens do not fit the model, or it cannot draft.
        PromptError: the prompt cannot be used. Cancelled: `cancel` was called.
    """
    model = engine.model
    ids = tuple(engine.encode(plan.prompt))
    room = model.capabilities.context_length
    if len(ids) + plan.new_tokens > room:
        raise BatchError(
            f"The prompt has {len(ids):,} tokens and {plan.new_tokens:,} new ones are asked for, but {model.name} has "
            f"room for {room:,}. Ask for fewer tokens."
        )
    if not model.capabilities.supports_pass and any(c.strategy.uses_lookahead for c in plan.cells):
        raise BatchError(f"{model.name} cannot run PASS: {model.capabilities.reason} Choose Plain alone.")

    def write(settings: DecodingSettings, seed: int, tokens: int) -> Measurement:
        decoder = decoder_for(engine, settings, lookahead)
        job = Job(ids, settings.sampling, seed, tokens, plan.ignore_eos)
        measured = measure(decoder, job, lambda: cancel.cancelled)
        if measured.cancelled:
            raise Cancelled("cancelled by the user")
        return measured

    for number, cell in enumerate(plan.cells):
        cancel.raise_if_cancelled()
        yield Progress("Warming up", number, len(plan.cells), "settings")
        write(cell, plan.seeds[0], min(WARM_UP_TOKENS, plan.new_tokens))
    started, done = time.monotonic(), 0
    yield Progress("Writing", 0, plan.runs, "runs")
    for number, seed in enumerate(plan.seeds):
        shift = number % len(plan.cells)  # another setting goes first each time: none has the warmer machine always
        for cell in (*plan.cells[shift:], *plan.cells[:shift]):
            cancel.raise_if_cancelled()
            work = OtherWork()
            measured = write(cell, seed, plan.new_tokens)
            yield BatchRun(cell, seed, measured, work.processors())
            done += 1
            left = (time.monotonic() - started) / done * (plan.runs - done)
            yield Progress("Writing", done, plan.runs, "runs", left)
    yield BatchEnded()
