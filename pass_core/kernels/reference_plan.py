"""The shape of a pass, searched on the host: how many drafts to verify, and where look-ahead rows promise most.

The search stays a loop in Python. Each row goes where the rows before it left most, so nothing of it runs side by side;
it is over a few dozen numbers that the host has, and the host lays out the next pass's rows by its answer. As tensors
it would be a launch or more for each row.
"""

from __future__ import annotations

from collections.abc import Sequence

from pass_core.kernels.interface import ROOT, CallPlan, PlanRequest


def search(request: PlanRequest) -> CallPlan:
    """See `pass_core.kernels.interface.Kernels.plan_call`."""
    best, best_value, falling = CallPlan(0, (0,)), float("-inf"), 0
    seconds = request.seconds.tolist()
    for drafts in request.counts:
        chains = Chains(request.reaches[:drafts], request.parents[:drafts], request.hits)
        present = 1.0
        for reach in request.reaches[:drafts]:
            present += reach
        value, shape = present - seconds[1 + drafts], tuple(chains.lengths)
        for rows in range(2 + drafts, request.rows_limit + 1):
            if not chains.extend():
                break
            with_row = present - seconds[rows] + request.future * chains.promised
            if with_row > value:
                value, shape = with_row, tuple(chains.lengths)
        falling = falling + 1 if value <= best_value else 0
        if falling == request.patience:
            break
        if value > best_value:
            best, best_value = CallPlan(drafts, shape, value), value
    return best


def stop_probabilities(reaches: Sequence[float], parents: Sequence[int]) -> list[float]:
    """[drafts + 1] probability that the walk ends at the root or at each of the drafts."""
    stops = [1.0, *reaches]
    for parent, reach in zip(parents, reaches):
        stops[parent + 1] -= reach
    return [max(stop, 0.0) for stop in stops]


class Chains:
    """Look-ahead chains below the root and its drafts, each made longer where that promises most.

    Where the walk stops, drafts of depth d come from that node's LA_d, or where its chain is too short from LA_{d+1} of
    its parent, LA_{d+2} of the one above, and so on: a chain serves all nodes below its own.
    """

    def __init__(self, reaches: Sequence[float], parents: Sequence[int], hits: Sequence[float]) -> None:
        self.stops, self.hits = stop_probabilities(reaches, parents), hits
        self.parents = [ROOT, *(p + 1 for p in parents)]
        nodes = range(len(self.stops))
        self.lengths = [0] * len(nodes)
        self.promised = 0.0
        self._values = [0.0] * len(nodes)
        self._gains: list[float | None] = [None] * len(nodes)  # None: to be computed again
        self._below = [[node] for node in nodes]
        for node in reversed(nodes[1:]):
            above = self.parents[node]
            self._below[above] = sorted(self._below[above] + self._below[node])

    def extend(self) -> bool:
        """Add one row to the chain where it promises most; False when none promises anything."""
        best, best_gain = -1, 0.0
        for node, length in enumerate(self.lengths):
            if length >= len(self.hits):
                continue
            gain = self._gains[node]
            if gain is None:
                gain = self._gains[node] = self._gain(node)
            if gain > best_gain:
                best, best_gain = node, gain
        if best < 0:
            return False
        self.lengths[best] += 1
        for node in self._below[best]:
            self._values[node] = self._value(node)
            self._gains[node] = None
        above = self.parents[best]
        while above >= 0:
            self._gains[above] = None
            above = self.parents[above]
        self.promised += best_gain
        return True

    def _gain(self, node: int) -> float:
        self.lengths[node] += 1
        gain = 0.0
        for below in self._below[node]:
            gain += self.stops[below] * (self._value(below) - self._values[below])
        self.lengths[node] -= 1
        return gain

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
