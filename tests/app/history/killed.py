"""kill -9 of a process that writes history, or training checkpoints, without a pause; shared with the long command."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from app.history.store import HistoryStore
from pass_core.records.runs import RunStatus

REPOSITORY = Path(__file__).parents[3]

HISTORY = """
import sys, threading
from dataclasses import replace
from pathlib import Path
from app.history.recorder import HistoryRecorder
from tests.core.records.strategies import example_record

record = replace(example_record(), id=sys.argv[2], steps=())
step = example_record().steps[1]
recorder = HistoryRecorder(
    Path(sys.argv[1]), committed=lambda run, steps: print(steps, flush=True), commit_seconds=0.0
)
recorder.begin(record.id, lambda: record)
number = 0
while True:
    recorder.steps(record.id, tuple(replace(step, index=number + i) for i in range(5)))
    number += 5
    asked = threading.Event()
    recorder.ask(lambda store: None, lambda result, error: asked.set())
    asked.wait()
"""

CHECKPOINT = """
import sys
from pathlib import Path
import torch
from pass_core.training.checkpoint import load_checkpoint, save_checkpoint
from dataclasses import replace

path = Path(sys.argv[1])
state = load_checkpoint(path)
while True:
    state = replace(state, step=state.step + 1)
    save_checkpoint(path, state)
    print(state.step, flush=True)
"""


def kill_while_it_writes(code: str, *arguments: str, seconds: float) -> int:
    """Start, wait for the first thing done and `seconds` more, kill; the last number that the process printed."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)  # any moment will do: the process writes all the time
        process.kill()
        lines = [first, *process.stdout.read().splitlines()]
    return int([line for line in lines if line.strip().isdigit()][-1])


def kill_history(path: Path, number: int, rng: random.Random) -> int:
    """One kill; checks the next start. Returns how many steps were committed.

    Raises:
        AssertionError: the next start is not clean, or a committed step is gone.
    """
    run = f"{number:032x}"
    committed = kill_while_it_writes(HISTORY, str(path), run, seconds=rng.uniform(0, 0.3))
    store = HistoryStore(path)
    try:
        assert store.notice == ""
        record = store.load(run)
        assert record.status is RunStatus.INTERRUPTED
        assert len(record.steps) >= committed
        assert [s.index for s in record.steps] == list(range(len(record.steps)))
        assert len(store.entries()) == number + 1
    finally:
        store.close()
    return committed
