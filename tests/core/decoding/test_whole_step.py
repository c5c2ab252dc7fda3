"""Whole steps on the device, over recorded graphs: the walks, trees and texts of the kernels on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch

from pass_core.decoding.events import DraftSource
from pass_core.decoding.repetition_bonus import HISTORY
from pass_core.decoding.step_recorder import TOP_CANDIDATES
from pass_core.engine import Engine
from pass_core.kernels.device_step import NextTree, Source, StepRecord
from pass_core.kernels.device_steps import DeviceSteps
from pass_core.kernels.interface import DraftRows, GrownTree, Kernels, WalkRequest
from pass_core.kernels.native import NativeKernels
from pass_core.kernels.reference import ReferenceKernels
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Cache
from pass_core.runtime.cost import CostModel
from pass_core.runtime.cuda_graphs.buckets import row_bucket
from pass_core.runtime.cuda_graphs.graphs import Captured, Work
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.runtime.native.build import library
from pass_core.runtime.rows import IntArray, Rows
from pass_core.settings import (
    DecodingSettings,
    LookaheadPart,
    SamplingSettings,
    StopConditions,
    Strategy,
    Verification,
)
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, EVERY_PART, Result, random_bigrams, random_lookahead, run
from tests.core.runtime.recorded import RecordedGraphs
from tests.engines import use

LENGTH, PROMPT, VOCABULARY = 4, [1, 5, 2, 7, 1, 5], 40
NONE = frozenset[LookaheadPart]()
STATE = frozenset({LookaheadPart.STATE})
SAMPLER = frozenset({LookaheadPart.SAMPLER})
FREE = CostModel({1: 1.0, 48: 1.0}, clock=lambda: 0.0, tokens=CostModel({1: 1.0, 48: 1.0}, clock=lambda: 0.0))


def on_device(model: LanguageModel, **parts: Any) -> CudaGraphRuntime:
    """The model's engine takes whole steps from now on."""
    runtime = CudaGraphRuntime(model, RecordedGraphs())
    use(model, runtime=runtime, kernels=ReferenceKernels(model), **parts)
    return runtime


@dataclass
class Watch:
    """Compares every whole step with what the kernels on the CPU make of the same states."""

    kernels: Kernels | None = None
    steps: int = 0
    declined: int = 0
    drafts: int = 0
    grown: int = 0
    exact: int = 0

    def compare(
        self,
        steps: DeviceSteps,
        length: int,
        rows: Rows,
        drafts: int,
        chains: list[int],
        walked: WalkRequest,
        source: Source | None,
        grown: NextTree | None,
        record: StepRecord,
    ) -> None:
        self.steps += 1
        model, size = steps._model, row_bucket(rows.count)
        assert size is not None
        kernels = self.kernels or ReferenceKernels(model)
        states = steps.runtime._states[size]  # of padding rows, too: a product's bits depend on its rows
        with torch.inference_mode():
            logits = model.logits(states)
        tokens, parents = rows.tokens[1 : drafts + 1].tolist(), (rows.parents[1 : drafts + 1] - 1).tolist()
        walk = replace(walked, position=length + 1)
        path = kernels.sample_path(logits[: drafts + 1], walk, tokens, parents)
        assert (record.path.rows, record.path.samples) == (path.rows, path.samples)
        assert record.path.kept == path.kept
        np.testing.assert_array_equal(record.path.ids, path.ids)
        np.testing.assert_array_equal(record.path.values, path.values)
        if source is None or grown is None:
            assert record.tree is None
            return
        assert record.tree is not None
        stop, root = path.rows[-1], path.samples[-1]
        most = max(0, min(grown.depth, grown.remaining - len(path.samples) - 1))
        if source.guess is None:
            at, of = chain_of(path.rows, np.cumsum([1 + drafts, *chains])[:-1].tolist(), chains)
            at, of = at[:most], of[:most]
            given = DraftRows(states, logits, at, of, source.plain)
        else:
            with torch.inference_mode():
                assert source.shortlist is not None
                guesses, scores = kernels.guess(source.guess, states[stop], root, source.depth, source.shortlist)()
            at = of = list(range(min(most, source.depth)))
            given = DraftRows(guesses, scores, at, of, source.plain, source.tokens)
        assert record.steps == of
        if not of:
            assert not record.tree.tokens
            return
        text = None
        if source.bonus is not None:
            assert grown.text is not None
            text = np.concatenate((grown.text, path.samples))[-HISTORY:]
        request = replace(
            grown.request,
            position=length + 1 + len(path.samples),
            before=int(rows.tokens[stop]),
            root=root,
            shares=grown.request.shares[: len(of)],
        )
        expected = kernels.grow_tree(given, request, source.head, text)
        # The bits of a head's float32 products depend on how many rows they have: the device computes all depths and
        # nodes, even where some are not used.
        same_rows = len(of) == source.depth and request.top_k >= source.width
        assert_same(record.tree, expected, exact=source.head is None or same_rows)
        self.exact += source.head is None or same_rows
        self.grown += 1
        self.drafts += len(expected.tokens)


def assert_same(got: GrownTree, expected: GrownTree, *, exact: bool) -> None:
    assert got.tokens == expected.tokens
    assert got.parents == expected.parents
    assert got.depths == expected.depths
    np.testing.assert_allclose(got.reaches, expected.reaches, rtol=1e-12 if exact else 1e-4)
    for ours, theirs in zip(got.source, expected.source, strict=True):
        np.testing.assert_array_equal(got.ids[ours], expected.ids[theirs])
        np.testing.assert_allclose(got.log_p[ours], expected.log_p[theirs], rtol=0, atol=1e-12 if exact else 1e-4)


def chain_of(path: list[int], starts: list[int], lengths: list[int]) -> tuple[list[int], list[int]]:
    """Rows and steps that draft the next tree: of the last node's chain, else the rest of those above."""
    at: list[int] = []
    steps: list[int] = []
    for depth in range(1, max(lengths) + 1):
        fits = [(node, depth + up - 1) for up, node in enumerate(reversed(path)) if lengths[node] >= depth + up]
        if not fits:
            break
        node, step = fits[0]
        at.append(starts[node] + step)
        steps.append(step)
    return at, steps


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Every whole step of the test is compared."""
    watched, real = Watch(), DeviceSteps.run

    def run_and_compare(
        self: DeviceSteps,
        cache: Cache,
        rows: Rows,
        drafts: int,
        chains: IntArray,
        levels: int,
        walked: WalkRequest,
        source: Source | None,
        grown: NextTree | None,
    ) -> tuple[torch.Tensor, StepRecord] | None:
        if grown is not None and grown.text is not None:
            grown = replace(grown, text=grown.text.copy())  # the memory goes on writing into it
        done = real(self, cache, rows, drafts, chains, levels, walked, source, grown)
        if done is None:
            watched.declined += 1
        else:
            watched.compare(self, cache.length, rows, drafts, list(chains), walked, source, grown, done[1])
        return done

    monkeypatch.setattr(DeviceSteps, "run", run_and_compare)
    yield watched
    assert watched.declined == 0


def write(model: LanguageModel, lookahead: LookaheadEmbeddings | None, **settings: Any) -> Result:
    return run(model, PROMPT, Strategy.FUSED, seed=3, lookahead=lookahead, **{"count": 16, **settings})


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_walks_trees_and_texts_are_those_of_the_cpu(family: str, watch: Watch) -> None:
    model = tiny.FAMILIES[family](vocabulary=VOCABULARY)
    plain = run(model, PROMPT, seed=3, count=16).ids
    runtime = on_device(model)
    assert run(model, PROMPT, seed=3, count=16).ids == plain
    assert watch.steps == 16  # plain decoding, too
    for parts, budget, k in ((NONE, 20, 4), (ALL_PARTS, 9, 3), (EVERY_PART, 16, 4)):
        watch.steps = 0
        got = write(model, random_lookahead(model, LENGTH, parts, seed=k), k=k, row_budget=budget)
        assert got.ids == plain
        assert watch.steps == len(got.steps)
    assert watch.grown > 15
    assert watch.exact > 2
    assert runtime.trouble == ""


SAMPLINGS = [(0.0, 10), (0.8, 1), (0.8, 3), (0.7, 39), (1.7, 16), (2.0, 17)]


@pytest.mark.parametrize("parts", [NONE, SAMPLER, EVERY_PART], ids=["bigrams", "sampler", "state"])
def test_all_settings(parts: frozenset[LookaheadPart], watch: Watch) -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    lookahead = random_lookahead(model, LENGTH, parts)
    plain = {s: run(model, PROMPT, seed=3, count=12, temperature=s[0], top_k=s[1]).ids for s in SAMPLINGS}
    on_device(model, cost=FREE, bigrams=random_bigrams(model, 30))
    for number, ((temperature, top_k), expected) in enumerate(plain.items()):
        auto, disabled = (True, NONE) if number % 2 else (False, frozenset({LookaheadPart.REPEATS}))
        got = write(
            model,
            lookahead,
            count=12,
            temperature=temperature,
            top_k=top_k,
            k=4,
            auto=auto,
            row_budget=None if auto else 12,
            disabled_parts=disabled,
        )
        assert got.ids == expected
    assert watch.drafts > 200
    assert watch.exact > 5


@pytest.mark.skipif(library() is None, reason="no compiled library")
@pytest.mark.parametrize("parts", [NONE, SAMPLER, STATE], ids=["bare", "sampler", "state"])
def test_trees_are_those_of_the_compiled_kernels(parts: frozenset[LookaheadPart], watch: Watch) -> None:
    model = tiny.tiny_llama(
        hidden_size=64, intermediate_size=96, num_attention_heads=4, vocab_size=128 * 128, initializer_range=0.3
    )
    found = library()
    assert found is not None
    if parts == NONE:
        watch.kernels = NativeKernels(found, model, None)
    on_device(model)
    for temperature in (0.0, 0.8):
        write(model, random_lookahead(model, LENGTH, parts), temperature=temperature, k=4, row_budget=24)
    assert watch.drafts > 100


def test_settings_act_on_the_next_step(watch: Watch) -> None:
    """Without a new capture: they travel in the inputs."""
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    graphs = RecordedGraphs()
    engine = Engine(model, runtime=CudaGraphRuntime(model, graphs), kernels=ReferenceKernels(model))
    lookahead = random_lookahead(model, LENGTH, EVERY_PART)
    made = [
        DecodingSettings(k=k, auto=False, row_budget=budget, sampling=SamplingSettings(t, top_k), verification=rule)
        for t, top_k, k, budget, rule in (
            (0.8, 10, 4, 12, Verification.COUPLED),
            (1.9, 3, 2, 11, Verification.COUPLED),
            (0.0, 10, 4, 13, Verification.COUPLED),
            (0.8, 10, 3, 12, Verification.REJECTION),
            (0.5, 16, 4, 12, Verification.COUPLED),
        )
    ]

    def text() -> list[tuple[int, float]]:
        asked = iter(s for s in made * 8 for _ in range(2))
        steps = list(engine.decode(PROMPT, lambda: next(asked), lookahead=lookahead, stop=StopConditions(20), seed=3))
        for step in steps:
            sampling = step.settings.sampling
            kept = 1 if sampling.temperature == 0.0 else min(sampling.top_k, TOP_CANDIDATES)
            assert [len(token.top) for token in step.tokens] == [kept] * len(step.tokens)
        return [(t.id, t.p_target) for step in steps for t in step.tokens]

    engine.prepare(lookahead)
    captures = graphs.captures
    plain = DecodingSettings(Strategy.AUTOREGRESSIVE)
    assert len(list(engine.decode(PROMPT, plain, stop=StopConditions(8, ignore_eos=True)))) == 8
    assert graphs.captures == captures  # `prepare` has made them
    first = text()
    captures = graphs.captures
    assert text() == first
    assert graphs.captures == captures
    assert watch.steps > 8


def test_what_is_done_otherwise(watch: Watch) -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    lookahead = random_lookahead(model, LENGTH, EVERY_PART)
    on_device(model)
    for settings in (
        {"verification": Verification.REJECTION, "row_budget": 12},
        {"top_k": 0, "row_budget": 12},
        {"top_k": VOCABULARY, "row_budget": 12},
        {"row_budget": 100},
        {"row_budget": 12, "top_p": 0.9},
        {"row_budget": 12, "min_p": 0.1},
    ):
        write(model, lookahead, k=4, **settings)
    run(model, PROMPT, Strategy.TWO_CALL, k=3, count=12, lookahead=lookahead)
    assert watch.steps == 0


def test_prompt_lookup_adds_to_the_trees_of_the_device(watch: Watch) -> None:
    model = tiny.tiny_llama(vocabulary=12)
    plain = run(model, PROMPT * 3, seed=1, count=30, temperature=0.3).ids
    on_device(model)
    got = run(
        model,
        PROMPT * 3,
        Strategy.FUSED,
        seed=1,
        count=30,
        temperature=0.3,
        k=4,
        lookahead=random_lookahead(model, LENGTH, EVERY_PART),
        row_budget=16,
        prompt_lookup=True,
    )
    assert got.ids == plain
    assert {d.source for s in got.steps for d in s.drafts} > {DraftSource.LOOKUP}
    assert watch.steps == len(got.steps)


class Stale:
    """Graphs whose record is that of the capture, while the states are those of the pass."""

    name = "graphs"

    def capture(self, work: Work) -> Captured:
        kept = work().clone()

        def replay() -> torch.Tensor:
            got = work()
            return got if got.dtype.is_floating_point else kept

        return Captured(replay)


def test_a_record_that_does_not_follow_from_the_pass_is_not_believed() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    plain = run(model, PROMPT, seed=3, count=20).ids
    runtime = CudaGraphRuntime(model, Stale())
    use(model, runtime=runtime, kernels=ReferenceKernels(model))
    assert write(model, random_lookahead(model, LENGTH), k=4, row_budget=12, count=20).ids == plain
    assert "differs from what follows" in runtime.trouble


def test_a_tree_of_other_settings_is_grown_anew(watch: Watch) -> None:
    """A draft distribution has the tokens that the settings of its step leave."""
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    engine = Engine(model, runtime=CudaGraphRuntime(model, RecordedGraphs()), kernels=ReferenceKernels(model))
    lookahead = random_lookahead(model, LENGTH, SAMPLER)
    top_ks = cycle((2, 3))
    settings = DecodingSettings(k=4, auto=False, row_budget=16)

    def ask() -> DecodingSettings:
        return replace(settings, sampling=SamplingSettings(0.8, next(top_ks)))

    kept: set[int] = set()
    for step in engine.decode(PROMPT, ask, lookahead=lookahead, stop=StopConditions(16), seed=3):
        below = [d.p_draft for d in step.drafts if d.parent is None]
        assert len(below) <= step.settings.sampling.top_k
        if len(below) == step.settings.sampling.top_k:
            assert sum(p or 0.0 for p in below) == pytest.approx(1.0)
            kept.add(len(below))
    assert kept == {2, 3}
    assert watch.grown > 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_whole_steps_on_a_gpu() -> None:
    model = tiny.tiny_llama(vocabulary=VOCABULARY)
    model.model.to("cuda")
    engine = use(model)
    plain = run(model, PROMPT, seed=3, count=40).ids
    for parts in (NONE, SAMPLER, EVERY_PART):
        got = write(model, random_lookahead(model, LENGTH, parts), k=4, row_budget=16, count=40)
        assert got.ids == plain
    assert isinstance(engine.runtime, CudaGraphRuntime)
    assert engine.runtime.trouble == ""
