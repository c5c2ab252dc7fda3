"""The counter-based noise: uniform, independent in every argument, and the same numbers in every version."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pass_core.sampling.noise import Stream, gumbel, gumbels, uniform

COUNT = 40_000
TOKENS = np.arange(COUNT)

# Seeds are stored with runs and shared: a version that changes these numbers breaks every one of them.
KNOWN = {
    (0, 0, 0, Stream.TARGET): 0.4445001753702108,
    (1, 0, 0, Stream.TARGET): 0.039922651441566814,
    (0, 1, 0, Stream.TARGET): 0.5341658210524686,
    (0, 0, 1, Stream.TARGET): 0.6205221053399693,
    (0, 0, 0, Stream.DRAFT): 0.9443963115889403,
    (0, 0, 0, Stream.ACCEPT): 0.22997327861631767,
    (0, 0, 0, Stream.RESIDUAL): 0.2778101594471599,
    (2**64 - 1, 8191, 49151, Stream.TARGET): 0.1904574334891488,
}


@pytest.mark.parametrize("key", KNOWN)
def test_known_answers(key: tuple[int, int, int, Stream]) -> None:
    assert uniform(*key) == KNOWN[key]
    assert gumbel(*key) == pytest.approx(-np.log(-np.log(KNOWN[key])), rel=1e-15)


def columns() -> dict[str, np.ndarray]:
    """The same noise along each of its arguments, one long column each."""
    seeds = np.array([uniform(s, 5, 5) for s in range(COUNT // 4)])
    return {
        "tokens": uniform(1, 7, TOKENS),
        "positions": uniform(1, TOKENS, 7),
        "seeds": seeds,
        "far tokens": uniform(1, 7, TOKENS + 100_000),
        "draft stream": uniform(1, 7, TOKENS, Stream.DRAFT),
        "accept stream": uniform(1, 7, TOKENS, Stream.ACCEPT),
        "residual stream": uniform(1, 7, TOKENS, Stream.RESIDUAL),
        "next position": uniform(1, 8, TOKENS),
        "next seed": uniform(2, 7, TOKENS),
    }


COLUMNS = columns()


@pytest.mark.parametrize("name", COLUMNS)
def test_uniform_along_every_argument(name: str) -> None:
    assert stats.kstest(COLUMNS[name], "uniform").pvalue > 0.001
    assert len(np.unique(COLUMNS[name])) == COLUMNS[name].size


@pytest.mark.parametrize("name", COLUMNS)
def test_neighbours_are_independent(name: str) -> None:
    values = COLUMNS[name]
    for lag in (1, 2, 64):
        grid, _, _ = np.histogram2d(values[:-lag], values[lag:], bins=8, range=[[0, 1], [0, 1]])
        assert stats.chisquare(grid.ravel()).pvalue > 0.001


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tokens", "draft stream"),
        ("tokens", "accept stream"),
        ("tokens", "residual stream"),
        ("draft stream", "accept stream"),
        ("accept stream", "residual stream"),
        ("tokens", "next position"),
        ("tokens", "next seed"),
        ("tokens", "positions"),
    ],
)
def test_columns_are_independent_of_each_other(one: str, other: str) -> None:
    grid, _, _ = np.histogram2d(COLUMNS[one], COLUMNS[other], bins=8, range=[[0, 1], [0, 1]])
    assert stats.chisquare(grid.ravel()).pvalue > 0.001


def test_gumbel_noise_has_the_gumbel_distribution() -> None:
    assert stats.kstest(gumbel(3, 11, TOKENS), "gumbel_r").pvalue > 0.001


def test_the_largest_of_log_p_plus_noise_is_a_sample_of_p() -> None:
    p = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
    noise = gumbel(5, TOKENS[:, None], np.arange(5))
    counts = np.bincount((np.log(p) + noise).argmax(1), minlength=5)
    assert stats.chisquare(counts, COUNT * p).pvalue > 0.001


def test_arguments_broadcast_and_give_the_same_numbers_one_by_one() -> None:
    grid = uniform(9, np.arange(4)[:, None], np.arange(6))
    assert grid.shape == (4, 6)
    assert all(grid[p, t] == uniform(9, p, t) for p in range(4) for t in range(6))


@pytest.mark.parametrize("seed", [-1, 2**64, 2**64 + 5, -(2**63)])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert uniform(seed, 1, 1) == uniform(seed % 2**64, 1, 1)


def test_numbers_stay_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at the ends of the hash's range, where rounding would reach 0 and 1."""
    for extreme, low, high in ((0, 0.0, 1e-15), (2**64 - 1, 1 - 1e-15, 1.0)):
        monkeypatch.setattr("pass_core.sampling.noise._mix", lambda h, e=extreme: np.full_like(np.asarray(h), e))
        assert low < uniform(0, 0, 0) < high
        assert np.isfinite(gumbel(0, 0, 0))


def test_a_few_numbers_are_those_of_the_arrays() -> None:
    positions, tokens = [0, 5, 5, 10**6], [7, 0, 49_151, 3]
    for seed in (0, 11, -3, 2**70):
        assert gumbels(seed, positions, tokens) == [float(gumbel(seed, p, t)) for p, t in zip(positions, tokens)]
    assert gumbels(1, [], []) == []
