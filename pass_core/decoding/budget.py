"""How many rows a call should carry, and of which kind: drafts to verify now, look-ahead rows for the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pass_core.runtime.cost import CostModel
from pass_core.runtime.native.shape import native_shape

# What look-ahead rows promise is partly spent again on verifying their drafts in the next step.
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
    hits: Sequence[float],
    rows_limit: int,
    cost: CostModel | None,
    rate: float,
) -> Plan:
    """Choose the shape with the best expected gain.

    Args:
        reaches: acceptance probability of each draft, best first (a parent always comes before its children).
        parents: index of each draft's parent, -1 for the root.
        hits: probability that a draft made from look-ahead row LA_1, LA_2, .. is accepted once the walk gets to it; as
            many as a chain can have.
        rows_limit: the most rows the call may carry.
        cost: measured seconds of a call by rows; None fills the limit whatever it costs.
        rate: tokens per second that the rows compete with.
    """
    seconds = cost.table(rows_limit) * rate if cost is not None else np.zeros(rows_limit + 1)
    counts = _counts(min(len(reaches), rows_limit - 1))
    found = native_shape(reaches, parents, hits, counts, rows_limit, seconds, FUTURE_WEIGHT, PATIENCE)
    if found is not None:
        return Plan(found[0], tuple(found[1]))
    return _search(reaches, parents, hits, counts, rows_limit, seconds)


def _search(
    reaches: Sequence[float],
    parents: Sequence[int],
    hits: Sequence[float],
    counts: Sequence[int],
    rows_limit: int,
    seconds: np.ndarray,
) -> Plan:
    """What the compiled library finds, where there is none."""
    best, best_value, falling = Plan(0, (0,)), -np.inf, 0
    for drafts in counts:
        chains = _Chains(stop_probabilities(reaches, parents, drafts).tolist(), parents[:drafts], hits)
        present = 1.0
        for reach in reaches[:drafts]:
            present += reach
        value, shape = present - float(seconds[1 + drafts]), tuple(chains.lengths)
        for rows in range(2 + drafts, rows_limit + 1):
            if not chains.extend():
                break
            with_row = present - float(seconds[rows]) + FUTURE_WEIGHT * chains.promised
            if with_row > value:
                value, shape = with_row, tuple(chains.lengths)
        falling = falling + 1 if value <= best_value else 0
        if falling == PATIENCE:
            break
        if value > best_value:
            best, best_value = Plan(drafts, shape), value
    return best


class _Chains:
    """Look-ahead chains below the root and its drafts, each made longer where that promises most.

    Where the walk stops, drafts of depth d come from that node's LA_d, or where its chain is too short from LA_{d+1} of
    its parent, LA_{d+2} of the one above, and so on: a chain serves all nodes below its own.
    """

    def __init__(self, stops: list[float], parents: Sequence[int], hits: Sequence[float]) -> None:
        self.stops, self.hits = stops, hits
        self.parents = [-1, *(p + 1 for p in parents)]
        self.lengths = [0] * len(stops)
        self.values = [0.0] * len(stops)
        self.promised = 0.0

    def extend(self) -> bool:
        """Add one row to the chain where it promises most; False when none promises anything."""
        best, best_gain = -1, 0.0
        for node in range(len(self.stops)):
            if self.lengths[node] < len(self.hits) and (gain := self._gain(node)) > best_gain:
                best, best_gain = node, gain
        if best < 0:
            return False
        self.lengths[best] += 1
        for node in self._below(best):
            self.values[node] = self._value(node)
        self.promised += best_gain
        return True

    def _gain(self, node: int) -> float:
        self.lengths[node] += 1
        gain = 0.0
        for below in self._below(node):
            gain += self.stops[below] * (self._value(below) - self.values[below])
        self.lengths[node] -= 1
        return gain

    def _below(self, node: int) -> list[int]:
        found = {node}
        for other in range(node + 1, len(self.stops)):
            if self.parents[other] in found:
                found.add(other)
        return sorted(found)

    def _value(self, node: int) -> float:
        """Drafts that the next step is expected to get accepted where the walk stops at `node`."""
        total, product, depth = 0.0, 1.0, 1
        while True:
            above, step = node, depth
            while above >= 0 and self.lengths[above] < step:
                above, step = self.parents[above], step + 1
            if above < 0:
                return total
            product *= self.hits[step - 1]
            total += product
            depth += 1


def _counts(most: int) -> list[int]:
    """Draft counts worth trying: every small one, then coarser."""
    return [n for n in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64) if n < most] + [most]
