"""Whether another program computes is told from what this one does."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from pass_core.runtime.other_work import OtherWork, is_busy

SPIN = """
import time
end = time.process_time() + 3
print("started", flush=True)
while time.process_time() < end:
    pass
print("done", flush=True)
input()
"""


def test_a_program_that_computes_is_noticed() -> None:
    """Another process uses three seconds of processor time while it is watched; it is not waited for meanwhile."""
    spinning = subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert spinning.stdout is not None
        spinning.stdout.readline()
        work, started = OtherWork(), time.monotonic()
        spinning.stdout.readline()
        elapsed = time.monotonic() - started
        found = work.processors()
    finally:
        spinning.communicate(b"\n")
    assert found is not None
    assert found * elapsed >= 2.5
    assert OtherWork().processors() is None  # too little time went by to say


def test_other_work_is_all_work_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from pass_core.runtime import other_work as module

    clock = iter([100.0, 110.0])
    everything, own = iter([1000.0, 1015.0]), iter([50.0, 59.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(module, "_all_seconds", lambda: next(everything))
    monkeypatch.setattr(module, "_own_seconds", lambda: next(own))
    assert OtherWork().processors() == pytest.approx(0.6)


def test_a_tenth_of_the_processors_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert [is_busy(n) for n in (None, 0.0, 0.4, 0.41, 4.0)] == [False, False, False, True, True]
