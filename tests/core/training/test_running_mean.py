"""The running mean of the parts, and that it is what gets measured and exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pass_core.engine import Engine
from pass_core.lookahead.format import load_lookahead
from pass_core.progress import CancelToken
from pass_core.training.control import PauseSwitch
from pass_core.training.running_mean import RunningMean
from pass_core.training.trainer import Trainer, train
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config


def test_mean_is_the_recursion_with_its_warm_up() -> None:
    module = nn.Linear(2, 1, bias=False)
    mean = RunningMean(module, 0.9)
    expected = module.weight.detach().clone()
    for step in range(200):
        with torch.no_grad():
            module.weight.copy_(torch.tensor([[float(step), 1.0]]))
        mean.follow(step)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * module.weight.detach()
    torch.testing.assert_close(mean.values["weight"], expected)
    own = module.weight.detach().clone()
    with mean.in_place():
        torch.testing.assert_close(module.weight.detach(), expected)
    assert torch.equal(module.weight, own)


def test_parts_come_back_when_measuring_fails() -> None:
    module = nn.Linear(2, 1)
    mean = RunningMean(module, 0.5)
    with torch.no_grad():
        module.weight.add_(1)
    own = module.weight.detach().clone()
    with pytest.raises(RuntimeError, match="stop"), mean.in_place():
        raise RuntimeError("stop")
    assert torch.equal(module.weight, own)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_mean_is_exported_and_steps_go_on_from_the_parts(ema: float, tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    config = small_config(ema=ema, evaluate_every=0)
    trainer = Trainer(Engine(model), own_corpus(model), config, options(tmp_path))
    trainer.run(None, CancelToken(), PauseSwitch())
    written = load_lookahead(tmp_path / "made.safetensors").embeddings
    parts = trainer.parts.embeddings.detach()
    expected = trainer.mean.values["embeddings"] if ema else parts
    assert torch.equal(written, expected.bfloat16())
    assert torch.equal(written, parts.bfloat16()) == (ema == 0.0)


def test_without_a_mean_nothing_is_kept(tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    train(Engine(model), own_corpus(model), small_config(ema=0.0, steps=2), options(tmp_path))
    assert Trainer(Engine(model), own_corpus(model), small_config(ema=0.0), options(tmp_path)).mean.state_dict() == {}
