"""How busy the machine was with other work while something was timed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from pass_core.runtime.other_work import BUSY_SHARE


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """What other programs did during a measurement.

    Attributes:
        typical, most: processors that others kept busy: median and maximum over runs.
        runs: runs behind the two.
        processors: of this machine.
        load_average: of the last minute, when this was made; None on Windows.
        repeat_spread: median over prompts of (slowest - fastest) / fastest among repeats of one run; None without
            repeats.
    """

    typical: float
    most: float
    runs: int
    processors: int
    load_average: float | None
    repeat_spread: float | None

    @property
    def busy(self) -> bool:
        """Whether other work took enough to spoil times."""
        return self.typical > BUSY_SHARE * self.processors

    def sentence(self) -> str:
        """One or two sentences for reports."""
        text = (
            f"Other programs used {self.typical:.2f} of {self.processors} processors (median of {self.runs} runs; at "
            f"most {self.most:.2f})"
        )
        if self.load_average is not None:
            text += f", load average {self.load_average:.1f}"
        if self.repeat_spread is not None:
            text += f"; repeats of one prompt differ by {100 * self.repeat_spread:.0f} %"
        if self.busy:
            return f"The machine was busy: {text[0].lower()}{text[1:]}. Measure again on a quiet machine."
        return f"{text}."


def machine_load(others: Sequence[float], repeats: Iterable[Sequence[float]] = ()) -> MachineLoad | None:
    """Fold the runs; None where nothing was measured.

    Args:
        others: processors that others kept busy, for each run.
        repeats: times of the repeats of each prompt.
    """
    if not others:
        return None
    spreads = [(max(group) - min(group)) / min(group) for group in repeats if len(group) > 1 and min(group) > 0]
    return MachineLoad(
        median(others),
        max(others),
        len(others),
        os.cpu_count() or 1,
        os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        median(spreads) if spreads else None,
    )
