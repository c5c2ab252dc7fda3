"""Tests of drawn tokens against the model's own probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pass_core.decoding.events import TokenEvent
from pass_core.evaluation.losslessness.report import Check, distribution_check
from pass_core.evaluation.statistics import chi_square
from pass_core.sampling.distribution import Distribution

RANKS = 10

Draw = tuple[Distribution, int, Mapping[int, float] | None]
"""The exact distribution of a position, the token drawn there, and the draft's distribution if there was one."""


def draft_of(token: TokenEvent) -> Mapping[int, float] | None:
    """Draft probabilities of the model's likeliest tokens at this position."""
    drafts = {c.id: c.p_draft for c in token.top if c.p_draft is not None}
    return drafts or None


def _bins(exact: Distribution, draft: Mapping[int, float] | None) -> npt.NDArray[np.int64]:
    """The bin of every token of the support; below 2 are those that the drafts favour."""
    order = np.argsort(-exact.log_p, kind="stable")
    if draft is None:
        ranks = np.empty(order.size, dtype=np.int64)
        ranks[order] = np.arange(order.size)
        return np.minimum(ranks, RANKS - 1)
    p = np.exp(exact.log_p)
    favours = np.array([draft.get(int(i), 0.0) > q for i, q in zip(exact.ids, p, strict=True)])
    likeliest = np.arange(p.size) == order[0]
    return np.where(favours, np.where(likeliest, 0, 1), np.where(likeliest, 2, 3)).astype(np.int64)


def _joint(tree: Mapping[tuple[int, ...], Distribution], depth: int) -> dict[tuple[int, ...], float]:
    """The exact probability of every text of `depth` tokens (shorter where the text ends before)."""
    joint: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(depth):
        longer: dict[tuple[int, ...], float] = {}
        for path, mass in joint.items():
            exact = tree.get(path)
            if exact is None:
                longer[path] = mass
                continue
            for token, p in zip(exact.ids, np.exp(exact.log_p), strict=True):
                longer[(*path, int(token))] = mass * float(p)
        joint = longer
    return joint


def check_together(
    subject: str,
    texts: Sequence[tuple[int, ...]],
    tree: Mapping[tuple[int, ...], Distribution],
    depth: int,
    level: float,
    accepted: int,
    exact: bool,
) -> Check:
    """Test the joint distribution of the first `depth` tokens after one prompt.

    Args:
        texts: the drawn tokens.
        tree: the model's distribution after every beginning.
        level: probability of a false alarm.
        accepted: drafts that were accepted in these texts.
        exact: whether both computations must agree about which tokens are kept (float32).
    """
    joint = _joint(tree, depth)
    index = {path: i for i, path in enumerate(joint)}
    counts = np.zeros(len(joint) + 1)
    for ids in texts:
        counts[index.get(ids, len(joint))] += 1
    p = np.array([*joint.values(), 0.0])
    if not exact:
        # In low precision the two computations may disagree about the last token that is kept.
        counts[-1] = 0
    return distribution_check(subject, chi_square([p / p.sum()], counts, level=level), level, accepted)


def check_one_by_one(subject: str, draws: Sequence[Draw], level: float, accepted: int, exact: bool) -> Iterator[Check]:
    """Test tokens each against its own exact distribution; bins are chosen before the token is known.

    Where there were drafts, the bins are whether the draft distribution gives a token more than the model does
    (any mistake in a rule shows there first), and whether it is the model's likeliest. Elsewhere the bins are the
    model's ranks. The last bin holds what the model cannot emit: impossible in float32; in low precision such draws
    are left out, for the two computations may disagree about the last token that is kept.
    """
    drafted = [d for d in draws if d[2] is not None]
    chosen = drafted or draws
    rows: list[np.ndarray] = []
    counts = np.zeros(RANKS + 1)
    favoured = np.zeros(2)
    for target, token, draft in chosen:
        bins = _bins(target, draft)
        at = np.flatnonzero(target.ids == token)
        if not at.size and not exact:
            continue
        p = np.exp(target.log_p)
        rows.append(np.bincount(bins, weights=p, minlength=RANKS + 1))
        found = int(bins[at[0]]) if at.size else RANKS
        counts[found] += 1
        favoured += (found < 2, float(p[bins < 2].sum()))
    if rows:
        test = chi_square(rows, counts, level=level)
        shares = favoured / len(rows) if drafted else None
        yield distribution_check(subject, test, level, accepted, shares)
