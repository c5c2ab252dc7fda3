"""The training of a state head survives a kill: resumed, it makes the same bits as an unbroken run."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from pass_core.engine import Engine
from pass_core.lookahead.format import load_lookahead
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.training.budget import Budget
from pass_core.training.checkpoint import load_checkpoint, save_checkpoint
from pass_core.training.config import TrainingError
from pass_core.training.control import PauseSwitch
from pass_core.training.corpus import Corpus
from pass_core.training.events import (
    CheckpointSaved,
    Ending,
    EventCallback,
    StateHeadEvaluated,
    StateHeadStarted,
    StateHeadStep,
    StepDone,
    TrainingEvent,
)
from pass_core.training.options import TrainingOptions
from pass_core.training.phases import train_all
from pass_core.training.state_config import StateHeadConfig
from pass_core.training.state_data import GROUP, StateStore, steps_of
from pass_core.training.state_head import StateHeadTrainer, train_state_head
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config
from tests.core.training.state_runs import state_config, trainer_of
from tests.core.training.test_budget import Clock

REPOSITORY = Path(__file__).parents[3]
CONFIG = state_config(steps=9, evaluate_every=3, checkpoint_every=2)
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pass_core.engine import Engine
from pass_core.training.events import StateHeadStep
from pass_core.training.state_head import train_state_head
from tests import tiny
from tests.core.training.runs import options, own_corpus
from tests.core.training.test_state_resume import CONFIG

def die(event):
    if isinstance(event, StateHeadStep) and event.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

model = tiny.tiny_gpt2(layers=1)
corpus = own_corpus(model, sequences=20, held=8)
train_state_head(Engine(model), corpus, CONFIG, options(Path(sys.argv[1])), on_event=die)
"""


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny.tiny_gpt2(layers=1)


@pytest.fixture(scope="module")
def corpus(model: LanguageModel) -> Corpus:
    return own_corpus(model, sequences=20, held=8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums of floats depend on the number of threads, and the killed process has one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(model: LanguageModel, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> TrainingOptions:
    """An unbroken run's files."""
    torch.set_num_threads(1)
    made = options(tmp_path_factory.mktemp("whole"))
    assert train_state_head(Engine(model), corpus, CONFIG, made).step == 9
    return made


def stopping(at: int, cancel: CancelToken, events: list[TrainingEvent]) -> EventCallback:
    def stop(event: TrainingEvent) -> None:
        events.append(event)
        if isinstance(event, StateHeadStep) and event.step == at:
            cancel.cancel()

    return stop


def contents(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """(metadata, tensors) of a file: the order of its metadata is not kept."""
    with safe_open(str(path), framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def same_run(one: TrainingOptions, other: TrainingOptions) -> None:
    """Both left the same bits: the file, the head in training, its mean and its optimiser."""
    files = [contents(o.out) for o in (one, other)]
    assert files[0][0] == files[1][0]
    assert files[0][1].keys() == files[1][1].keys()
    for name, tensor in files[0][1].items():
        assert torch.equal(tensor, files[1][1][name]), name
    first, second = (load_checkpoint(o.state_checkpoint_path, StateHeadConfig) for o in (one, other))
    assert first.step == second.step
    assert first.best_step == second.best_step
    assert first.best_acceptance == second.best_acceptance
    for name in first.parts:
        assert torch.equal(first.parts[name], second.parts[name]), name
        assert torch.equal(first.mean[name], second.mean[name]), name
    for number, of_first in first.optimizer["state"].items():
        for name, value in of_first.items():
            assert torch.equal(value, second.optimizer["state"][number][name]), (number, name)


def test_killed_and_resumed_is_the_unbroken_run(
    model: LanguageModel, corpus: Corpus, whole: TrainingOptions, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "5"], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    events: list[TrainingEvent] = []
    again = options(tmp_path, resume=True)
    train_state_head(Engine(model), corpus, CONFIG, again, on_event=events.append)
    assert isinstance(events[0], StateHeadStarted)
    assert events[0].step == 4
    assert [e.step for e in events if isinstance(e, StateHeadStep)] == [5, 6, 7, 8, 9]
    same_run(whole, again)


@pytest.mark.parametrize("at", [1, 4, 7])
def test_cancelled_and_resumed_is_the_unbroken_run(
    at: int, model: LanguageModel, corpus: Corpus, whole: TrainingOptions, tmp_path: Path
) -> None:
    cancel, events = CancelToken(), list[TrainingEvent]()
    first = options(tmp_path)
    stopped = train_state_head(
        Engine(model), corpus, CONFIG, first, on_event=stopping(at, cancel, events), cancel=cancel
    )
    assert (stopped.ending, stopped.step) == (Ending.CANCELLED, at)
    assert stopped.checkpoint == first.state_checkpoint_path
    assert isinstance(events[-2], CheckpointSaved)
    again = train_state_head(Engine(model), corpus, CONFIG, replace(first, resume=True))
    assert (again.ending, again.step) == (Ending.COMPLETED, 9)
    same_run(whole, first)


def test_a_finished_run_is_resumed_without_a_step(
    model: LanguageModel, corpus: Corpus, whole: TrainingOptions, tmp_path: Path
) -> None:
    kept = whole.out.read_bytes()
    events: list[TrainingEvent] = []
    again = train_state_head(Engine(model), corpus, CONFIG, replace(whole, resume=True), on_event=events.append)
    assert events == [again]
    assert (again.ending, again.step, again.path) == (Ending.COMPLETED, 9, whole.out)
    assert again.figures is not None
    assert whole.out.read_bytes() == kept


def test_steps_go_on_where_they_were_and_skip_what_is_done(model: LanguageModel, corpus: Corpus) -> None:
    texts = [text for _ in range(5) for text in corpus.train]  # more than one group of blocks
    store = StateStore(model, texts, 10**9, 10)
    expected = list(itertools.islice(steps_of(store, CONFIG), 50))
    for start in (1, 7, 33, 49):
        fresh = StateStore(model, texts, 10**9, 10)
        found = next(steps_of(fresh, CONFIG, start))
        assert torch.equal(found.hidden, expected[start].hidden)
        assert torch.equal(found.before, expected[start].before)
        assert torch.equal(found.targets.ids, expected[start].targets.ids)
        blocks = sum(fresh._kept.get(number) is not None for number in range(len(fresh)))
        assert 0 < blocks <= GROUP < len(fresh)


def test_a_whole_training_resumes_in_the_part_where_it_was(tmp_path: Path) -> None:
    """The other parts are not trained again, and both files are those of an unbroken run."""
    llama = tiny.tiny_llama()
    texts = own_corpus(llama, sequences=12, held=4)
    state = state_config(steps=5, evaluate_every=2, checkpoint_every=1)
    unbroken, broken = (options(tmp_path / name) for name in ("unbroken", "broken"))
    train_all(Engine(llama), texts, small_config(), state, unbroken)
    cancel, events = CancelToken(), list[TrainingEvent]()
    finished, last = train_all(
        Engine(llama), texts, small_config(), state, broken, on_event=stopping(3, cancel, events), cancel=cancel
    )
    assert finished.ending is Ending.COMPLETED
    assert last is not None
    assert (last.ending, last.step) == (Ending.CANCELLED, 3)
    again: list[TrainingEvent] = []
    train_all(Engine(llama), texts, small_config(), state, replace(broken, resume=True), on_event=again.append)
    assert not [e for e in again if isinstance(e, StepDone)]
    assert [e.step for e in again if isinstance(e, StateHeadStep)] == [4, 5]
    same_run(unbroken, broken)


def test_a_new_run_forgets_the_checkpoints_of_an_older_one(tmp_path: Path) -> None:
    """Else a run that was killed before its own checkpoint would go on from another's."""
    llama = tiny.tiny_llama()
    texts = own_corpus(llama, sequences=12, held=4)
    state = state_config(steps=4, evaluate_every=2, checkpoint_every=1)
    made = options(tmp_path)
    train_all(Engine(llama), texts, small_config(), state, made)
    assert made.checkpoint_path.is_file()
    assert made.state_checkpoint_path.is_file()
    cancel = CancelToken()

    def stop(event: TrainingEvent) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            assert not made.checkpoint_path.exists()
            cancel.cancel()

    train_all(Engine(llama), texts, small_config(), state, made, on_event=stop, cancel=cancel)
    assert load_checkpoint(made.checkpoint_path).step == 1
    assert not made.state_checkpoint_path.exists()


def test_another_run_is_refused(model: LanguageModel, corpus: Corpus, tmp_path: Path) -> None:
    train_state_head(Engine(model), corpus, CONFIG, options(tmp_path))
    with pytest.raises(TrainingError, match=r"other settings \(inner\)"):
        trainer_of(model, tmp_path, config=replace(CONFIG, inner=16), corpus=corpus, resume=True)
    with pytest.raises(TrainingError, match="other data"):
        trainer_of(model, tmp_path, config=CONFIG, corpus=own_corpus(model, sequences=19, held=8), resume=True)
    with pytest.raises(TrainingError, match="another model"):
        trainer_of(tiny.tiny_gpt2(layers=2), tmp_path, config=CONFIG, corpus=corpus, resume=True)
    path = options(tmp_path).state_checkpoint_path
    with pytest.raises(TrainingError, match="of the state head, not of the parts"):
        load_checkpoint(path)
    options(tmp_path).out.unlink()
    with pytest.raises(TrainingError, match="is gone"):
        trainer_of(model, tmp_path, config=CONFIG, corpus=corpus, resume=True)


def test_checkpoints_of_before_are_read(tmp_path: Path) -> None:
    """They had no phase, and no time of an evaluation."""
    from pass_core.training.trainer import Trainer

    llama = tiny.tiny_llama()
    path = tmp_path / "x.checkpoint"
    save_checkpoint(path, Trainer(Engine(llama), own_corpus(llama), small_config(), options(tmp_path)).state())
    raw = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in raw.items() if k not in ("phase", "evaluation_seconds")}, path)
    read = load_checkpoint(path)
    assert read.config == small_config()
    assert read.evaluation_seconds == 0.0


def test_a_time_limit_counts_what_the_run_took_before(model: LanguageModel, corpus: Corpus, tmp_path: Path) -> None:
    config = state_config(minutes=10, evaluate_every=0, checkpoint_every=1000)

    def go(spent: float, resume: bool, stop: int) -> tuple[StateHeadTrainer, float]:
        """A run whose every step takes 10 seconds; (the trainer, seconds that it took)."""
        clock = Clock()
        budget = Budget(10, clock)
        clock.now += spent  # before the head's turn
        cancel, events = CancelToken(), list[TrainingEvent]()
        trainer = StateHeadTrainer(Engine(model), corpus, config, options(tmp_path, resume=resume), cancel, budget)
        gradient = trainer.gradient_step

        def slow(rows: object) -> object:
            clock.now += 10
            return gradient(rows)  # type: ignore[arg-type]

        trainer.gradient_step = slow  # type: ignore[assignment,method-assign]
        began = clock.now
        trainer.run(stopping(stop, cancel, events), PauseSwitch())
        return trainer, clock.now - began

    first, took = go(100, False, 20)
    assert (first.step, took) == (20, 210)
    assert load_checkpoint(options(tmp_path).state_checkpoint_path, StateHeadConfig).spent == 210
    second, took = go(0, True, 10**9)
    assert 540 - 210 < took <= 600 - 210
    assert second.step > 20


def test_evaluations_and_checkpoints_come_in_order(
    whole: TrainingOptions, model: LanguageModel, corpus: Corpus, tmp_path: Path
) -> None:
    events: list[TrainingEvent] = []
    train_state_head(Engine(model), corpus, CONFIG, options(tmp_path), on_event=events.append)
    assert [e.step for e in events if isinstance(e, StateHeadEvaluated)] == [0, 3, 6, 9]
    assert [e.step for e in events if isinstance(e, CheckpointSaved)] == [2, 4, 6, 8, 9]
    same_run(whole, options(tmp_path))
    assert load_lookahead(whole.out).state is not None
