"""How many rows a call should carry, and of which kind: drafts to verify now, look-ahead rows for the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pass_core.runtime.cost import CostModel
from pass_core.runtime.native.shape import native_shape

# What a look-ahead row is worth now is spent again on verifying its drafts in the next step.
FUTURE_WEIGHT = 0.6
PATIENCE = 3  # the value rises and then falls with the number of drafts


@dataclass(frozen=True, slots=True)
class Plan:
    """The shape of one call.

    Attributes:
        drafts: how many of the best drafts are verified.
        chains: look-ahead rows below the root and below each of these drafts (length drafts + 1).
    """

    drafts: int
    chains: tuple[int, ...]

    @property
    def rows(self) -> int:
        return 1 + self.drafts + sum(self.chains)


def stop_probabilities(reaches: Sequence[float], parents: Sequence[int], drafts: int) -> np.ndarray:
    """[drafts + 1] probability that the walk ends at the root or at each of the first `drafts` drafts."""
    stops = [1.0, *reaches[:drafts]]
    for parent, reach in zip(parents[:drafts], reaches):
        stops[parent + 1] -= reach
    return np.maximum(stops, 0.0)


def plan(
    reaches: Sequence[float],
    parents: Sequence[int],
    gains: Sequence[float],
    rows_limit: int,
    cost: CostModel | None,
    rate: float,
) -> Plan:
    """Choose the shape with the best expected gain.

    Args:
        reaches: acceptance probability of each draft, best first (a parent always comes before its children).
        parents: index of each draft's parent, -1 for the root.
        gains: expected further tokens from look-ahead row 1, 2, .. of the chain where the walk stops.
        rows_limit: the most rows the call may carry.
        cost: measured seconds of a call by rows; None fills the limit whatever it costs.
        rate: tokens per second that the rows compete with.
    """
    seconds = cost.table(rows_limit) * rate if cost is not None else np.zeros(rows_limit + 1)
    counts = _counts(min(len(reaches), rows_limit - 1))
    found = native_shape(reaches, parents, gains, counts, rows_limit, seconds, FUTURE_WEIGHT, PATIENCE)
    if found is not None:
        return Plan(found[0], tuple(found[1]))
    return _search(reaches, parents, gains, counts, rows_limit, seconds)


def _search(
    reaches: Sequence[float],
    parents: Sequence[int],
    gains: Sequence[float],
    counts: Sequence[int],
    rows_limit: int,
    seconds: np.ndarray,
) -> Plan:
    """What the compiled library finds, where there is none."""
    best, best_value, falling = Plan(0, (0,)), -np.inf, 0
    gain = np.asarray(gains, dtype=np.float64)
    expected = np.concatenate(([1.0], np.asarray(reaches, dtype=np.float64))).cumsum()
    for drafts in counts:
        stops = stop_probabilities(reaches, parents, drafts)
        worth = np.multiply.outer(stops, gain).ravel()
        order = (-worth).argsort(kind="stable")[: rows_limit - 1 - drafts]
        value = expected[drafts] - seconds[1 + drafts : 2 + drafts + order.size]
        value[1:] += FUTURE_WEIGHT * worth[order].cumsum()
        at = int(value.argmax())
        falling = falling + 1 if value[at] <= best_value else 0
        if falling == PATIENCE:
            break
        if value[at] > best_value:
            best_value = float(value[at])
            taken = order[:at]
            taken = taken[worth[taken] > 0.0]
            lengths = (
                np.bincount(taken // max(1, gain.size), minlength=drafts + 1) if gain.size else np.zeros(drafts + 1)
            )
            best = Plan(drafts, tuple(int(n) for n in lengths))
    return best


def _counts(most: int) -> list[int]:
    """Draft counts worth trying: every small one, then coarser."""
    return [n for n in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64) if n < most] + [most]
