"""Whether other programs disturbed a measurement, and how that is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pass_core.evaluation.machine_load import MachineLoad, machine_load

QUIET = MachineLoad(0.02, 0.1, 12, 2, 0.3, 0.04)


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
