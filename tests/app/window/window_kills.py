"""kill -9 of the whole window while it works; the next start must be clean, with everything that was committed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests import tiny
from tests.app.window.killed_window import STATES
from tests.core.models.gguf_files import gguf_model, write_gguf

REPOSITORY = Path(__file__).parents[3]
GONE_SECONDS = 10.0  # for children to notice that their window is gone


@dataclass
class Kills:
    """Windows in one home folder, killed one after another.

    Attributes:
        kills: how many of each state.
        committed: steps of runs that the history file held, by run, at the last kill.
        deleted: runs that somebody asked to delete.
        trained: steps of trainings that were in a checkpoint at the kill.
    """

    home: Path
    rng: random.Random
    kills: dict[str, int] = field(default_factory=dict[str, int])
    committed: dict[str, int] = field(default_factory=dict[str, int])
    deleted: set[str] = field(default_factory=set[str])
    trained: int = 0
    _after: str = ""
    _step: int = 0
    _interrupted: str = ""

    def __post_init__(self) -> None:
        self.model = self.home / "tiny-llama"
        tiny.save(tiny.tiny_llama(tokenizer=True), self.model)
        (self.home / "text").mkdir()
        for n in range(12):
            words = " ".join(f"{(n * 37 + i * i) % 997} birds" for i in range(40))
            (self.home / "text" / f"{n}.txt").write_text(f"Page {n}. {words}", encoding="utf-8")
        self.environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "QT_QPA_PLATFORM": "offscreen",
            "OMP_NUM_THREADS": "1",
            "PASS_PLAYGROUND_CACHE": str(self.home / "cache"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "LOGNAME": f"kills-{uuid.uuid4().hex[:8]}",  # another user's window is not the first one of this
        }

    def kill(self, state: str) -> None:
        """One window: check its start, let it do `state`, kill it at a random moment.

        Raises:
            AssertionError: the start was not clean, or something that was committed is gone.
        """
        number = sum(self.kills.values())
        gguf = self.home / f"fresh-{number}.gguf"
        if state == "convert":
            write_gguf(gguf, gguf_model(seed=number))
        with self._window(state, gguf) as (process, lines):
            self._check_start(next(lines))
            last = self._under_way(process, lines, state)
            self.committed = self._held()
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            last = [*last, *(m for m in lines if "doing" in m)]
        _, alive = psutil.wait_procs(children, GONE_SECONDS)
        assert not alive, f"children outlived their window: {alive}"
        self._after, self._interrupted = state, str(gguf)
        self._step = max((m.get("step", 0) for m in last), default=0)
        self.trained += self._step
        self.deleted |= {m["deleting"] for m in last if "deleting" in m}
        self.committed |= {m["added"]: m["steps"] for m in last if "added" in m}
        self.kills[state] = self.kills.get(state, 0) + 1

    def last_start(self) -> None:
        """The start after the last kill.

        Raises:
            AssertionError: as `kill`; or the window did not end well.
        """
        with self._window("", self.home / "none") as (process, lines):
            self._check_start(next(lines))
            assert process.wait(60) == 0

    def summary(self) -> str:
        """What was survived, as one line."""
        states = ", ".join(f"{count} while it did “{state}”" for state, count in self.kills.items())
        return (
            f"{sum(self.kills.values())} kills of the window survived ({states}): {len(self.committed)} runs with "
            f"{sum(self.committed.values())} committed steps, {self.trained} training steps "
            "in checkpoints, none lost; every start clean"
        )

    @contextlib.contextmanager
    def _window(self, state: str, gguf: Path) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
        given = {
            "state": state, "after": self._after, "model": str(self.model), "gguf": str(gguf),
            "interrupted": self._interrupted, "home": str(self.home), "number": sum(self.kills.values()),
        }  # fmt: skip
        errors = self.home / "errors.txt"
        with errors.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.app.window.killed_window", json.dumps(given)],
                cwd=REPOSITORY, env=self.environment, stdout=subprocess.PIPE, stderr=file, text=True,
            )  # fmt: skip
        assert process.stdout is not None
        with process:
            try:
                yield process, self._messages(process, errors)
            finally:
                process.kill()

    @staticmethod
    def _messages(process: subprocess.Popen[str], errors: Path) -> Iterator[dict[str, Any]]:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError):  # the last line may be cut by the kill
                message = json.loads(line)
                assert "failed" not in message, message
                yield message
        assert process.wait() in (0, -signal.SIGKILL), errors.read_text()

    def _check_start(self, found: dict[str, Any]) -> None:
        assert found["complaints"] == []
        assert found["loose"] == [], "half-made folders"
        runs: dict[str, int] = found["runs"]
        kept = {run: steps for run, steps in self.committed.items() if run not in self.deleted}
        lost = {run: (steps, runs.get(run)) for run, steps in kept.items() if runs.get(run, -1) < steps}
        assert not lost, f"committed steps are gone: {lost}"
        if self._after == "train":
            assert found["resumed"] >= self._step

    def _under_way(
        self, process: subprocess.Popen[str], lines: Iterator[dict[str, Any]], state: str
    ) -> list[dict[str, Any]]:
        """Wait for its first sign of life and some random messages or moments more; what it said."""
        said = [next(lines)]
        assert said[0]["doing"] == state
        more = self.rng.randrange(12) if state in ("generate", "compare", "train", "history") else self.rng.randrange(4)
        for _, message in zip(range(more), lines):  # in this order: no message is taken and dropped
            said.append(message)
        if state in ("generate", "compare"):
            before = sum(self.committed.values())
            while sum(self._held().values()) <= before:  # it commits twice a second
                said.append(next(lines))
        time.sleep(self.rng.uniform(0, 0.3))  # any moment will do: it works all the time
        return said

    def _held(self) -> dict[str, int]:
        """Steps of each run that the history file holds now: committed, whatever happens next."""
        path = self.home / "data" / "pass-playground" / "history.sqlite3"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            steps = dict.fromkeys((run for (run,) in db.execute("SELECT id FROM runs")), 0)
            for run, data in db.execute("SELECT run, data FROM batches"):
                steps[run] += len(zlib.decompress(data).splitlines())
            return steps


def states(count: int, rng: random.Random) -> list[str]:
    """So many states, every one as often as the others, in random order."""
    several = [STATES[n % len(STATES)] for n in range(count)]
    rng.shuffle(several)
    return several
