"""Logits to probabilities: temperature, exact top-k with ties, candidates, samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pass_core.sampling.distribution import (
    Distribution,
    distributions,
    normalise,
    top_candidates,
)
from pass_core.sampling.noise import Stream
from pass_core.settings import SamplingSettings, SettingsError


def reference(logits: np.ndarray, sampling: SamplingSettings) -> dict[int, float]:
    """The definition, written out: sort by falling logit and rising id, keep K, softmax."""
    order = sorted(range(logits.size), key=lambda i: (-logits[i], i))
    if sampling.temperature == 0:
        return {order[0]: 1.0}
    kept = order[: sampling.top_k or logits.size]
    weights = np.exp((logits[kept].astype(np.float64) - logits[kept[0]]) / sampling.temperature)
    return dict(zip(kept, weights / weights.sum()))


def as_dict(d: Distribution) -> dict[int, float]:
    return {int(i): float(p) for i, p in zip(d.ids, np.exp(d.log_p))}


@pytest.mark.parametrize("vocabulary", [5, 300, 1024, 8192])
@pytest.mark.parametrize("top_k", [0, 1, 3, 10, 200])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_matches_the_definition(vocabulary: int, top_k: int, temperature: float) -> None:
    sampling = SamplingSettings(temperature, top_k)
    logits = torch.randn(2, vocabulary, generator=torch.Generator().manual_seed(top_k)) * 3
    for row, got in zip(logits.numpy(), distributions(logits, sampling)):
        expected = reference(row, sampling)
        found = as_dict(got)
        assert set(found) == set(expected)
        assert all(found[i] == pytest.approx(p, rel=1e-4, abs=1e-9) for i, p in expected.items())
        assert np.exp(got.log_p).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("vocabulary", [7, 1000, 8192, 49_152])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_ties_keep_exactly_k_and_the_lower_ids(vocabulary: int, count: int) -> None:
    """Also where the tie spans many blocks of the fast selection."""
    logits = torch.zeros(3, vocabulary)
    logits[1, vocabulary - 1] = 1.0
    logits[2, 2::5] = 1.0
    ids, values = top_candidates(logits, count)
    assert ids[0].tolist() == list(range(vocabulary))[:count]
    assert ids[1].tolist() == [vocabulary - 1, *range(vocabulary - 1)][:count]
    zeros = [i for i in range(min(vocabulary, 100)) if i % 5 != 2]
    assert ids[2].tolist() == [*range(2, vocabulary, 5), *zeros][: min(count, vocabulary)]
    assert [len(v) for v in values] == [min(count, vocabulary)] * 3


@settings(deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=40),
    st.integers(0, 12),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_pattern_of_ties(values: list[int], top_k: int, temperature: float) -> None:
    logits = np.array(values, dtype=np.float32)
    sampling = SamplingSettings(temperature, top_k)
    (got,) = distributions(torch.from_numpy(logits)[None], sampling)
    expected = reference(logits, sampling)
    assert sorted(got.ids.tolist()) == sorted(expected)
    assert as_dict(got) == pytest.approx(expected, rel=1e-5)


def test_top_k_lists_the_likeliest_first_and_off_lists_all_ids_in_order() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0]])
    assert distributions(logits, SamplingSettings(1.0, 3))[0].ids.tolist() == [1, 3, 2]
    assert distributions(logits, SamplingSettings(1.0, 0))[0].ids.tolist() == [0, 1, 2, 3]
    assert distributions(logits, SamplingSettings(1.0, 200))[0].ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_floating_dtype(dtype: torch.dtype) -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    for sampling in (SamplingSettings(0.7, 5), SamplingSettings(0.7, 0), SamplingSettings(0.0)):
        (got,), (wide,) = distributions(logits, sampling), distributions(logits.float(), sampling)
        assert np.array_equal(got.ids, wide.ids)
        assert np.array_equal(got.log_p, wide.log_p)


def test_no_rows_give_no_distributions() -> None:
    assert distributions(torch.empty(0, 10), SamplingSettings()) == []


@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("temperature", [5e-324, 1e-46, 1e-30, 1e-6])
def test_the_coldest_temperatures_are_greedy(temperature: float, top_k: int) -> None:
    (got,) = distributions(torch.tensor([[1.0, 300.0, -5.0, 7.0]]), SamplingSettings(temperature, top_k))
    assert got.prob(1) == 1.0
    assert not np.isnan(got.log_p).any()
    assert got.sample(0, 0) == 1


def test_masked_logits_get_no_probability() -> None:
    logits = torch.tensor([[float("-inf"), 1.0, float("-inf"), 1.0]])
    for top_k in (0, 3):
        (got,) = distributions(logits, SamplingSettings(1.0, top_k))
        assert got.prob(0) == got.prob(2) == 0.0
        assert got.prob(1) == got.prob(3) == pytest.approx(0.5)
        assert {got.sample(s, 0) for s in range(50)} == {1, 3}


@pytest.mark.parametrize("wrong", [{"temperature": -0.1}, {"temperature": 2.1}, {"top_k": -1}, {"top_k": 201}])
def test_settings_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=str(next(iter(wrong.values())))):
        SamplingSettings(**wrong)  # type: ignore[arg-type]


def test_not_a_number_is_no_temperature() -> None:
    with pytest.raises(SettingsError):
        SamplingSettings(float("nan"))


def test_probabilities_of_single_tokens() -> None:
    d = Distribution(np.array([5, 2]), np.log([0.75, 0.25]))
    assert d.prob(5) == pytest.approx(0.75)
    assert d.prob(3) == 0.0
    assert d.log_prob(3) == float("-inf")


@pytest.mark.parametrize("count", [1, 3, 8, 50])
def test_the_likeliest_are_ordered_by_probability_then_id(count: int) -> None:
    p = np.array([0.05] * 6 + [0.2] + [0.05] * 6 + [0.2])
    ids = np.arange(p.size)
    shuffled = np.random.default_rng(1).permutation(p.size)
    expected = [6, 13, 0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12][:count]
    for order in (ids, shuffled):
        got = Distribution(ids[order], np.log(p[order])).likeliest(count)
        assert [i for i, _ in got] == expected
        assert [q for _, q in got] == pytest.approx([p[i] for i in expected])


def test_a_sample_depends_on_seed_position_and_stream_alone() -> None:
    (d,) = distributions(torch.zeros(1, 100), SamplingSettings(1.0, 0))
    turned = Distribution(d.ids[::-1].copy(), d.log_p[::-1].copy())
    assert d.sample(1, 2) == turned.sample(1, 2)
    assert len({d.sample(s, p, x) for s in range(5) for p in range(5) for x in Stream}) > 50


def test_normalise_is_a_log_softmax() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (3, 7)).astype(np.float32)
    got = normalise(logits, 0.7)
    assert got.dtype == np.float64
    assert np.allclose(got, torch.log_softmax(torch.from_numpy(logits).double() / 0.7, -1).numpy(), atol=1e-6)
