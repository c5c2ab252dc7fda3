"""The trainer of a state head: what it learns, what it leaves alone, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from pass_core.engine import Engine
from pass_core.lookahead.embeddings import TrainingSummary
from pass_core.lookahead.format import load_lookahead
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.training.acceptance import HeldOut
from pass_core.training.budget import Budget
from pass_core.training.config import TrainingError
from pass_core.training.control import PauseSwitch
from pass_core.training.corpus import Corpus
from pass_core.training.events import (
    Ending,
    StateHeadEvaluated,
    StateHeadFinished,
    StateHeadStarted,
    StateHeadStep,
    TrainingEvent,
)
from pass_core.training.state_data import divided
from pass_core.training.state_head import StateHeadTrainer, train_state_head
from pass_core.training.trainer import train
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config
from tests.core.training.state_runs import shaken_head, state_config, trainer_of
from tests.core.training.test_budget import Clock
from tests.core.training.test_step import shaken


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny.tiny_gpt2(layers=1)


@pytest.fixture(scope="module")
def corpus(model: LanguageModel) -> Corpus:
    return own_corpus(model, sequences=60, held=20)


def go(trainer: StateHeadTrainer) -> tuple[StateHeadFinished, list[TrainingEvent]]:
    events: list[TrainingEvent] = []
    return trainer.run(events.append, PauseSwitch()), events


def test_learns_to_draft(model: LanguageModel, corpus: Corpus, tmp_path: Path) -> None:
    """The loss falls, and the head beats the untrained one on text that chose nothing."""
    config = state_config(steps=40, places=200, learning_rate=2e-2, warmup=5, evaluate_every=20, evaluate_contexts=200)
    before = {n: p.clone() for n, p in model.model.named_parameters()}
    finished, events = go(trainer_of(model, tmp_path, corpus=corpus, config=config))
    assert isinstance(events[0], StateHeadStarted)
    assert (events[0].chosen_by, events[0].reported) == (10, 10)
    assert events[-1] is finished
    divergences = [e.divergence for e in events if isinstance(e, StateHeadStep)]
    assert len(divergences) == 40
    assert sum(divergences[-5:]) < 0.7 * sum(divergences[:5])
    evaluated = [e for e in events if isinstance(e, StateHeadEvaluated)]
    assert [e.step for e in evaluated] == [0, 20, 40]
    assert finished.figures is not None
    untrained = evaluated[0].figures
    assert finished.figures.match[0] > untrained.match[0] + 0.1
    assert finished.figures.chain.accepted_per_iteration > 1.3 * untrained.chain.accepted_per_iteration
    assert finished.path is not None
    training = load_lookahead(finished.path).training
    assert training is not None
    assert training.state_acceptance == pytest.approx(finished.figures.match)
    for name, p in model.model.named_parameters():
        assert torch.equal(p, before[name]), name
        assert p.grad is None, name


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("had_one", [False, True], ids=["added", "trained anew"])
def test_everything_else_in_the_file_stays(had_one: bool, model: LanguageModel, corpus: Corpus, tmp_path: Path) -> None:
    summary = TrainingSummary(steps=7, acceptance=(0.5, 0.25), command="as before")
    base = shaken(model).to_lookahead(model, summary)
    if had_one:
        base = replace(base, state=shaken_head(model).weights(torch.bfloat16))
    old = tmp_path / "old.safetensors"
    base.save(old)
    run = trainer_of(model, tmp_path, corpus=corpus, init=load_lookahead(old), dtype=torch.bfloat16, command="now")
    finished, _ = go(run)
    assert finished.path is not None
    was, now = tensors(old), tensors(finished.path)
    for name in was:
        if not name.startswith("state."):
            assert was[name].dtype == now[name].dtype
            assert torch.equal(was[name].view(torch.int16), now[name].view(torch.int16)), name
    assert sum(name.startswith("state.") for name in now) == 7
    assert now["state.guess.step"].shape == (3, 32)
    training = load_lookahead(finished.path).training
    assert training is not None
    assert (training.command, training.state_command) == ("as before", "now")
    assert replace(training, state_acceptance=(), state_command="") == summary


def test_same_seed_same_file_however_much_is_kept(model: LanguageModel, corpus: Corpus, tmp_path: Path) -> None:
    made: list[dict[str, torch.Tensor]] = []
    figures: list[tuple[float, ...]] = []
    for name, memory, seed in (("a", 10**9, 0), ("b", 0, 0), ("c", 30_000, 0), ("d", 10**9, 1)):
        folder = tmp_path / name
        folder.mkdir()
        config = state_config(seed=seed)
        finished, _ = go(trainer_of(model, folder, corpus=corpus, config=config, memory=memory))
        assert finished.path is not None
        assert finished.figures is not None
        made.append(tensors(finished.path))
        figures.append(finished.figures.match)
    for other in made[1:3]:
        assert all(torch.equal(made[0][name], other[name]) for name in made[0])
    assert figures[0] == figures[1] == figures[2]
    assert not torch.equal(made[0]["state.guess.in.weight"], made[3]["state.guess.in.weight"])


def test_cancelling_leaves_a_whole_file(model: LanguageModel, corpus: Corpus, tmp_path: Path) -> None:
    cancel = CancelToken()
    events: list[TrainingEvent] = []

    def stop(event: TrainingEvent) -> None:
        events.append(event)
        if isinstance(event, StateHeadStep) and event.step == 6:
            cancel.cancel()

    whole = options(tmp_path)
    finished = train_state_head(Engine(model), corpus, state_config(), whole, on_event=stop, cancel=cancel)
    assert (finished.ending, finished.step, finished.best_step) == (Ending.CANCELLED, 6, 4)
    assert load_lookahead(whole.out).state is not None
    kept = whole.out.read_bytes()
    again = train_state_head(Engine(model), corpus, state_config(), whole, cancel=cancel)  # at once
    assert (again.ending, again.step, again.path) == (Ending.CANCELLED, 0, None)
    assert whole.out.read_bytes() == kept


def test_a_head_that_learns_nothing_is_not_written(model: LanguageModel, corpus: Corpus, tmp_path: Path) -> None:
    config = state_config(learning_rate=0.0, steps=2)
    finished, _ = go(trainer_of(model, tmp_path, corpus=corpus, config=config))
    assert (finished.ending, finished.path, finished.figures) == (Ending.COMPLETED, None, None)
    assert not (tmp_path / "made.safetensors").exists()


def test_training_the_other_parts_keeps_the_state_head(model: LanguageModel, tmp_path: Path) -> None:
    head = shaken_head(model).weights(torch.float32)
    summary = TrainingSummary(state_acceptance=(0.5,), state_command="its own")
    init = replace(shaken(model).to_lookahead(model, summary), state=head)
    finished = train(Engine(model), own_corpus(model), small_config(steps=2), options(tmp_path, init=init))
    assert finished.path is not None
    made = load_lookahead(finished.path)
    assert made.state is not None
    torch.testing.assert_close(made.state.guess.w_in.float(), head.guess.w_in, rtol=0, atol=0.01)
    assert made.training is not None
    assert (made.training.state_acceptance, made.training.state_command) == ((0.5,), "its own")


@pytest.mark.parametrize("family", ["gpt2", "gemma"])
def test_another_model_and_vocabulary_larger_than_can_be_drafted(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pass_core.lookahead.state_head.DRAFT_VOCABULARY", 40)
    model = tiny.FAMILIES[family](vocabulary=70)
    finished, events = go(trainer_of(model, tmp_path, config=state_config(steps=30, evaluate_every=10)))
    first = next(e for e in events if isinstance(e, StateHeadEvaluated))
    assert finished.figures is not None
    assert finished.figures.expected > first.figures.expected


class TestTimeLimit:
    """Clocks are the test's own."""

    def run(self, model: LanguageModel, corpus: Corpus, folder: Path, spent: float) -> tuple[StateHeadFinished, Clock]:
        clock = Clock()
        budget = Budget(10, clock)
        clock.now += spent
        config = state_config(minutes=10, evaluate_every=10)
        trainer = StateHeadTrainer(Engine(model), corpus, config, options(folder), CancelToken(), budget)
        gradient, evaluate = trainer.gradient_step, trainer._evaluate

        def slow_gradient(rows: object) -> object:
            clock.now += 10
            return gradient(rows)  # type: ignore[arg-type]

        def slow_evaluate(first: bool = False) -> StateHeadEvaluated:
            started = trainer.plan.evaluation_seconds
            clock.now += 15
            done = evaluate(first)
            assert trainer.plan.evaluation_seconds >= 0 <= started
            trainer.plan.evaluation_seconds = 15
            return done

        trainer.gradient_step = slow_gradient  # type: ignore[assignment,method-assign]
        trainer._evaluate = slow_evaluate  # type: ignore[method-assign]
        return go(trainer)[0], clock

    def test_a_run_ends_within_its_minutes_and_uses_them(
        self, model: LanguageModel, corpus: Corpus, tmp_path: Path
    ) -> None:
        finished, clock = self.run(model, corpus, tmp_path, spent=120)
        assert 540 < clock.now - 1000 <= 600
        assert finished.ending is Ending.COMPLETED
        assert finished.step > 30

    def test_no_time_makes_no_head(self, model: LanguageModel, corpus: Corpus, tmp_path: Path) -> None:
        finished, _ = self.run(model, corpus, tmp_path, spent=700)
        assert (finished.step, finished.path, finished.ending) == (0, None, Ending.COMPLETED)


def test_texts_that_choose_are_not_reported() -> None:
    texts = [HeldOut(torch.arange(9), 1, str(n)) for n in range(5)]
    chosen_by, reported = divided(texts)
    assert [t.domain for t in chosen_by] == ["0", "2", "4"]
    assert [t.domain for t in reported] == ["1", "3"]
    assert divided(texts[:1]) == (texts[:1], texts[:1])


def test_texts_too_short_for_a_chain_are_refused(model: LanguageModel, tmp_path: Path) -> None:
    short = Corpus([torch.arange(3)], [HeldOut(torch.arange(20), 1, "prose")], "short")
    with pytest.raises(TrainingError, match="more than 3 tokens"):
        trainer_of(model, tmp_path, corpus=short)
