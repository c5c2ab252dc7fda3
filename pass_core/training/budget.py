"""The time a person gives to a training: everything counts, from the first text written to the last evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pass_core.progress import Cancelled, CancelToken
from pass_core.training.config import TrainingConfig

# Shares of the whole time that preparations may take, so that enough is left to train.
WRITING_SHARE = 0.35
BIGRAMS_SHARE = 0.2
# Share of the time left before the first evaluation for one, and of all of them relative to the steps between.
EVALUATION_SHARE = 0.1
# Share of the whole time that is left for the state head, which is trained last.
STATE_HEAD_SHARE = 0.2
EVALUATIONS_SHARE = 0.15
FEWEST_CONTEXTS = 24


class Budget:
    """Minutes that began when this was made.

    Args:
        minutes: 0 for no limit.
        clock: seconds, monotonic.
    """

    def __init__(self, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.minutes, self.clock = minutes, clock
        self._started = clock()

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.minutes > 0

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self._started

    @property
    def left(self) -> float:
        """Seconds until the end; infinity without a limit, and negative when it is over."""
        return self.minutes * 60 - self.spent if self.limited else math.inf

    def share(self, part: float, cancel: CancelToken | None = None) -> CancelToken:
        """A token that cancels when `cancel` does, or when `part` of the whole budget has passed from now on."""
        return _Until(self.clock, self.clock() + part * self.minutes * 60 if self.limited else math.inf, cancel)

    def until_end(self, cancel: CancelToken) -> CancelToken:
        """A token that cancels when `cancel` does, or when the whole budget is spent."""
        return _Until(self.clock, self.clock() + self.left, cancel)

    def first(self, part: float) -> Budget:
        """The first `part` of it: it began when this one did, and ends earlier."""
        out = Budget(part * self.minutes, self.clock)
        out._started = self._started
        return out

    def after(self, seconds: float) -> Budget:
        """The same, of which `seconds` were spent before: by the run that is continued."""
        out = Budget(self.minutes, self.clock)
        out._started = self._started - seconds
        return out


class _Until(CancelToken):
    """A token that cancels at a time, too."""

    def __init__(self, clock: Callable[[], float], end: float, other: CancelToken | None) -> None:
        super().__init__()
        self._clock, self._end, self._other = clock, end, other

    @property
    def cancelled(self) -> bool:
        return super().cancelled or (self._other is not None and self._other.cancelled) or self._clock() >= self._end

    def raise_if_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled("cancelled, or the time for this is over")


@dataclass
class StepPlan:
    """How many steps fit into a budget, planned anew after each step from what steps and evaluations really take.

    Attributes:
        step_seconds: of a step, a mean that follows the machine.
        evaluation_seconds, checkpoint_seconds: of the last evaluation and checkpoint.
    """

    step_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    checkpoint_seconds: float = 0.0

    def observe_step(self, seconds: float) -> None:
        """Take in a step's time; the mean forgets within some ten steps."""
        self.step_seconds = seconds if not self.step_seconds else 0.9 * self.step_seconds + 0.1 * seconds

    def steps(self, done: int, left: float, every: int, last_seconds: float = 0.0) -> int:
        """The number of the last step that ends within `left` seconds, evaluations included.

        Args:
            done: steps done.
            every: steps between evaluations; 0 for one at the end.
            last_seconds: of what follows the last evaluation.

        Returns:
            at least `done`.
        """
        usable = left - self.evaluation_seconds - last_seconds
        if usable <= 0 or not self.step_seconds:
            return done
        each = self.step_seconds + (self.evaluation_seconds / every if every else 0.0)
        return done + int(usable / each)


def fewer_places(config: TrainingConfig, evaluation_seconds: float, left: float) -> TrainingConfig:
    """Fewer held-out places where measuring at all of them, as expected, would take too much of the seconds left."""
    share = EVALUATION_SHARE * max(0.0, left) / max(evaluation_seconds, 1e-9)
    contexts = max(FEWEST_CONTEXTS, round(share * config.evaluate_contexts))
    return replace(config, evaluate_contexts=min(config.evaluate_contexts, contexts))


def rarer_evaluations(config: TrainingConfig, ratio: float) -> TrainingConfig:
    """Rarer evaluations where one takes `ratio` steps and those asked for would take too much beside the steps."""
    least = math.ceil(ratio / EVALUATIONS_SHARE)
    return replace(config, evaluate_every=max(config.evaluate_every, least)) if config.evaluate_every else config
