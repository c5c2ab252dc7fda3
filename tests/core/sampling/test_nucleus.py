"""Top-p and min-p: transformers' own warpers keep the same tokens with the same probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pass_core.sampling import nucleus
from pass_core.sampling.distribution import Distribution, distributions
from pass_core.settings import SamplingSettings, SettingsError
from tests.kernels.makers import NAMES, kernels_named

CUTS = [(0.9, 0.0), (0.3, 0.0), (1.0, 0.05), (1.0, 0.5), (0.95, 0.1), (1e-6, 0.0), (1.0, 1.0), (0.999, 1e-6)]


def random_logits(rows: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 2.5


def by_transformers(logits: torch.Tensor, sampling: SamplingSettings) -> list[dict[int, float]]:
    """Warpers in the order of transformers' generate, in the dtype of the logits."""
    warpers: list[Any] = [TemperatureLogitsWarper(sampling.temperature)]
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    warpers += [TopPLogitsWarper(sampling.top_p), MinPLogitsWarper(sampling.min_p)]
    scores: Any = logits
    for warper in warpers:
        scores = warper(None, scores)
    rows = torch.softmax(scores, -1).tolist()
    return [{i: p for i, p in enumerate(row) if p > 0} for row in rows]


def as_dict(d: Distribution) -> dict[int, float]:
    return dict(zip(d.ids.tolist(), np.exp(d.log_p).tolist(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["in float64", "in float32, as it runs"])
@pytest.mark.parametrize("top_k", [0, 10, 200])
@pytest.mark.parametrize("vocabulary", [8, 1024, 20_000])
def test_transformers_warpers_keep_the_same_tokens(vocabulary: int, top_k: int, dtype: torch.dtype) -> None:
    logits = random_logits(3, vocabulary, top_k)
    for cut in CUTS:
        for temperature in (0.5, 1.0, 1.7):
            sampling = SamplingSettings(temperature, top_k, *cut)
            found = [as_dict(d) for d in distributions(logits, sampling)]
            wanted = by_transformers(logits.to(dtype), sampling)
            assert [set(row) for row in found] == [set(row) for row in wanted], sampling
            for ours, theirs in zip(found, wanted, strict=True):
                assert ours == pytest.approx(theirs, rel=1e-11 if dtype is torch.float64 else 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_both_kernels_select_for_the_same_distributions(name: str) -> None:
    logits, kernels = random_logits(4, 49_152), kernels_named(name)
    for top_k in (0, 50):
        for cut in CUTS:
            sampling = SamplingSettings(1.0, top_k, *cut)
            for ours, plain in zip(distributions(logits, sampling, [3, 0], kernels.top_k), (3, 0), strict=True):
                (wanted,) = distributions(logits[plain : plain + 1], sampling)
                assert ours.ids.tolist() == wanted.ids.tolist()
                assert ours.log_p.tolist() == wanted.log_p.tolist()


def test_a_nucleus_of_most_of_the_vocabulary_is_whole() -> None:
    """More tokens than are sorted at first: the sum goes over all of them."""
    logits = random_logits(2, 30_000) / 100
    for top_p in (0.01, 0.1, 0.9):
        sampling = SamplingSettings(1.0, 0, top_p)
        for found, wanted in zip(distributions(logits, sampling), by_transformers(logits.double(), sampling)):
            assert set(found.ids.tolist()) == set(wanted)
            assert len(wanted) > 200


def test_likeliest_first_and_of_ties_the_lower_ids() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0, 1.0, 1.0]])
    (found,) = distributions(logits, SamplingSettings(1.0, 0, 0.7))
    assert found.ids.tolist() == [1, 3, 2]
    assert distributions(torch.zeros(1, 10), SamplingSettings(1.0, 0, 0.5))[0].ids.tolist() == [0, 1, 2, 3, 4]
    assert distributions(torch.zeros(1, 10), SamplingSettings(1.0, 8, 0.5))[0].ids.tolist() == [0, 1, 2, 3]
    assert distributions(torch.zeros(1, 10), SamplingSettings(1.0, 8, 1.0, 1.0))[0].ids.tolist() == list(range(8))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=60),
    st.integers(0, 30),
    st.floats(0.001, 1.0),
    st.floats(0.0, 1.0),
)
def test_any_logits_keep_the_smallest_set_that_is_enough(
    values: list[int], top_k: int, top_p: float, min_p: float
) -> None:
    logits = torch.tensor([values], dtype=torch.float32) / 8
    whole = as_dict(distributions(logits, SamplingSettings(1.0, top_k))[0])
    (d,) = distributions(logits, SamplingSettings(1.0, top_k, top_p, min_p))
    kept = {i: whole[i] for i in d.ids.tolist()}
    left = [p for i, p in whole.items() if i not in kept]
    assert max(left, default=0.0) <= min(kept.values()) + 1e-12
    assert min(kept.values()) >= min_p * max(kept.values()) - 1e-12
    if left and max(left) > min_p * max(kept.values()) + 1e-9:  # top-p left it out, so what is kept is enough
        assert sum(kept.values()) >= top_p - 1e-6
    assert sum(kept.values()) - min(kept.values()) <= top_p + 1e-6, "one token less is not enough"
    assert np.exp(d.log_p).sum() == pytest.approx(1.0)


def test_sums_do_not_depend_on_their_order() -> None:
    scaled = torch.sort(random_logits(1, 5000).double(), descending=True).values
    scaled -= scaled[:, :1].clone()
    shuffled = scaled[:, torch.randperm(5000, generator=torch.Generator().manual_seed(1))]
    assert nucleus.weights(scaled).sum() == nucleus.weights(shuffled).sum()
    assert int(nucleus.weights(torch.zeros(1, 2**19, dtype=torch.float64)).sum()) == 2**19 * int(nucleus.ONE)


def test_temperature_zero_knows_neither() -> None:
    logits = random_logits(2, 50)
    for found, row in zip(distributions(logits, SamplingSettings(0.0, 10, 0.5, 0.5)), logits):
        assert found.ids.tolist() == [int(row.argmax())]


def test_masked_logits_stay_out() -> None:
    logits = torch.tensor([[float("-inf"), 1.0, float("-inf"), 1.0]])
    for top_k in (0, 3):
        assert distributions(logits, SamplingSettings(1.0, top_k, 0.99))[0].ids.tolist() == [1, 3]


@pytest.mark.parametrize(
    "wrong", [{"top_p": 0.0}, {"top_p": 1.01}, {"top_p": float("nan")}, {"min_p": -0.1}, {"min_p": 1.5}]
)
def test_settings_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong)).replace("_", "-")):
        SamplingSettings(**wrong)  # type: ignore[arg-type]
