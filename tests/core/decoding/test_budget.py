"""Row budgets: the shape of a call follows from reach, hits and measured cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pass_core.decoding.budget import plan
from pass_core.kernels.interface import CallPlan
from pass_core.kernels.reference import ReferenceKernels
from pass_core.kernels.reference_plan import stop_probabilities
from pass_core.runtime.cost import CostModel

FLAT = CostModel({1: 0.010, 16: 0.010, 32: 0.010})
TORCH = ReferenceKernels()
STEEP = CostModel({1: 0.010, 2: 0.020, 32: 0.320})


def test_the_walk_stops_somewhere() -> None:
    # Two children of the root, one grandchild below the first.
    stops = stop_probabilities([0.6, 0.3, 0.2], [-1, -1, 0])
    assert stops == pytest.approx([0.1, 0.4, 0.3, 0.2])
    assert sum(stops) == pytest.approx(1.0)


def test_flat_cost_fills_the_limit() -> None:
    shape = plan([0.6, 0.3, 0.2], [-1, -1, 0], [0.5, 0.2], 10, FLAT, rate=100.0, kernels=TORCH)
    assert shape.drafts == 3
    assert shape.rows == 10


def test_steep_cost_falls_back_to_a_plain_call() -> None:
    assert plan([0.2], [-1], [0.2], 10, STEEP, rate=100.0, kernels=TORCH) == CallPlan(0, (0,))


def test_look_ahead_rows_go_where_the_walk_will_stop() -> None:
    # The draft is nearly certain: its chain is worth more than the root's.
    shape = plan([0.95], [-1], [0.5, 0.3, 0.2], 5, FLAT, rate=100.0, kernels=TORCH)
    assert shape == CallPlan(1, (0, 3))


def test_one_chain_serves_the_nodes_below_its_own() -> None:
    """Where the walk stops at the draft, the root's LA_2 guesses what the draft's own LA_1 would."""
    shape = plan([0.5], [-1], [0.6, 0.55, 0.5], 4, FLAT, rate=100.0, kernels=TORCH)
    assert shape == CallPlan(1, (2, 0))


def test_a_chain_that_guesses_much_better_is_worth_its_own_rows() -> None:
    shape = plan([0.5], [-1], [0.6, 0.1, 0.1], 4, FLAT, rate=100.0, kernels=TORCH)
    assert shape == CallPlan(1, (1, 1))


def test_a_limit_of_one_row_is_plain_decoding() -> None:
    assert plan([0.9], [-1], [0.9], 1, None, 0.0, TORCH) == CallPlan(0, (0,))


@given(
    st.lists(st.floats(0.01, 0.99), max_size=12),
    st.lists(st.floats(0.01, 0.99), max_size=6),
    st.integers(1, 40),
    st.integers(0, 2**31),
)
def test_every_shape_keeps_to_the_limit(shares: list[float], hits: list[float], limit: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parents = [int(rng.integers(-1, i)) for i in range(len(shares))]
    reaches: list[float] = []
    for share, parent in zip(shares, parents):
        siblings = sum(1 for p in parents if p == parent)
        reaches.append(share / siblings * (1.0 if parent < 0 else reaches[parent]))
    order = sorted(range(len(reaches)), key=lambda i: (-reaches[i], i))
    place = {-1: -1, **{old: new for new, old in enumerate(order)}}
    reaches, parents = [reaches[i] for i in order], [place[parents[i]] for i in order]
    shape = plan(reaches, parents, hits, limit, None, 0.0, TORCH)
    assert 1 <= shape.rows <= limit
    assert len(shape.chains) == shape.drafts + 1
    assert all(0 <= c <= len(hits) for c in shape.chains)


def test_cost_never_falls_and_goes_on_with_its_last_slope() -> None:
    cost = CostModel({1: 0.010, 4: 0.009, 8: 0.018})
    table = cost.table(12)
    assert table[1] == pytest.approx(0.009)  # a disturbed measurement of the smaller call
    assert (np.diff(table) >= 0).all()
    assert table[12] == pytest.approx(0.018 + 4 * (0.018 - 0.009) / 4)


@pytest.mark.parametrize(("host", "drafts"), [(0.0001, True), (0.003, False)], ids=["cheap drafting", "dear drafting"])
def test_the_hosts_time_of_drafting_counts(host: float, drafts: bool) -> None:
    """A flat device of 2.6 ms a call: 0.7 tokens more are worth 0.1 ms, and not 3 ms."""
    cost = CostModel({1: 0.0026, 16: 0.0026, 48: 0.0026})
    plain = 1 / 0.0026
    shape = plan([0.5, 0.2], [-1, -1], [0.5, 0.2], 16, cost, plain, TORCH, host)
    assert (shape.rows > 1) == drafts
