"""How many rows a forward pass carries, and of which kind: drafts to verify now, look-ahead rows for the next step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pass_core.kernels.interface import CallPlan, Kernels, PlanRequest
from pass_core.runtime.cost import CostModel

# Verifying their drafts in the next step spends a part of what look-ahead rows promise.
FUTURE_WEIGHT = 0.6
PATIENCE = 3  # the value rises and then falls with the number of drafts


def plan(
    reaches: Sequence[float],
    parents: Sequence[int],
    hits: Sequence[float],
    rows_limit: int,
    cost: CostModel | None,
    rate: float,
    kernels: Kernels,
    drafting: float = 0.0,
) -> CallPlan:
    """Choose the shape with the best expected gain.

    Args:
        reaches: acceptance probability of each draft, best first (a parent always comes before its children).
        parents: index of each draft's parent, -1 for the root.
        hits: probability that a draft made from look-ahead row LA_1, LA_2, .. is accepted once the walk gets to it; as
            many as a chain can have.
        rows_limit: the most rows that the pass may carry.
        cost: measured seconds of a pass by rows; with None the rows fill the limit.
        rate: tokens per second that the rows compete with.
        drafting: seconds on the host that a drafting step takes more than a plain one.
    """
    seconds = np.zeros(rows_limit + 1)
    if cost is not None:
        seconds = cost.table(rows_limit) * rate
        seconds[2:] += drafting * rate
    counts = _counts(min(len(reaches), rows_limit - 1))
    request = PlanRequest(FUTURE_WEIGHT, PATIENCE, rows_limit, reaches, parents, hits, counts, seconds)
    return kernels.plan_call(request)


def _counts(most: int) -> list[int]:
    """Draft counts worth trying: every small one, then coarser."""
    return [n for n in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64) if n < most] + [most]
