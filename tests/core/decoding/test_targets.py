"""The target's distributions: processed once, when they are asked for."""

from __future__ import annotations

import pytest
import torch

from pass_core.decoding import targets
from pass_core.decoding.targets import RowDistributions
from pass_core.decoding.tree import ROOT
from pass_core.sampling.distribution import distributions
from pass_core.settings import SamplingSettings
from tests.kernels.makers import NAMES, kernels_named

VOCABULARY, SEED, POSITION = 2560, 11, 40


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Rows that were processed."""
    rows: list[object] = []
    monkeypatch.setattr(targets, "distributions", lambda *a: rows.append(a[2]) or distributions(*a))
    return rows


@pytest.mark.parametrize("name", NAMES)
def test_without_drafts_it_is_a_plain_sample(name: str) -> None:
    logits = torch.randn(2, VOCABULARY, generator=torch.Generator().manual_seed(0))
    for sampling in (
        SamplingSettings(0.8, 10),
        SamplingSettings(0.8, 0),
        SamplingSettings(0.0),
        SamplingSettings(0.8, 10, 0.5),
        SamplingSettings(0.8, 0, 0.5, 0.01),
    ):
        for position in range(20):
            expected = distributions(logits, sampling, [0])[0].sample(SEED, position)
            assert RowDistributions(logits, sampling, kernels_named(name)).sample_path(SEED, position) == [expected]


@pytest.mark.parametrize("name", NAMES)
def test_rows_met_are_processed_once_and_others_when_asked_for(name: str, asked: list[object]) -> None:
    logits = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(0))
    sampling = SamplingSettings(0.8, 10)
    rows = RowDistributions(logits, sampling, kernels_named(name))
    first = distributions(logits, sampling, [0])[0].sample(SEED, POSITION)
    samples = rows.sample_path(SEED, POSITION, [first + 1, first], [ROOT, ROOT])
    assert len(samples) == 2
    expected = distributions(logits, sampling)
    assert [rows[i].log_p.tolist() for i in (0, 2)] == [expected[i].log_p.tolist() for i in (0, 2)]
    assert asked == []
    assert rows[1].log_p.tolist() == expected[1].log_p.tolist()
    assert asked == [[1]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("top_k", [0, 10])
def test_walks_of_top_p_and_min_p_are_those_of_single_samples(name: str, top_k: int) -> None:
    logits = torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(0))
    sampling = SamplingSettings(0.8, top_k, 0.7, 0.05)
    expected = distributions(logits, sampling)
    first = expected[0].sample(SEED, POSITION)
    second = expected[2].sample(SEED, POSITION + 1)
    rows = RowDistributions(logits, sampling, kernels_named(name))
    tree = [first + 1, first, second], [ROOT, ROOT, 1]
    assert rows.sample_path(SEED, POSITION, *tree) == [first, second, expected[3].sample(SEED, POSITION + 2)]
    for i in range(4):
        assert rows[i].ids.tolist() == expected[i].ids.tolist()
        assert rows[i].log_p.tolist() == expected[i].log_p.tolist()
        assert rows[i].ids.size < (top_k or VOCABULARY)


def test_rows_processed_on_demand_are_those_processed_at_once(asked: list[object]) -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(3), dtype=torch.bfloat16)
    sampling = SamplingSettings(0.8, 6)
    every = distributions(logits, sampling)
    rows = RowDistributions(logits, sampling, kernels_named("torch"))
    assert len(rows) == 5
    for i in (3, 0, 3, 4):
        assert rows[i].ids.tolist() == every[i].ids.tolist()
        assert rows[i].log_p.tolist() == every[i].log_p.tolist()
    assert [d.ids.tolist() for d in rows[1:3]] == [d.ids.tolist() for d in every[1:3]]
    assert asked == [[3], [0], [4], [1], [2]], "each once, and only those asked for"
    with pytest.raises(IndexError):
        rows[5]
