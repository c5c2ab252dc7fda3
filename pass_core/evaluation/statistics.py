"""Intervals and tests: medians, paired ratios, chi-square with covariance, total variation, pass@k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch

FloatArray = npt.NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 2000
STATED_FROM = 5
"""Observations from which on an interval is shown."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        median: the estimate (for ratios the geometric mean, for proportions the mean).
        low, high: ends of the interval.
        count: independent observations behind it. With fewer than `STATED_FROM` the ends say nothing and are not shown.
    """

    median: float
    low: float
    high: float
    count: int = 0

    @property
    def stated(self) -> bool:
        """Whether there are enough observations to speak of an interval."""
        return self.count >= STATED_FROM

    @property
    def ends(self) -> tuple[float, float] | None:
        """Low and high where an interval is stated."""
        return (self.low, self.high) if self.stated else None

    def text(self, digits: int = 2, *, scale: float = 1.0, unit: str = "") -> str:
        """The estimate with its interval and n: "1.43 (1.30–1.55, n = 20)", "1.43 (n = 3)"."""
        within = "" if not self.stated else f"{scale * self.low:.{digits}f}–{scale * self.high:.{digits}f}, "
        return f"{scale * self.median:.{digits}f}{unit} ({within}n = {self.count})"


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The median with its order-statistic interval (no assumption about the distribution).

    With fewer than six values no order statistics reach 95 %; the range is given then.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("a median needs at least one value")
    ordered = sorted(values)
    n = len(ordered)
    low, high = 0, n - 1
    # Largest r with P(Binomial(n, 1/2) < r) <= alpha/2: the interval runs from the r-th to the (n+1-r)-th value.
    tail, r = 0.0, 0
    for i in range(n):
        tail += math.comb(n, i) * 0.5**n
        if tail > (1 - confidence) / 2:
            break
        r = i + 1
    if r > 0:
        low, high = r - 1, n - r
    return Interval(float(np.median(ordered)), ordered[low], ordered[high], n)


def ratio_interval(ratios: Sequence[float], confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """Geometric mean of paired ratios with a bootstrap interval over the pairs.

    Raises:
        ValueError: no ratios, or one that is not positive.
    """
    if not ratios or min(ratios) <= 0:
        raise ValueError("a ratio interval needs positive ratios")
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    low, high = _bootstrap(logs, confidence, seed)
    return Interval(float(np.exp(logs.mean())), math.exp(low), math.exp(high), len(ratios))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """Mean with a bootstrap interval over the values.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    array = np.asarray(values, dtype=np.float64)
    low, high = _bootstrap(array, confidence, seed)
    return Interval(float(array.mean()), low, high, len(values))


def share_interval(values: Sequence[float], confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """Mean of values between 0 and 1: Wilson's interval where each is 0 or 1, else the bootstrap's.

    The bootstrap would call a share of 0 in 12 certain; Wilson's does not.

    Raises:
        ValueError: no values.
    """
    if not values or any(v not in (0.0, 1.0) for v in values):
        return mean_interval(values, confidence, seed)
    n, p = len(values), sum(values) / len(values)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), n)


def _bootstrap(values: FloatArray, confidence: float, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean, widened by the small-sample factor of the bootstrap's variance."""
    n = values.size
    if n == 1:
        return float(values[0]), float(values[0])
    generator = np.random.default_rng(seed)
    means = values[generator.integers(0, n, size=(RESAMPLES, n))].mean(axis=1)
    centre = values.mean()
    # Resampling n of n understates the variance by (n-1)/n.
    means = centre + (means - centre) * math.sqrt(n / (n - 1))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased estimate of pass@k: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, section 2.1).

    Raises:
        ValueError: fewer samples than k.
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {samples} with {correct} correct")
    if samples - correct < k:
        return 1.0
    return 1.0 - float(np.prod([1.0 - k / i for i in range(samples - correct + 1, samples + 1)]))


# --- chi-square ------------------------------------------------------------------------------------------------------


def chi_square_tail(value: float, df: int) -> float:
    """P(chi-square with df degrees of freedom > value)."""
    if df < 1:
        return 1.0
    a, x = torch.tensor(df / 2, dtype=torch.float64), torch.tensor(max(value, 0.0) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(a, x))


def chi_square_critical(df: int, level: float) -> float:
    """The value that a chi-square exceeds with probability `level`."""
    low, high = 0.0, 10.0 * df + 200.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if chi_square_tail(middle, df) > level else (low, middle)
    return high


def chi_square_power(noncentrality: float, df: int, level: float) -> float:
    """Probability that the test of this level rejects when the statistic has this noncentrality."""
    critical = chi_square_critical(df, level)
    half = noncentrality / 2
    reach = int(half + 12 * math.sqrt(half + 1) + 20)
    if half <= 0:
        return level
    # A noncentral chi-square is a Poisson mixture of central ones with df + 2i degrees of freedom.
    weights = [math.exp(i * math.log(half) - half - math.lgamma(i + 1)) for i in range(reach)]
    return min(1.0, sum(w * chi_square_tail(critical, df + 2 * i) for i, w in enumerate(weights) if w > 1e-12))


@lru_cache(maxsize=256)
def detectable_noncentrality(df: int, level: float, power: float) -> float:
    """The noncentrality at which the test reaches the wanted power."""
    low, high = 0.0, 1.0
    while chi_square_power(high, df, level) < power:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if chi_square_power(middle, df, level) < power else (low, middle)
    return high


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Result of a test of observed counts against exact probabilities.

    Attributes:
        statistic, df, p_value: of the chi-square test over the pooled bins.
        bins: bins after pooling.
        samples: number of draws.
        total_variation: distance between the observed and the expected frequencies of the pooled bins.
        total_variation_bound: what sampling alone exceeds with probability at most `level`.
        detectable: with 90 % power the test notices when this much probability moves from (or to) the likeliest bin.
    """

    statistic: float
    df: int
    p_value: float
    bins: int
    samples: int
    total_variation: float
    total_variation_bound: float
    detectable: float


def chi_square(
    probabilities: Sequence[npt.ArrayLike], observed: npt.ArrayLike, *, level: float, minimum: float = 5.0
) -> ChiSquare:
    """Test counts of independent (or martingale) draws against the exact probabilities of each draw.

    For identical draws this is Pearson's test. Where every draw t has its own bin probabilities P_t (each may depend on
    the draws before it) the covariance is V = Σ_t diag(P_t) - P_t P_tᵀ and the statistic (O-E)ᵀ V⁻ (O-E).

    Args:
        probabilities: [draws, bins] or one row [1, bins] that holds for all draws.
        observed: [bins] counts.
        level: probability of a false alarm for which the bounds are stated.
        minimum: the least number that each bin expects; rarer bins are pooled, rarest first.
    """
    p = np.atleast_2d(np.asarray(probabilities, dtype=np.float64))
    o = np.asarray(observed, dtype=np.float64)
    n = round(float(o.sum()))
    if p.shape[0] == 1:
        # One row for all draws: its covariance counts n times.
        expected, covariance = n * p[0], n * (np.diag(p[0]) - np.outer(p[0], p[0]))
    elif p.shape[0] == n:
        expected, covariance = p.sum(0), np.diag(p.sum(0)) - p.T @ p
    else:
        raise ValueError(f"{p.shape[0]} rows of probabilities do not fit {n} draws")
    impossible = float(o[expected <= 0.0].sum())
    groups = _pool(expected, minimum)
    pooling = np.zeros((len(groups), expected.size))
    for index, group in enumerate(groups):
        pooling[index, group] = 1.0
    e, obs, v = pooling @ expected, pooling @ o, pooling @ covariance @ pooling.T
    df = len(groups) - 1
    variation = 0.5 * float(np.abs(obs - e).sum()) / max(n, 1)
    bound = _variation_bound(v, n, level)
    if impossible > 0:
        # A token of probability zero was drawn: no sampling error explains that.
        return ChiSquare(math.inf, max(df, 1), 0.0, len(groups), n, variation, bound, 0.0)
    if df < 1:
        return ChiSquare(0.0, 0, 1.0, len(groups), n, variation, bound, 1.0)
    inverse: FloatArray = np.linalg.pinv(v, hermitian=True, rcond=1e-10).astype(np.float64)
    statistic = float((obs - e) @ inverse @ (obs - e))
    rank = int(np.linalg.matrix_rank(v, hermitian=True, tol=float(np.abs(v).max()) * 1e-10))
    df = max(1, min(df, rank))
    return ChiSquare(
        statistic,
        df,
        chi_square_tail(statistic, df),
        len(groups),
        n,
        variation,
        bound,
        _detectable(e, inverse, n, df, level),
    )


def _pool(expected: FloatArray, minimum: float) -> list[list[int]]:
    """Groups of bins, each expecting at least `minimum`: the rare ones together, likeliest bins alone."""
    groups: list[list[int]] = []
    current: list[int] = []
    total = 0.0
    for index in np.argsort(-expected, kind="stable"):
        current.append(int(index))
        total += float(expected[index])
        if total >= minimum:
            groups.append(current)
            current, total = [], 0.0
    if current:
        if groups:
            groups[-1].extend(current)
        else:
            groups.append(current)
    return groups


def _variation_bound(covariance: FloatArray, n: int, level: float) -> float:
    """Mean of the total variation that sampling gives, plus the deviation it exceeds with probability `level`.

    E|O-E| <= sqrt(2 V/π) per bin (normal), and the distance moves by at most 1/n a draw (McDiarmid).
    """
    mean = 0.5 * float(np.sqrt(2 / math.pi * np.clip(np.diag(covariance), 0, None)).sum()) / max(n, 1)
    return mean + math.sqrt(math.log(1 / level) / (2 * max(n, 1)))


def _detectable(expected: FloatArray, inverse: FloatArray, n: int, df: int, level: float, power: float = 0.9) -> float:
    """The probability that must move from all other bins (in proportion) to the likeliest for this power."""
    top = int(np.argmax(expected))
    rest = expected.sum() - expected[top]
    direction = -expected / rest
    direction[top] = 1.0
    unit = float(direction @ inverse @ direction) * n * n
    return min(1.0, math.sqrt(detectable_noncentrality(df, level, power) / unit)) if unit > 0 else 1.0
