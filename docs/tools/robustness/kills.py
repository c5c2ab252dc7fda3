"""kill -9 of processes that write the history, or training checkpoints, without a pause.

    PYTHONPATH=. python docs/tools/robustness/kills.py --kills 20

Every kill is followed by a start that must find everything that was committed, no half-made file and no complaint.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import torch

from pass_core.files import write_atomically
from pass_core.training.checkpoint import RunState, load_checkpoint, save_checkpoint
from pass_core.training.config import TrainingConfig
from tests.app.history.killed import CHECKPOINT, kill_history, kill_while_it_writes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        steps = [kill_history(Path(folder) / "history.sqlite3", n, rng) for n in range(arguments.kills)]
    print(f"history: {arguments.kills} kills survived, {sum(steps)} committed steps, none lost")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        tensor = {"embeddings": torch.zeros(2_000_000)}
        state = RunState(
            config=TrainingConfig(),
            fingerprint="f",
            data="d",
            step=0,
            parts=tensor,
            optimizer={},
            best_step=0,
            best_acceptance="",
            worse=0,
            seconds=0.0,
            mean=tensor,
            walkers=torch.zeros(1, 1),
            spent=0.0,
        )
        save_checkpoint(path, state)
        for _ in range(arguments.kills):
            written = kill_while_it_writes(CHECKPOINT, str(path), seconds=rng.uniform(0, 0.3))
            assert load_checkpoint(path).step >= written
        write_atomically(Path(folder) / "other", b"")
        assert sorted(p.name for p in Path(folder).iterdir()) == ["checkpoint.pt", "other"]
        print(f"checkpoints: {arguments.kills} kills survived, {load_checkpoint(path).step} written, none lost")


if __name__ == "__main__":
    main()
