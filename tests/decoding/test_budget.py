"""The shape of a call: within its rows, and none better among all shapes of small cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pass_core.decoding.budget import FUTURE_WEIGHT, Plan, plan, stop_probabilities
from pass_core.runtime.cost import CostModel

# A root with two children, one grandchild each; best first.
REACHES = [0.5, 0.3, 0.25, 0.1]
PARENTS = [-1, -1, 0, 1]
GAINS = [0.6, 0.3, 0.1]


def value(shape: Plan, cost: CostModel | None, rate: float) -> float:
    """Expected tokens of this call and, at a discount, of its look-ahead rows, minus what the time could bring."""
    stops = stop_probabilities(REACHES, PARENTS, shape.drafts)
    future = sum(stop * sum(GAINS[:length]) for stop, length in zip(stops, shape.chains))
    seconds = cost(shape.rows) * rate if cost else 0.0
    return 1.0 + sum(REACHES[: shape.drafts]) + FUTURE_WEIGHT * future - seconds


def every_shape(limit: int) -> list[Plan]:
    shapes = [
        Plan(drafts, chains)
        for drafts in range(len(REACHES) + 1)
        for chains in itertools.product(range(len(GAINS) + 1), repeat=drafts + 1)
    ]
    return [s for s in shapes if s.rows <= limit]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 9, 30])
@pytest.mark.parametrize("slope", [None, 0.0, 0.02, 0.1, 1.0])
def test_no_other_shape_is_worth_more(limit: int, slope: float | None) -> None:
    cost = None if slope is None else CostModel({1: 1.0, 31: 1.0 + 30 * slope})
    got = plan(REACHES, PARENTS, GAINS, limit, cost, 1.0)
    assert got.rows <= limit
    assert len(got.chains) == got.drafts + 1
    assert max(got.chains) <= len(GAINS)
    assert value(got, cost, 1.0) == pytest.approx(max(value(s, cost, 1.0) for s in every_shape(limit)))


def test_where_every_row_costs_a_call_nothing_is_drafted() -> None:
    assert plan(REACHES, PARENTS, GAINS, 30, CostModel({1: 1.0, 31: 31.0}), 1.0) == Plan(0, (0,))


def test_the_walk_ends_somewhere() -> None:
    stops = stop_probabilities(REACHES, PARENTS, 4)
    assert stops.sum() == pytest.approx(1.0)
    assert stops == pytest.approx([0.2, 0.25, 0.2, 0.25, 0.1])
    assert np.array_equal(stop_probabilities([], [], 0), [1.0])


def test_nothing_to_draft_and_nothing_to_look_ahead_for() -> None:
    assert plan([], [], [], 10, None, 0.0) == Plan(0, (0,))
