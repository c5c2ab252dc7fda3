"""Trees grown in the compiled library are those that Python grows, draft by draft."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pass_core.decoding import propose_tree as growing
from pass_core.decoding.acceptance import AcceptanceModel
from pass_core.decoding.lookahead_proposer import LookaheadDrafts
from pass_core.decoding.propose_tree import Proposals, grow_tree
from pass_core.decoding.tree import DraftTree
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.draft_heads import DraftHead
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.rules import CoupledRule
from pass_core.settings import DecodingSettings, SamplingSettings
from tests import tiny

compiled = pytest.mark.skipif(library() is None, reason="no C++ compiler on this machine")
VOCABULARY = 128 * 128  # the library selects 128 candidates from no fewer
STEPS = 4


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    made = tiny.tiny_llama(
        hidden_size=64, intermediate_size=96, num_attention_heads=4, vocab_size=VOCABULARY, initializer_range=0.3
    )
    made.model.to(torch.bfloat16)
    return made


@pytest.fixture(scope="module")
def runtime(model: LanguageModel) -> NativeRuntime:
    return NativeRuntime(model, threads=2)


def head(runtime: NativeRuntime) -> DraftHead:
    g = torch.Generator().manual_seed(2)
    hidden = runtime.model.hidden_size
    return runtime.sampler_head(
        SamplerWeights(
            torch.randn(48, 2 * hidden, generator=g) / hidden**0.5,
            torch.randn(STEPS, 48, generator=g),
            torch.randn(hidden, 48, generator=g) / 48**0.5,
        )
    )


def bigrams(runtime: NativeRuntime) -> DraftHead:
    """Vectors for a part of the vocabulary only."""
    g = torch.Generator().manual_seed(3)
    return runtime.bigram_head(Bigrams(torch.randn(VOCABULARY // 2, runtime.model.hidden_size, generator=g).bfloat16()))


def repetitive(vocabulary: int) -> np.ndarray:
    """A text with most of its pairs twice, 77 after 60 among them."""
    half = np.random.default_rng(4).integers(0, vocabulary, 300)
    half[-2:] = 60, 77
    return np.concatenate((half, half))


HEADS = {"sampler": head, "bigrams": bigrams, "none": lambda _: None}


def drafts(
    runtime: NativeRuntime, sampler: DraftHead | None, *, known: bool = True, text: np.ndarray | None = None
) -> LookaheadDrafts:
    """Rows 5, 2, 3 and 0 of a call of seven."""
    hidden = torch.randn(7, runtime.model.hidden_size, generator=torch.Generator().manual_seed(1)).contiguous()
    logits = runtime.logits(hidden) if known else None
    return LookaheadDrafts(runtime, hidden, [5, 2, 3, 0], [0, 1, 3, 2], sampler, logits, text)


def grown(chain: LookaheadDrafts, settings: DecodingSettings, *, seed: int = 11, limit: int = 40) -> Proposals:
    return grow_tree(chain, (60, 77), 20, seed, 4, settings, CoupledRule(), AcceptanceModel(), limit)


def assert_same(fast: DraftTree, slow: DraftTree) -> None:
    assert len(fast) == len(slow)
    for a, b in zip(fast.drafts, slow.drafts, strict=True):
        assert (a.token, a.parent, a.depth, a.source) == (b.token, b.parent, b.depth, b.source)
        assert a.reach == pytest.approx(b.reach, rel=1e-6)
        assert a.distribution.ids.tolist() == b.distribution.ids.tolist()
        assert a.distribution.log_p == pytest.approx(b.distribution.log_p, abs=1e-5)


AUTO = DecodingSettings(auto=True)


@compiled
@pytest.mark.parametrize("repeats", [True, False], ids=["repeats", "no repeats"])
@pytest.mark.parametrize("known", [True, False], ids=["logits known", "logits not known"])
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(
    "settings",
    [
        AUTO,
        DecodingSettings(auto=False, row_budget=30),
        DecodingSettings(auto=False),
        DecodingSettings(auto=True, sampling=SamplingSettings(0.0)),
        DecodingSettings(auto=False, sampling=SamplingSettings(0.0)),
        DecodingSettings(auto=True, sampling=SamplingSettings(1.7, 3)),
        DecodingSettings(auto=True, sampling=SamplingSettings(0.8, 0)),
        DecodingSettings(auto=True, sampling=SamplingSettings(0.8, 120)),
    ],
    ids=["auto", "budget", "chain", "greedy", "greedy chain", "hot", "no top-k", "top-k 120"],
)
def test_the_library_grows_the_same_tree(
    runtime: NativeRuntime,
    settings: DecodingSettings,
    kind: str,
    known: bool,
    repeats: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coherent, sampler = kind != "none", HEADS[kind](runtime)
    text = repetitive(VOCABULARY) if repeats else None
    calls: list[bool] = []
    inner = growing.grow

    def watched(*arguments: object) -> object:
        found = inner(*arguments)  # pyright: ignore
        calls.append(found is not None)
        return found

    for seed in range(5):
        monkeypatch.setattr(growing, "grow", watched)
        fast = grown(drafts(runtime, sampler, known=known, text=text), settings, seed=seed)
        monkeypatch.setattr(growing, "grow", lambda *_: None)
        slow = grown(drafts(runtime, sampler, known=known, text=text), settings, seed=seed)
        assert len(slow.reaches) > 0
        assert fast.parents == slow.parents
        assert_same(fast.first(len(fast.reaches)), slow.first(len(slow.reaches)))
        assert_same(fast.first(2), slow.first(2))
    # Without a sampler head and top-k the whole vocabulary would have to be drawn from: Python's work.
    assert calls == ([True] * 5 if coherent or settings.sampling.top_k else [])


@compiled
def test_a_draft_tree_keeps_to_its_limit_and_parents_come_first(runtime: NativeRuntime) -> None:
    proposals = grown(drafts(runtime, head(runtime)), AUTO, limit=9)
    assert len(proposals.reaches) == 9
    assert proposals.reaches == sorted(proposals.reaches, reverse=True)
    assert all(parent < i for i, parent in enumerate(proposals.parents))


@compiled
def test_numbers_that_do_not_compare_are_left_to_python(runtime: NativeRuntime) -> None:
    chain = drafts(runtime, None)
    chain.logits[2] = float("nan")
    assert len(grown(chain, AUTO).reaches) > 0


@compiled
def test_at_temperature_0_siblings_are_the_likeliest_drafts(runtime: NativeRuntime) -> None:
    settings = DecodingSettings(auto=False, row_budget=40, sampling=SamplingSettings(0.0, 3))
    chain = drafts(runtime, None)
    tree = grown(chain, settings).first(40)
    plain = chain.distributions(1, [(60, 77)], SamplingSettings(1.0, 10))[0]
    below_root = [d for d in tree.drafts if d.parent == -1]
    assert [d.token for d in below_root] == plain.ids[: len(below_root)].tolist()
    assert len(below_root) > 3


@compiled
def test_another_rule_draws_its_own_drafts(runtime: NativeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(CoupledRule):
        def draw_drafts(
            self, drafts: Sequence[Distribution], seed: int, position: int, count: int
        ) -> list[list[tuple[int, float]]]:
            return [[(9, 0.0)] for _ in drafts]

    def refuse(*_: object) -> None:
        raise AssertionError("the library draws by the coupled rule")

    monkeypatch.setattr(growing, "grow", refuse)
    tree = grow_tree(drafts(runtime, None), (60, 77), 20, 11, 3, AUTO, Own(), AcceptanceModel(), 40).first(2)
    assert [d.token for d in tree.drafts] == [9, 9]
