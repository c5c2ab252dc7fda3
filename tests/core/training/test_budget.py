"""A time limit counts everything and is kept, whatever the machine does meanwhile. Clocks here are the tests' own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pass_core.engine import Engine
from pass_core.lookahead.format import load_lookahead
from pass_core.progress import Cancelled, CancelToken
from pass_core.training import preview as preview_module
from pass_core.training import selfwritten
from pass_core.training.budget import Budget, StepPlan, fewer_places, rarer_evaluations
from pass_core.training.config import TrainingConfig, TrainingKind
from pass_core.training.control import PauseSwitch
from pass_core.training.events import Ending, Evaluated, Finished, Started, StepDone, TrainingEvent
from pass_core.training.selfwritten import SelfPlan, read_rows, unwritten, write_corpus
from pass_core.training.trainer import Trainer
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def timed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: TrainingConfig,
    clock: Clock,
    *,
    step: float,
    evaluation: float,
    slower_after: int = 10**9,
    resume: bool = False,
    spent: float = 0.0,
) -> Trainer:
    """A trainer whose steps and evaluations take so many seconds of `clock`, steps ten times as many later on."""
    model = tiny.tiny_llama()
    budget = Budget(config.minutes, clock)
    clock.now += spent
    trainer = Trainer(Engine(model), own_corpus(model), config, options(folder, resume=resume), budget)
    gradient, evaluate = trainer.gradient_step, trainer.evaluate

    def slow_gradient() -> dict[str, float]:
        clock.now += step * (10 if trainer.step >= slower_after else 1)
        return gradient()

    def slow_evaluate(contexts: int | None = None) -> object:
        clock.now += evaluation
        return evaluate(contexts)

    monkeypatch.setattr(trainer, "gradient_step", slow_gradient)
    monkeypatch.setattr(trainer, "evaluate", slow_evaluate)
    return trainer


def run(trainer: Trainer, cancel: CancelToken | None = None) -> tuple[Finished, list[TrainingEvent]]:
    events: list[TrainingEvent] = []
    finished = trainer.run(events.append, cancel or CancelToken(), PauseSwitch())
    return finished, events


def test_a_run_ends_within_its_minutes_and_uses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    config = small_config(minutes=10, evaluate_every=10)
    trainer = timed(tmp_path, monkeypatch, config, clock, step=10, evaluation=15, spent=120)
    finished, events = run(trainer)
    assert 540 < clock.now - 1000 <= 600
    assert (finished.ending, finished.step) == (Ending.COMPLETED, trainer.config.steps)
    assert isinstance(events[0], Started)
    assert load_lookahead(tmp_path / "made.safetensors").training is not None
    evaluated = [e.step for e in events if isinstance(e, Evaluated)]
    assert evaluated[0] == 0
    assert evaluated[-1] == finished.step
    rates = [e.learning_rate for e in events if isinstance(e, StepDone)]
    assert rates[-1] < 0.1  # the rate fell to its end


def test_a_machine_that_becomes_slow_still_ends_on_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    config = small_config(minutes=10, evaluate_every=10)
    trainer = timed(tmp_path, monkeypatch, config, clock, step=5, evaluation=10, slower_after=20)
    finished, events = run(trainer)
    first = next(e for e in events if isinstance(e, Started))
    assert finished.step < first.config.steps / 2
    # The step during which it became slow could not be foreseen.
    assert clock.now - 1000 <= 600 + 50
    assert (tmp_path / "made.safetensors").exists()


def test_even_no_time_leaves_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preparations took everything: one step, and the file that was asked for."""
    clock = Clock()
    trainer = timed(tmp_path, monkeypatch, small_config(minutes=1), clock, step=5, evaluation=5, spent=90)
    finished, _ = run(trainer)
    assert finished.step == 1
    assert finished.path is not None
    assert load_lookahead(finished.path).count == 4


def test_a_resumed_run_has_what_is_left_of_its_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    config = small_config(minutes=10, evaluate_every=10)
    token = CancelToken()
    trainer = timed(tmp_path, monkeypatch, config, clock, step=10, evaluation=15)
    stopping: list[TrainingEvent] = []

    def stop(event: TrainingEvent) -> None:
        stopping.append(event)
        if isinstance(event, StepDone) and event.step == 12:
            token.cancel()

    assert trainer.run(stop, token, PauseSwitch()).ending is Ending.CANCELLED
    used = clock.now - 1000
    clock.now += 5000  # the night between
    begun = clock.now
    again = timed(tmp_path, monkeypatch, config, clock, step=10, evaluation=15, resume=True)
    finished, _ = run(again)
    assert finished.step > 12
    assert 540 < used + clock.now - begun <= 600


def test_evaluations_shrink_to_a_share_of_a_short_time() -> None:
    config = small_config(minutes=1, evaluate_contexts=1000, evaluate_every=5)
    assert fewer_places(config, evaluation_seconds=48.0, left=48.0).evaluate_contexts == 100
    assert fewer_places(config, evaluation_seconds=1.0, left=48.0).evaluate_contexts == 1000
    assert fewer_places(config, evaluation_seconds=1e6, left=48.0).evaluate_contexts == 24
    assert fewer_places(config, evaluation_seconds=1.0, left=-5.0).evaluate_contexts == 24
    assert rarer_evaluations(config, ratio=3.0).evaluate_every == 20
    assert rarer_evaluations(config, ratio=0.1).evaluate_every == 5


def test_steps_are_planned_for_what_is_left() -> None:
    plan = StepPlan(step_seconds=2.0, evaluation_seconds=10.0)
    assert plan.steps(5, 110.0, every=10) == 5 + 33
    assert plan.steps(5, 9.0, every=10) == 5
    assert Budget(0).left == math.inf
    assert not Budget(0).share(0.1).cancelled


def test_a_share_of_the_time_cancels_and_so_does_the_user() -> None:
    clock = Clock()
    user = CancelToken()
    token = Budget(10, clock).share(0.5, user)
    assert not token.cancelled
    clock.now += 300
    assert token.cancelled
    with pytest.raises(Cancelled):
        token.raise_if_cancelled()
    other = Budget(10, clock).share(0.5, user)
    user.cancel()
    assert other.cancelled


@pytest.mark.parametrize(("minutes", "texts"), [(10.0, 3), (2.0, 1)])
def test_writing_stops_at_its_share_and_gives_both_sorts_of_text(
    minutes: float, texts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch takes 20 seconds; a third of the time may go."""
    model = tiny.tiny_llama(tokenizer=True)
    clock = Clock()
    real = selfwritten.continue_text

    def slow(*args: Any, cancel: CancelToken | None = None, **kwargs: Any) -> torch.Tensor:
        clock.now += 20
        if cancel is not None:
            cancel.raise_if_cancelled()
        return real(*args, **kwargs)

    monkeypatch.setattr(selfwritten, "continue_text", slow)
    plan = SelfPlan(sequences=600, held_out=60, length=48)
    file = tmp_path / "own.jsonl"
    corpus = write_corpus(model, plan, file, budget=Budget(minutes, clock))
    assert clock.now - 1000 <= 0.35 * minutes * 60 + 20
    assert len(corpus.train) >= 12 * texts
    assert corpus.held_out


def test_too_little_time_for_whole_texts_gives_short_ones_that_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.tiny_llama(tokenizer=True)
    plan = SelfPlan(sequences=9, held_out=3, length=200)
    file = tmp_path / "x.jsonl"
    corpus = write_corpus(model, plan, file, budget=_Over(0.001, Clock()))
    assert len(corpus.train) == 3
    assert corpus.held_out
    corpus.check(small_config())
    for held in corpus.held_out:
        assert 16 <= len(held.ids) - held.start < 60
    assert read_rows(file, model) == []
    assert unwritten(model, plan, file) == 12
    stopped = CancelToken()
    stopped.cancel()
    with pytest.raises(Cancelled):  # a user who cancels gets no short texts
        write_corpus(model, plan, tmp_path / "y.jsonl", budget=_Over(0.001, Clock()), cancel=stopped)


class _Over(Budget):
    """A budget whose shares are over at once."""

    def share(self, part: float, cancel: CancelToken | None = None) -> CancelToken:
        token = CancelToken()
        token.cancel()
        return token


def test_bigrams_that_take_too_long_are_done_without() -> None:
    model = tiny.tiny_llama(vocabulary=40)
    config = small_config(kind=TrainingKind.EMBEDDINGS, with_sampler=False, minutes=1)
    assert not preview_module.prepare(Engine(model), config, budget=_Over(1, Clock())).uses_bigrams
    user = CancelToken()
    user.cancel()
    with pytest.raises(Cancelled):
        preview_module.prepare(Engine(model), config, cancel=user, budget=_Over(1, Clock()))
