"""Both implementations beside each other through texts of the real model: every question gets one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pass_core.engine import Engine
from pass_core.kernels.factory import make_kernels
from pass_core.kernels.interface import (
    CallPlan,
    DraftRows,
    GrownTree,
    GrowRequest,
    Guesses,
    Kernels,
    PlanRequest,
    SampledPath,
)
from pass_core.kernels.interface import WalkRequest as Walk
from pass_core.kernels.reference import ReferenceKernels
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import load_model, unload
from pass_core.models.shipped import default_lookahead
from pass_core.runtime.base import Shortlist
from pass_core.settings import DecodingSettings, LookaheadPart, SamplingSettings, StopConditions, Verification
from tests.kernels.makers import compiled

pytestmark = [pytest.mark.model, compiled]
TEXT = "The little robot opened the door and saw that the little robot"


class Both:
    """Asks both implementations, compares, and answers with the first one's answer."""

    description = "both kernels"

    def __init__(self, first: Kernels, second: Kernels) -> None:
        self._first, self._second = first, second
        self.asked: Counter[str] = Counter()

    def sampler_head(self, weights: Any) -> Any:
        return self._first.sampler_head(weights), self._second.sampler_head(weights)

    def guess_head(self, weights: Any) -> Any:
        return self._first.guess_head(weights), self._second.guess_head(weights)

    def guess(self, head: Any, state: torch.Tensor, token: int, depth: int, shortlist: Shortlist) -> Guesses:
        self.asked["guess"] += 1
        both = zip((self._first, self._second), head, strict=True)
        ours, theirs = (k.guess(h, state, token, depth, shortlist)() for k, h in both)
        # Inner numbers are rounded to bfloat16 after sums in another order.
        assert torch.allclose(ours[0], theirs[0], atol=0.01 * float(ours[0].abs().max()))
        return lambda: ours

    def bigram_head(self, bigrams: Any) -> Any:
        return self._first.bigram_head(bigrams), self._second.bigram_head(bigrams)

    def top_k(self, logits: torch.Tensor, count: int, rows: Sequence[int] | None = None) -> Any:
        self.asked["top_k"] += 1
        ours, theirs = (k.top_k(logits, count, rows) for k in (self._first, self._second))
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        return ours

    def sample_path(
        self, logits: torch.Tensor, request: Walk, tokens: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> SampledPath:
        self.asked["sample_path"] += 1
        ours, theirs = (k.sample_path(logits, request, tokens, parents) for k in (self._first, self._second))
        assert (ours.rows, ours.samples) == (theirs.rows, theirs.samples)
        assert np.array_equal(ours.ids, theirs.ids)
        assert np.array_equal(ours.values, theirs.values)
        return ours

    def grow_tree(self, rows: DraftRows, request: GrowRequest, head: Any = None, text: Any = None) -> GrownTree:
        self.asked["grow_tree"] += 1
        one, other = head or (None, None)
        ours, theirs = (
            self._first.grow_tree(rows, request, one, text),
            self._second.grow_tree(rows, request, other, text),
        )
        if head is None:
            assert (ours.tokens, ours.parents, ours.depths) == (theirs.tokens, theirs.parents, theirs.depths)
            assert ours.reaches == pytest.approx(theirs.reaches, rel=1e-12)
        else:
            self._compare_scored(ours, theirs)
        return ours

    def _compare_scored(self, ours: GrownTree, theirs: GrownTree) -> None:
        """A head's factors are rounded to bfloat16 after sums in another order: now and then one falls to the other
        side, and moves a score by some thousandths."""
        a, b = (
            {int(i): p for i, p in zip(t.ids[t.source[0]], t.log_p[t.source[0]]) if np.isfinite(p)}
            for t in (ours, theirs)
        )
        close = [(a[i], b[i]) for i in a.keys() & b.keys()]
        assert len(close) >= max(len(a), len(b)) - 1
        assert all(abs(p - q) < 0.03 for p, q in close), "the same distribution below the root"
        one, other = reach_by_path(ours), reach_by_path(theirs)
        for path in one.keys() & other.keys():
            assert one[path] == pytest.approx(other[path], abs=0.01)
        # A draft at the least reach may stand in one tree alone.
        assert sum((one | other)[path] for path in one.keys() ^ other.keys()) < 0.05

    def plan_call(self, request: PlanRequest) -> CallPlan:
        self.asked["plan_call"] += 1
        ours, theirs = self._first.plan_call(request), self._second.plan_call(request)
        assert ours == theirs
        return ours


def reach_by_path(tree: GrownTree) -> dict[tuple[int, ...], float]:
    """Reach of each draft by the tokens from the root to it."""
    paths: list[tuple[int, ...]] = []
    for token, parent in zip(tree.tokens, tree.parents):
        paths.append((*(paths[parent] if parent >= 0 else ()), token))
    return dict(zip(paths, tree.reaches))


@pytest.fixture(scope="module", params=["bfloat16", "float32"])
def model(request: pytest.FixtureRequest) -> Iterator[LanguageModel]:
    loaded = load_model(device="cpu", dtype=request.param)
    yield loaded
    unload(loaded)


@pytest.fixture(scope="module")
def lookahead(model: LanguageModel) -> LookaheadEmbeddings:
    found = default_lookahead(model)
    assert found is not None
    return found


SETTINGS = {
    "auto": DecodingSettings(),
    "16 rows": DecodingSettings(auto=False, row_budget=16),
    "chain": DecodingSettings(auto=False, k=3),
    "greedy": DecodingSettings(auto=False, row_budget=16, sampling=SamplingSettings(0.0, 10)),
    "top-k off": DecodingSettings(auto=False, row_budget=16, sampling=SamplingSettings(0.9, 0)),
    "top-k 200": DecodingSettings(auto=False, row_budget=16, sampling=SamplingSettings(1.2, 200)),
    "top-p": DecodingSettings(auto=False, row_budget=16, sampling=SamplingSettings(1.1, 40, 0.9, 0.02)),
    "no head": DecodingSettings(
        auto=False, row_budget=16, disabled_parts=frozenset({LookaheadPart.SAMPLER, LookaheadPart.BIGRAMS})
    ),
    "rejection": DecodingSettings(auto=False, k=3, verification=Verification.REJECTION),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_text_of_the_real_model_is_answered_alike(
    name: str, model: LanguageModel, lookahead: LookaheadEmbeddings
) -> None:
    engine = Engine(model)
    both = Both(make_kernels(model, engine.runtime), ReferenceKernels(model, torch.bfloat16))
    watched = Engine(model, runtime=engine.runtime, kernels=both)
    settings, stop = SETTINGS[name], StopConditions(24, ignore_eos=True)
    seen = [t.id for s in watched.decode(TEXT, settings, lookahead=lookahead, stop=stop) for t in s.tokens]
    forced = Engine(model, runtime=engine.runtime, kernels=ReferenceKernels(model, torch.bfloat16))
    if settings.verification is Verification.COUPLED:
        assert [t.id for s in forced.decode(TEXT, settings, lookahead=lookahead, stop=stop) for t in s.tokens] == seen
    assert both.asked["grow_tree"] > 3
    assert both.asked["sample_path" if settings.verification is Verification.COUPLED else "top_k"] > 3
