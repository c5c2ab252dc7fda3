"""The recorder's thread commits while a run streams; a killed process loses nothing that was committed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from app.history.recorder import HistoryRecorder
from app.history.store import HistoryStore
from pass_core.records.runs import RunStatus
from tests.core.records import strategies

WRITER = """
import sys, threading
from dataclasses import replace
from pathlib import Path
from app.history.recorder import HistoryRecorder
from tests.core.records import strategies

record = strategies.example_record()
recorder = HistoryRecorder(
    Path(sys.argv[1]), committed=lambda run, steps: print(f"committed {run} {steps}", flush=True)
)
done = replace(record, id="d" * 32)
recorder.begin(done.id, lambda: done)
recorder.steps(done.id, record.steps)
recorder.end(done.id)
recorder.begin(record.id, lambda: record)
pause = threading.Event()
for index in range(10**9):
    recorder.steps(record.id, (replace(record.steps[0], index=index),))
    pause.wait(0.01)
"""


def test_kill_9_keeps_every_committed_step(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    record = strategies.example_record()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert writer.stdout is not None
    committed = 0
    for seen, line in enumerate(line for line in writer.stdout if record.id in line):
        committed = int(line.split()[2])
        if seen == 2:
            break
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()

    store = HistoryStore(path)
    assert store.notice == ""
    kept = store.load(record.id)
    assert kept.status is RunStatus.INTERRUPTED
    assert len(kept.steps) >= committed > 2
    assert kept.steps == tuple(replace(record.steps[0], index=i) for i in range(len(kept.steps)))
    assert store.load("d" * 32) == replace(record, id="d" * 32)
    store.close()


def test_the_last_steps_are_committed_without_further_ones(tmp_path: Path) -> None:
    record = strategies.example_record()
    safe = threading.Semaphore(0)
    recorder = HistoryRecorder(
        tmp_path / "history.sqlite3", committed=lambda run, steps: safe.release(), commit_seconds=0.02
    )
    recorder.begin(record.id, lambda: record)
    recorder.steps(record.id, record.steps[:2])
    assert safe.acquire(timeout=30)
    answers: list[object] = []
    asked = threading.Semaphore(0)

    def reply(result: object, error: BaseException | None) -> None:
        answers.append(error or result)
        asked.release()

    recorder.ask(lambda store: store.load(record.id), reply)
    assert asked.acquire(timeout=30)
    assert answers == [replace(record, steps=record.steps[:2], status=RunStatus.RUNNING)]
    recorder.close()


def test_closing_commits_what_waits(tmp_path: Path) -> None:
    record = strategies.example_record()
    recorder = HistoryRecorder(tmp_path / "history.sqlite3", commit_seconds=3600)
    recorder.begin(record.id, lambda: record)
    recorder.steps(record.id, record.steps)
    recorder.close()
    store = HistoryStore(tmp_path / "history.sqlite3")
    assert store.load(record.id) == replace(record, status=RunStatus.INTERRUPTED)
    store.close()


def test_an_unusable_folder_is_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told: list[str] = []
    safe = threading.Event()
    recorder = HistoryRecorder(
        tmp_path / "file" / "history.sqlite3",
        notify=told.append,
        committed=lambda run, steps: safe.set(),
        commit_seconds=0.01,
    )
    record = strategies.example_record()
    recorder.begin(record.id, lambda: record)
    recorder.steps(record.id, record.steps)
    assert safe.wait(30)
    recorder.close()
    assert len(told) == 1
    assert "only while this window is open" in told[0]
