"""Kill and resume, cancel, pause, early stop, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pass_core.engine import Engine
from pass_core.lookahead.format import load_lookahead
from pass_core.progress import CancelToken
from pass_core.training.checkpoint import load_checkpoint, save_checkpoint
from pass_core.training.config import TrainingConfig, TrainingError, TrainingKind
from pass_core.training.control import PauseSwitch
from pass_core.training.events import CheckpointSaved, Ending, Evaluated, Finished, Started, StepDone, TrainingEvent
from pass_core.training.trainer import Trainer, train
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config

REPOSITORY = Path(__file__).parents[3]
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pass_core.engine import Engine
from pass_core.training.events import StepDone
from pass_core.training.trainer import train
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config

def die(event):
    if isinstance(event, StepDone) and event.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

model = tiny.tiny_llama()
train(Engine(model), own_corpus(model), small_config(), options(Path(sys.argv[1])), on_event=die)
"""


def losses(events: list[TrainingEvent]) -> dict[int, float]:
    return {e.step: e.loss for e in events if isinstance(e, StepDone)}


def test_killed_and_resumed_is_the_unbroken_run(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    corpus = own_corpus(model)
    whole: list[TrainingEvent] = []
    train(Engine(model), corpus, small_config(), options(tmp_path / "whole"), on_event=whole.append)
    broken = tmp_path / "broken"
    broken.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    died = subprocess.run([sys.executable, "-c", KILLED, str(broken), "5"], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    resumed: list[TrainingEvent] = []
    train(Engine(model), corpus, small_config(), options(broken, resume=True), on_event=resumed.append)
    assert isinstance(resumed[0], Started)
    assert resumed[0].step == 4
    expected = {s: loss for s, loss in losses(whole).items() if s > 4}
    assert losses(resumed) == pytest.approx(expected, rel=1e-4)
    one, other = (load_lookahead(tmp_path / f / "made.safetensors") for f in ("whole", "broken"))
    for name, tensor in one.tensors().items():
        torch.testing.assert_close(tensor, other.tensors()[name], rtol=1e-4, atol=1e-5)
    unbroken, again = (load_checkpoint(tmp_path / f / "made.checkpoint") for f in ("whole", "broken"))
    assert torch.equal(unbroken.walkers, again.walkers)
    for name, mean in unbroken.mean.items():
        torch.testing.assert_close(mean, again.mean[name], rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_an_older_version_is_refused_with_the_way_on(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    path = tmp_path / "x.checkpoint"
    save_checkpoint(path, Trainer(Engine(model), own_corpus(model), small_config(), options(tmp_path)).state())
    raw = torch.load(path, weights_only=True)
    torch.save({**raw, "version": 1}, path)
    with pytest.raises(TrainingError, match="--init"):
        load_checkpoint(path)


def test_same_seed_same_file(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    for name in ("a", "b"):
        train(Engine(model), own_corpus(model), small_config(), options(tmp_path / name))
    one, other = (load_lookahead(tmp_path / n / "made.safetensors").tensors() for n in ("a", "b"))
    assert all(torch.equal(one[n], other[n]) for n in one)


def test_cancel_keeps_a_checkpoint_that_resumes(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    token = CancelToken()

    def stop(event: TrainingEvent) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            token.cancel()

    finished = train(Engine(model), own_corpus(model), small_config(), options(tmp_path), on_event=stop, cancel=token)
    assert (finished.ending, finished.step) == (Ending.CANCELLED, 3)
    again = train(Engine(model), own_corpus(model), small_config(), options(tmp_path, resume=True))
    assert (again.ending, again.step) == (Ending.COMPLETED, 8)


def test_pause_holds_the_run_until_it_goes_on(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    pause, reached = PauseSwitch(), threading.Event()
    steps: list[int] = []

    def watch(event: TrainingEvent) -> None:
        if isinstance(event, StepDone):
            steps.append(event.step)
            if event.step == 2:
                pause.pause()
                reached.set()

    corpus = own_corpus(model)
    work = threading.Thread(
        target=train,
        args=(Engine(model), corpus, small_config(), options(tmp_path)),
        kwargs={"on_event": watch, "pause": pause},
    )
    work.start()
    assert reached.wait(60)
    work.join(0.5)
    assert work.is_alive()
    assert steps == [1, 2]
    pause.go_on()
    work.join(60)
    assert steps == list(range(1, 9))


def test_early_stop_keeps_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.tiny_llama()
    trainer = Trainer(Engine(model), own_corpus(model), small_config(steps=40, patience=2), options(tmp_path))
    real = trainer.evaluate()
    results = iter([0.1, 0.3, 0.2, 0.2, 0.9])
    monkeypatch.setattr(trainer, "evaluate", lambda: replace(real, accepted_per_iteration=next(results)))
    finished = trainer.run(None, CancelToken(), PauseSwitch())
    assert (finished.ending, finished.step, finished.best_step) == (Ending.EARLY_STOP, 12, 4)
    assert load_lookahead(tmp_path / "made.safetensors").training.accepted_per_iteration == 0.3  # type: ignore[union-attr]


def test_events_come_in_order(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    events: list[TrainingEvent] = []
    train(Engine(model), own_corpus(model), small_config(), options(tmp_path), on_event=events.append)
    assert isinstance(events[0], Started)
    assert events[0].estimate.bytes_kept > 0
    assert isinstance(events[1], Evaluated)
    assert events[1].step == 0
    assert [e.step for e in events if isinstance(e, CheckpointSaved)] == [2, 4, 6, 8]
    assert isinstance(events[-1], Finished)
    steps = [e for e in events if isinstance(e, StepDone)]
    assert steps[-1].seconds_left == 0.0
    assert steps[-1].kept_bytes <= events[0].estimate.bytes_kept


def test_memory_bound_changes_nothing_but_memory(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    results: list[dict[int, float]] = []
    for name, memory in (("much", 10**9), ("none", 0)):
        events: list[TrainingEvent] = []
        train(
            Engine(model),
            own_corpus(model),
            small_config(),
            options(tmp_path / name, memory=memory),
            on_event=events.append,
        )
        results.append(losses(events))
        kept = max(e.kept_bytes for e in events if isinstance(e, StepDone))
        assert (kept > 0) == (memory > 0)
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_resume_refuses_other_settings_data_or_model(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    train(Engine(model), own_corpus(model), small_config(), options(tmp_path))
    again = options(tmp_path, resume=True)
    with pytest.raises(TrainingError, match="rank"):
        Trainer(Engine(model), own_corpus(model), small_config(rank=3), again)
    with pytest.raises(TrainingError, match="other data"):
        Trainer(Engine(model), own_corpus(model, 9), small_config(), again)
    other = tiny.tiny_llama(seed=1)
    with pytest.raises(TrainingError, match="another model"):
        Trainer(Engine(other), own_corpus(other), small_config(), again)


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    trainer = Trainer(Engine(model), own_corpus(model), small_config(), options(tmp_path))
    path = tmp_path / "x.checkpoint"
    save_checkpoint(path, trainer.state())
    assert load_checkpoint(path).config == small_config()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TrainingError, match="cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "wrong",
    [{"lookahead": 0}, {"rank": 0}, {"steps": 0}, {"rows": 2}, {"survival": 0.0}, {"temperature": 0.0}, {"length": 4}],
)
def test_config_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError):
        small_config(**wrong)


def test_config_survives_json() -> None:
    config = small_config(targets=("q_proj", "v_proj"))
    assert TrainingConfig.from_json(config.to_json()) == config


def test_targets_choose_linears_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    config = small_config(kind=TrainingKind.ADAPTER, targets=("q_proj",))
    parts = Trainer(Engine(model), own_corpus(model), config, options(tmp_path)).parts
    assert parts.adapter_names == ("layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj")
    with pytest.raises(TrainingError, match="c_attn"):
        Trainer(Engine(model), own_corpus(model), replace(config, targets=("c_attn",)), options(tmp_path))
