"""The compiled walk through a tree of drafts: the samples, rows and distributions of the rule written in Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pass_core.decoding.events import DraftSource
from pass_core.decoding.tree import ROOT, Draft, DraftTree, verify_tree
from pass_core.runtime.native.build import library
from pass_core.runtime.native.walk import native_walk
from pass_core.sampling.distribution import Distribution, RowDistributions, distributions
from pass_core.sampling.noise import Stream, stream_hash
from pass_core.sampling.rules import CoupledRule
from pass_core.settings import SamplingSettings

pytestmark = pytest.mark.skipif(library() is None, reason="no compiler here")

VOCABULARY, SEED, POSITION = 2560, 11, 40
SETTINGS = [SamplingSettings(0.8, 10), SamplingSettings(1.3, 3), SamplingSettings(0.0, 10), SamplingSettings(1.0, 1)]


class ByHand(CoupledRule):
    """The rule as it is, without the compiled walk, which serves the plain class alone."""


def tree_of(logits: torch.Tensor, sampling: SamplingSettings, rng: np.random.Generator) -> DraftTree:
    """Drafts of which many are what the target samples: the likeliest tokens of their parent's row."""
    tree = DraftTree()
    rows = distributions(logits, sampling)
    for index in range(logits.shape[0] - 1):
        parent = int(rng.integers(ROOT, index))
        taken = {tree.drafts[c].token for c in tree.children(parent)}
        sample = rows[parent + 1].sample(SEED, POSITION + (0 if parent == ROOT else tree.drafts[parent].depth))
        token = sample if sample not in taken and rng.random() < 0.8 else int(rng.integers(VOCABULARY))
        depth = 1 if parent == ROOT else tree.drafts[parent].depth + 1
        tree.add(Draft(token, parent, depth, Distribution.certain(token), DraftSource.LOOKAHEAD))
    return tree


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_verification_is_the_same_with_and_without_the_library(sampling: SamplingSettings) -> None:
    rng = np.random.default_rng(3)
    accepted = 0
    for case in range(40):
        # Whole numbers: ties are frequent, within the kept tokens and at their edge.
        logits = torch.from_numpy(rng.integers(-6, 7, (9, VOCABULARY)).astype(np.float32))
        if case % 2:
            logits = torch.from_numpy(rng.normal(0, 3, (9, VOCABULARY)).astype(np.float32))
        ours, theirs = (tree_of(logits, sampling, np.random.default_rng(case)) for _ in range(2))
        fast = verify_tree(ours, RowDistributions(logits, sampling), CoupledRule(), SEED, POSITION)
        slow = verify_tree(theirs, RowDistributions(logits, sampling), ByHand(), SEED, POSITION)
        assert fast.path == slow.path
        assert [e.token for e in fast.emitted] == [e.token for e in slow.emitted]
        for a, b in zip(fast.emitted, slow.emitted, strict=True):
            assert a.target.ids.tolist() == b.target.ids.tolist()
            assert a.target.log_p.tolist() == b.target.log_p.tolist()
            assert a.provenance is b.provenance
        assert [d.status for d in ours.drafts] == [d.status for d in theirs.drafts]
        accepted += len(fast.path)
    assert accepted > 40, "the walks went below the root"


def test_without_drafts_it_is_a_plain_sample() -> None:
    logits = torch.randn(2, VOCABULARY, generator=torch.Generator().manual_seed(0))
    sampling = SamplingSettings(0.8, 10)
    for position in range(200):
        expected = distributions(logits, sampling, [0])[0].sample(SEED, position)
        assert RowDistributions(logits, sampling).sample_path(SEED, position) == [expected]


def test_rows_met_are_processed_once_and_others_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(0))
    sampling = SamplingSettings(0.8, 10)
    rows = RowDistributions(logits, sampling)
    first = distributions(logits, sampling, [0])[0].sample(SEED, POSITION)
    samples = rows.sample_path(SEED, POSITION, [first + 1, first], [ROOT, ROOT])
    assert len(samples) == 2
    expected = distributions(logits, sampling)
    asked: list[object] = []
    monkeypatch.setattr(
        "pass_core.sampling.distribution.distributions", lambda *a: (asked.append(a[2]), distributions(*a))[1]
    )
    assert [rows[i].log_p.tolist() for i in (0, 2)] == [expected[i].log_p.tolist() for i in (0, 2)]
    assert asked == []
    assert rows[1].log_p.tolist() == expected[1].log_p.tolist()
    assert asked == [[1]]


@pytest.mark.parametrize(
    ("logits", "kept"),
    [
        (torch.zeros(2, 2561), 10),
        (torch.zeros(2, VOCABULARY), 0),
        (torch.zeros(2, VOCABULARY), 21),
        (torch.zeros(2, VOCABULARY, dtype=torch.float64), 10),
        (torch.full((2, VOCABULARY), float("nan")), 10),
        (torch.zeros(1, VOCABULARY), 10),
    ],
    ids=["odd vocabulary", "no top-k", "too many kept", "dtype", "NaN", "a row too few"],
)
def test_what_the_library_cannot_do_it_leaves_to_python(logits: torch.Tensor, kept: int) -> None:
    assert native_walk(logits, kept, 0.8, stream_hash(SEED, Stream.TARGET), POSITION, [1], [ROOT]) is None


def test_python_walks_where_the_library_cannot() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    sampling = SamplingSettings(0.8, 10)
    first = distributions(logits, sampling, [0])[0].sample(SEED, POSITION)
    second = distributions(logits, sampling, [2])[0].sample(SEED, POSITION + 1)
    rows = RowDistributions(logits, sampling)
    assert rows.sample_path(SEED, POSITION, [(first + 1) % 50, first], [ROOT, ROOT]) == [first, second]
