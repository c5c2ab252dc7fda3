"""Whether other programs disturbed a measurement, and how that is said."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from pass_core.evaluation.machine_load import MachineLoad, OtherWork, machine_load

QUIET = MachineLoad(0.02, 0.1, 12, 2, 0.3, 0.04)
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
    from pass_core.evaluation import machine_load as module

    clock = iter([100.0, 110.0])
    everything, own = iter([1000.0, 1015.0]), iter([50.0, 59.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(module, "_all_seconds", lambda: next(everything))
    monkeypatch.setattr(module, "_own_seconds", lambda: next(own))
    assert OtherWork().processors() == pytest.approx(0.6)


def test_a_busy_machine_is_said() -> None:
    assert not QUIET.busy
    assert QUIET.sentence() == (
        "Other programs used 0.02 of 2 processors (median of 12 runs; at most 0.10), load average 0.3; "
        "repeats of one prompt differ by 4 %."
    )
    busy = replace(QUIET, typical=0.9)
    assert busy.busy
    assert busy.sentence().startswith("The machine was busy: other programs used 0.90 of 2 processors")
    assert busy.sentence().endswith("Measure again on a quiet machine.")


def test_folding() -> None:
    found = machine_load([0.0, 0.3, 0.1], [[10.0, 11.0], [5.0], [4.0, 6.0]])
    assert found is not None
    assert (found.typical, found.most, found.runs) == (0.1, 0.3, 3)
    assert found.repeat_spread == pytest.approx(0.3)
    assert machine_load([]) is None
