"""When each token of a recorded run appeared, and the run as it was after each of them. No Qt here."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pass_core.decoding.events import StepEvent, TokenEvent


class Granularity(StrEnum):
    """What one move of the replay is."""

    TOKEN = "token"
    CALL = "call"


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run by its tokens.

    Attributes:
        steps: the recorded steps.
        ends: tokens shown after each step.
        times: seconds from the start (prompt processing included) at which each token appeared; the tokens of a step
            appear together, at its end.
    """

    steps: tuple[StepEvent, ...]
    ends: tuple[int, ...]
    times: tuple[float, ...]

    @classmethod
    def of(cls, steps: Sequence[StepEvent]) -> Timeline:
        ends: list[int] = []
        times: list[float] = []
        clock = 0.0
        for step in steps:
            clock += step.seconds + (step.prefill.seconds if step.prefill is not None else 0.0)
            times.extend([clock] * len(step.tokens))
            ends.append(len(times))
        return cls(tuple(steps), tuple(ends), tuple(times))

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.times)

    @property
    def duration(self) -> float:
        """Seconds until the last token."""
        return self.times[-1] if self.times else 0.0

    def step_of(self, token: int) -> int:
        """Index into `steps` of the step that emitted a token."""
        return bisect_right(self.ends, token)

    def token(self, token: int) -> TokenEvent:
        """A token by its place."""
        step = self.step_of(token)
        first = self.ends[step - 1] if step else 0
        return self.steps[step].tokens[token - first]

    def shown_at(self, seconds: float) -> int:
        """Tokens that have appeared by then."""
        return bisect_right(self.times, seconds)

    def moved(self, shown: int, by: int, granularity: Granularity) -> int:
        """The tokens shown after one move forward (1) or back (-1)."""
        if granularity is Granularity.TOKEN:
            return min(self.tokens, max(0, shown + by))
        bounds = sorted({0, *self.ends})
        if by > 0:
            return bounds[min(len(bounds) - 1, bisect_right(bounds, shown))]
        return bounds[max(0, bisect_left(bounds, shown) - 1)]

    def part(self, first: int, last: int) -> list[StepEvent]:
        """Steps with only the tokens first..last-1 in them; a step's stop overlap stays with its last token."""
        out: list[StepEvent] = []
        if first >= last:
            return out
        for number in range(self.step_of(first), len(self.steps)):
            step = self.steps[number]
            begin = self.ends[number] - len(step.tokens)
            if begin >= last:
                break
            tokens = step.tokens[max(0, first - begin) : last - begin]
            if len(tokens) == len(step.tokens):
                out.append(step)
            elif tokens:
                overlap = step.stop_overlap if last >= self.ends[number] else 0
                out.append(replace(step, tokens=tokens, stop_overlap=overlap))
        return out

    def finished_steps(self, shown: int) -> int:
        """How many steps have at least one token among the shown ones (their forward passes have been made)."""
        return 0 if shown <= 0 else self.step_of(shown - 1) + 1
