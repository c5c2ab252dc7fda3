"""What a batch runs: every setting of a grid with every seed, on one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from pass_core.prompt import Prompt
from pass_core.settings import DecodingSettings, Strategy

MOST_RUNS = 10_000


class BatchError(ValueError):
    """A batch cannot be run as planned; the message says what to change."""


@dataclass(frozen=True)
class BatchPlan:
    """What is run.

    Attributes:
        prompt: of all runs.
        cells: the settings; each is run with every seed.
        seeds: the same for every cell, so that runs of two cells can be compared in pairs.
        new_tokens: length of a run at most.
        ignore_eos: continue past the model's end of text, so that all runs have the same length.
    """

    prompt: Prompt
    cells: tuple[DecodingSettings, ...]
    seeds: tuple[int, ...]
    new_tokens: int
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        if not self.cells or not self.seeds:
            raise BatchError("A batch needs at least one setting and one seed.")
        if len(set(self.cells)) < len(self.cells) or len(set(self.seeds)) < len(self.seeds):
            raise BatchError("The same setting, or the same seed, is listed twice.")
        if self.new_tokens < 2:
            raise BatchError("A batch needs at least 2 new tokens, or nothing can be timed.")
        if self.runs > MOST_RUNS:
            raise BatchError(f"These are {self.runs:,} runs. A batch has at most {MOST_RUNS:,}: choose fewer.")

    @property
    def runs(self) -> int:
        """How many texts are written."""
        return len(self.cells) * len(self.seeds)


def grid(
    base: DecodingSettings,
    strategies: Sequence[Strategy],
    ks: Sequence[int],
    temperatures: Sequence[float],
    top_ks: Sequence[int],
) -> tuple[DecodingSettings, ...]:
    """Every combination once; plain decoding has no k. Whatever has no list is as in `base`.

    Raises:
        SettingsError: a value is out of range.
    """
    cells: dict[DecodingSettings, None] = {}
    for temperature, top_k, strategy in product(temperatures, top_ks, strategies):
        sampling = replace(base.sampling, temperature=temperature, top_k=top_k)
        for k in ks if strategy.uses_lookahead else (0,):
            cells[replace(base, strategy=strategy, k=k, sampling=sampling)] = None
    return tuple(cells)
