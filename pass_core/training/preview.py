"""What a run needs before it starts, what it will take, and what a finished file is worth."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from pass_core.engine import Engine
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.shipped import untrained_lookahead
from pass_core.progress import Cancelled, CancelToken, ProgressCallback
from pass_core.runtime.bigram_reader import reading_seconds
from pass_core.training.acceptance import Acceptance, HeldOut, chain_settings, measure, measure_decoding
from pass_core.training.budget import BIGRAMS_SHARE, STATE_HEAD_SHARE, WRITING_SHARE, Budget
from pass_core.training.config import TrainingConfig
from pass_core.training.corpus import Corpus
from pass_core.training.estimate import Preparation, estimate, refuse_untrainable
from pass_core.training.events import Estimate
from pass_core.training.options import TrainingOptions, check_file
from pass_core.training.parts import parts_of
from pass_core.training.selfwritten import SelfPlan
from pass_core.training.state_config import StateHeadConfig
from pass_core.training.state_data import StateStore
from pass_core.training.state_head import StateHeadTrainer
from pass_core.training.step import frozen
from pass_core.training.store import PrefixStore
from pass_core.training.trainer import Trainer
from pass_core.training.writing import continue_text


def prepare(
    engine: Engine,
    config: TrainingConfig,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    budget: Budget | None = None,
) -> TrainingConfig:
    """Read what a run needs from the model, with progress, so that `train` need not.

    Returns:
        the config to train with: without bigrams where they could not be read in their share of the time limit.

    Raises:
        TrainingError: the model cannot be trained for. Cancelled.
    """
    refuse_untrainable(engine.model)
    if not config.uses_bigrams or engine.bigrams is not None:
        return config
    until = cancel if budget is None else budget.share(BIGRAMS_SHARE, cancel)
    try:
        engine.read_bigrams(progress, until)
    except Cancelled:
        if cancel is not None and cancel.cancelled:
            raise
        return replace(config, bigrams=False)
    return config


def preparation(engine: Engine, config: TrainingConfig, *, to_write: int) -> Preparation:
    """How long it takes to write `to_write` texts and to read the bigrams, from a few timed calls.

    With a time limit neither takes more than its share of it.
    """
    model = engine.model
    most = config.minutes * 60 if config.minutes else float("inf")
    writing = bigrams = 0.0
    if to_write:
        batch, tokens = min(to_write, SelfPlan().batch), 4
        prefixes = torch.zeros(batch, 8, dtype=torch.long)
        generator = torch.Generator().manual_seed(0)
        started = time.perf_counter()
        continue_text(model, prefixes, 8 + tokens, torch.ones(batch), torch.zeros(batch, dtype=torch.long), generator)
        a_token = (time.perf_counter() - started) / tokens
        writing = min(WRITING_SHARE * most, a_token * config.length * -(-to_write // batch))
    if config.uses_bigrams and engine.bigrams is None:
        bigrams = min(BIGRAMS_SHARE * most, reading_seconds(model, engine.runtime))
    return Preparation(writing, bigrams)


def preview(
    engine: Engine,
    config: TrainingConfig,
    *,
    sequences: int,
    memory: int = 2_000_000_000,
    to_write: int = 0,
    state: StateHeadConfig | None = None,
    cancel: CancelToken | None = None,
) -> Estimate:
    """Time and memory of a run on `sequences` texts, before there are any: one small step on random tokens is timed.

    Args:
        to_write: texts, held-out ones included, that the model has yet to write.
        state: the state head that is trained last.

    Raises:
        TrainingError: the model cannot be trained for. Cancelled: between two of the things that are timed.
    """
    model = engine.model
    cancel = cancel or CancelToken()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.vocabulary_size, (config.length,), generator=generator)
    probe = Corpus([ids], [HeldOut(ids, 1, "prose")], "probe")
    one = replace(config, batch=1, minutes=0.0, bigrams=False)  # which take a moment to read, and no time in a step
    trainer = Trainer(engine, probe, one, TrainingOptions(out=Path("unused.safetensors"), memory=memory))
    with frozen(model):
        trainer.gradient_step()  # warms up
        cancel.raise_if_cancelled()
        trainer.store.forget()
        trainer.settle_steps()
        cancel.raise_if_cancelled()
        before = preparation(engine, config, to_write=to_write)
        last = 0.0
        if state is not None and not config.minutes:
            last = state_seconds(engine, probe, state.beside(config), sequences, memory)
    measured = trainer.pace.times(config.batch, sequences // config.batch)
    if state is not None and config.minutes:
        last = STATE_HEAD_SHARE * config.minutes * 60
    left = config.minutes * 60 - before.seconds - last
    steps = measured.steps_in(left, config) if config.minutes else config.steps
    told = estimate(model, trainer.parts, replace(config, steps=steps), [ids] * sequences, memory, measured, before)
    return replace(told, seconds=told.seconds + last, state_seconds=last)


def state_seconds(engine: Engine, probe: Corpus, config: StateHeadConfig, sequences: int, memory: int) -> float:
    """How long the training of a state head takes on `sequences` texts, from one timed step on the text of `probe`.

    Memory that a step of the other parts needs is enough for it.
    """
    small = replace(config, places=min(config.places, 256), evaluate_contexts=64)
    options = TrainingOptions(out=Path("unused.safetensors"), init=untrained_lookahead(engine.model))
    trainer = StateHeadTrainer(engine, probe, small, options, CancelToken())
    with frozen(engine.model):
        rows = trainer.next_rows()
        trainer.gradient_step(rows)  # warms up
        started = time.perf_counter()
        trainer.gradient_step(rows)
        a_place = (time.perf_counter() - started) / len(rows.hidden)
        started = time.perf_counter()
        block = StateStore(engine.model, probe.train, 0, config.top_k).block(0)
        a_text = (time.perf_counter() - started) / len(probe.train)
    places = config.steps * config.places
    texts = places / config.length  # that steps come to; those that are kept are computed once
    if sequences * block.bytes() <= memory * len(probe.train):
        texts = min(texts, sequences)
    return places * a_place + texts * a_text


def measure_file(
    engine: Engine, lookahead: LookaheadEmbeddings, corpus: Corpus, config: TrainingConfig, *, walk: bool = False
) -> Acceptance:
    """Held-out acceptance of a file, at the places the trainer measures, or (`walk`) at those that decoding meets.

    Raises:
        LookaheadError: the file is for another model.
    """
    model = engine.model
    check_file(model, lookahead)
    held = corpus.held_out
    bigrams = engine.read_bigrams() if config.bigrams and lookahead.sampler is None else None
    parts, settings = parts_of(model, lookahead, bigrams), chain_settings(config, lookahead.count)
    store = PrefixStore(model, [h.ids for h in held], 0)
    with frozen(model):
        if walk:
            most = max(1, config.evaluate_contexts // len(held))
            return measure_decoding(model, parts, held, store, settings, iterations=most, batch=config.batch)
        return measure(model, parts, held, store, settings, contexts=config.evaluate_contexts, batch=config.batch)
