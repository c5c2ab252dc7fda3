"""Two processes under accelerate compute the gradient, and the run, of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pass_core.engine import Engine
from pass_core.lookahead.format import load_lookahead
from pass_core.training.trainer import Trainer, train
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config

REPOSITORY = Path(__file__).parents[3]
WORKER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pass_core.engine import Engine
from pass_core.training.trainer import Trainer, train
from tests import tiny
from tests.core.training.runs import options, own_corpus, small_config

out = Path(sys.argv[1])
model = tiny.tiny_llama()
trainer = Trainer(Engine(model), own_corpus(model), small_config(), options(out))
shown = trainer.gradient_step()
assert trainer.processes.world == 2
gradient = {n: p.grad for n, p in trainer.parts.named_parameters()}
torch.save({"gradient": gradient, "shown": shown}, out / f"rank{trainer.processes.rank}.pt")
train(Engine(model), own_corpus(model), small_config(), options(out))
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes of `accelerate launch` wrote."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(script), str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_gradient_is_that_of_one_process(two: Path, tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    alone = Trainer(Engine(model), own_corpus(model), small_config(), options(tmp_path))
    shown = alone.gradient_step()
    results = [torch.load(two / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    for name, p in alone.parts.named_parameters():
        if p.grad is None:
            continue
        for result in results:
            torch.testing.assert_close(result["gradient"][name], p.grad, rtol=1e-4, atol=1e-6)
    for result in results:
        assert result["shown"] == pytest.approx(shown, rel=1e-4)


def test_whole_run_gives_the_file_of_one_process(two: Path, tmp_path: Path) -> None:
    model = tiny.tiny_llama()
    train(Engine(model), own_corpus(model), small_config(), options(tmp_path))
    one, other = (load_lookahead(f / "made.safetensors").tensors() for f in (tmp_path, two))
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-5)
