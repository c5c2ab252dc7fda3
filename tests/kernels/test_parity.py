"""Every operation over both implementations and over the one written node by node: the same choices, bit for bit."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from pass_core.kernels.interface import DraftRows, GrownTree, Kernels, PlanRequest, WalkRequest
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.sampling.noise import Stream, stream_hash
from pass_core.settings import SamplingSettings
from tests.kernels import oracle
from tests.kernels.makers import (
    NAMES,
    REQUESTS,
    VOCABULARY,
    bfloat16_model,
    compiled,
    kernels_named,
    repetitive,
    request_for,
    whole_numbers,
)

HEADS = ("none", "sampler", "bigrams")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return bfloat16_model()


@pytest.fixture(scope="module")
def runtime(model: LanguageModel) -> NativeRuntime:
    return NativeRuntime(model, threads=2)


# The largest logits


def rows_of(kind: str, vocabulary: int, generator: np.random.Generator) -> torch.Tensor:
    if kind == "whole":  # ties are frequent, within the kept tokens and at their edge
        numbers = generator.integers(-6, 7, (5, vocabulary)).astype(np.float32)
        numbers[generator.random(numbers.shape) < 0.1] *= -0.0
        return torch.from_numpy(numbers)
    return torch.from_numpy(generator.normal(0, 3, (5, vocabulary)).astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocabulary", [6, 50, 130, 2560, 2561])
@pytest.mark.parametrize("kind", ["whole", "normal"])
def test_the_largest_logits_are_those_of_a_full_sort(name: str, vocabulary: int, kind: str) -> None:
    kernels = kernels_named(name)
    logits = rows_of(kind, vocabulary, np.random.default_rng(vocabulary))
    for count in (1, 3, 10, 20, 200, vocabulary, vocabulary + 1):
        for rows in (None, [4, 0, 0], []):
            ids, values = kernels.top_k(logits, count, rows)
            chosen = logits.numpy()[range(5) if rows is None else rows]
            expected = [oracle.top(row, count).tolist() for row in chosen]
            assert ids.tolist() == expected
            assert values.tolist() == [row[best].tolist() for row, best in zip(chosen, expected)]
            assert ids.shape == values.shape == (len(chosen), min(count, vocabulary))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_that_is_not_there_is_refused(name: str) -> None:
    for rows in ([3], [-1, 7]):
        with pytest.raises(IndexError):
            kernels_named(name).top_k(torch.zeros(3, 2560), 10, rows)


# The walk


def cut_of(sampling: SamplingSettings) -> tuple[float, float]:
    return sampling.top_p, sampling.log_min_p


def tree_of(logits: np.ndarray, request: WalkRequest, generator: np.random.Generator) -> tuple[list[int], list[int]]:
    """Drafts of which many are what the target samples, and some stand twice."""
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    for index in range(logits.shape[0] - 1):
        parent = int(generator.integers(-1, index)) if index else -1
        depth = 1 if parent < 0 else depths[parent] + 1
        below = logits[parent + 1 : parent + 2]
        (sample,) = oracle.walk(below, replace(request, position=request.position + depth - 1), [], [])[1]
        tokens.append(sample if generator.random() < 0.7 else int(generator.integers(logits.shape[1])))
        parents.append(parent)
        depths.append(depth)
    return tokens, parents


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocabulary", [300, 2560, 128 * 200])
@pytest.mark.parametrize("top_k", [0, 1, 3, 10, 200])
@pytest.mark.parametrize("temperature", [1e-30, 0.8, 1.3])
def test_the_walk_meets_the_rows_of_the_walk_by_hand(
    name: str, vocabulary: int, top_k: int, temperature: float
) -> None:
    compare_walks(name, vocabulary, top_k, temperature)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocabulary", [300, 2560])
@pytest.mark.parametrize("top_k", [3, 200])
@pytest.mark.parametrize("cut", [(0.6, 0.0), (1.0, 0.2), (0.95, 0.05), (1e-9, 1.0)])
def test_the_walk_samples_what_top_p_and_min_p_leave(
    name: str, vocabulary: int, top_k: int, cut: tuple[float, float]
) -> None:
    for temperature in (1e-30, 0.8):
        compare_walks(name, vocabulary, top_k, temperature, *cut_of(SamplingSettings(1.0, top_k, *cut)))


def compare_walks(
    name: str, vocabulary: int, top_k: int, temperature: float, top_p: float = 1.0, log_min_p: float = -np.inf
) -> None:
    kernels = kernels_named(name)
    generator = np.random.default_rng(7)
    levels = 0
    for case in range(2 if vocabulary > 2560 or not top_k else 12):
        logits = rows_of("whole" if case % 2 else "normal", vocabulary, generator)
        request = WalkRequest(stream_hash(case, Stream.TARGET), 40, temperature, top_k, top_p, log_min_p)
        tokens, parents = tree_of(logits.numpy(), request, generator)
        path = kernels.sample_path(logits, request, tokens, parents)
        rows, samples = oracle.walk(logits.numpy(), request, tokens, parents)
        assert (path.rows, path.samples) == (rows, samples)
        if top_k:
            expected = [oracle.top(logits.numpy()[row], top_k).tolist() for row in rows]
            assert path.ids.tolist() == expected
            values = [logits.numpy()[row][ids] for row, ids in zip(rows, expected)]
            assert path.values.tolist() == [v.tolist() for v in values]
            assert path.kept == [oracle.left(v, request) for v in values]
        assert kernels.sample_path(logits, request).samples == samples[:1]
        levels += len(samples)
    assert levels > (2 if vocabulary > 2560 or not top_k else 12), "the walks went below the root"


# Trees


def assert_same(got: GrownTree, expected: list[oracle.Node]) -> None:
    assert got.tokens == [n.token for n in expected]
    assert got.parents == [n.parent for n in expected]
    assert got.depths == [n.depth for n in expected]
    assert got.reaches == pytest.approx([n.reach for n in expected], rel=1e-12)
    for source, node in zip(got.source, expected, strict=True):
        inside = np.isfinite(got.log_p[source])
        np.testing.assert_array_equal(got.ids[source][inside], node.ids)
        np.testing.assert_allclose(got.log_p[source][inside], node.log_p, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("repeats", [True, False], ids=["repeats", "no repeats"])
@pytest.mark.parametrize("kind", ["none", "bigrams"])
@pytest.mark.parametrize("case", REQUESTS)
def test_trees_are_those_grown_by_hand(name: str, repeats: bool, kind: str, case: str, request_model) -> None:
    """Whole numbers: scores are exact, so that every implementation has the same ones, and ties are frequent."""
    exact, rows, head_weight, shifts, runtime = request_model
    kernels = kernels_named(name, exact, runtime)
    head = kernels.bigram_head(Bigrams(shifts.bfloat16())) if kind == "bigrams" else None
    scores = None
    if head is not None:
        known = shifts.numpy()
        scores = oracle.exact_scores(
            lambda t: known[t] if t < len(known) else np.zeros(known.shape[1]), rows.hidden, rows.at, head_weight
        )
    text = repetitive() if repeats else None
    for number in range(3):
        grow = request_for(case, number, head=head is not None)
        assert_same(kernels.grow_tree(rows, grow, head, text), oracle.grow(rows, grow, scores, text))


@pytest.fixture(scope="module")
def request_model() -> tuple[LanguageModel, DraftRows, torch.Tensor, torch.Tensor, NativeRuntime | None]:
    exact = bfloat16_model()
    rows, weight = whole_numbers(VOCABULARY, 5)
    exact.lm_head.weight.data.copy_(weight)
    shifts = torch.randint(-2, 3, (VOCABULARY // 2, 64), generator=torch.Generator().manual_seed(6)).float()
    return exact, rows, weight, shifts, None if library() is None else NativeRuntime(exact, threads=2)


def sampler_weights(model: LanguageModel) -> SamplerWeights:
    g = torch.Generator().manual_seed(2)
    hidden = model.hidden_size
    return SamplerWeights(
        torch.randn(48, 2 * hidden, generator=g) / hidden**0.5,
        torch.randn(4, 48, generator=g),
        torch.randn(hidden, 48, generator=g) / 48**0.5,
    )


@compiled
@pytest.mark.parametrize("repeats", [True, False], ids=["repeats", "no repeats"])
@pytest.mark.parametrize("case", REQUESTS)
def test_trees_of_a_sampler_are_the_same_in_both(
    model: LanguageModel, runtime: NativeRuntime, repeats: bool, case: str
) -> None:
    """Sums in float32 differ in their last bits, the trees do not."""
    hidden = torch.randn(7, model.hidden_size, generator=torch.Generator().manual_seed(1))
    rows = DraftRows(hidden, runtime.logits(hidden), [5, 2, 3, 0], [0, 1, 3, 2])
    text = repetitive() if repeats else None
    trees: list[list[GrownTree]] = []
    for name in NAMES:
        kernels = kernels_named(name, model, runtime)
        head = kernels.sampler_head(sampler_weights(model))
        trees.append([kernels.grow_tree(rows, request_for(case, n, head=True), head, text) for n in range(5)])
    for ours, theirs in zip(*trees, strict=True):
        assert (ours.tokens, ours.parents, ours.depths) == (theirs.tokens, theirs.parents, theirs.depths)
        assert ours.reaches == pytest.approx(theirs.reaches, rel=1e-4)
        for a, b in zip(ours.source, theirs.source, strict=True):
            assert ours.ids[a].tolist() == theirs.ids[b].tolist()
            assert ours.log_p[a] == pytest.approx(theirs.log_p[b], abs=1e-4)


@compiled
def test_guesses_and_their_trees_are_the_same_in_both(model: LanguageModel, runtime: NativeRuntime) -> None:
    """A state head, with drafts of its own vocabulary alone."""
    state = torch.randn(model.hidden_size, generator=torch.Generator().manual_seed(4))
    weights = sampler_weights(model)
    tokens = torch.arange(0, VOCABULARY, 2)
    shortlist = runtime.shortlist(tokens)
    guesses: list[torch.Tensor] = []
    trees: list[GrownTree] = []
    for name in NAMES:
        kernels = kernels_named(name, model, runtime)
        head = kernels.guess_head(weights)
        hidden, logits = kernels.guess(head, state, 77, 4, shortlist)()
        guesses.append(hidden)
        assert torch.equal(logits, runtime.logits(hidden)[:, tokens])
        shallow = kernels.guess(head, state, 77, 2, shortlist)
        again = kernels.guess(head, state, 77, 4, shortlist)  # begun before the other one is asked for
        runtime.logits(hidden)  # and something else meanwhile
        assert all(torch.equal(a, b[:2]) for a, b in zip(shallow(), again()))
        assert all(torch.equal(a, b) for a, b in zip(again(), (hidden, logits)))
        rows = DraftRows(guesses[0], shortlist(guesses[0]), range(4), range(4), 1, tokens.numpy())
        trees.append(kernels.grow_tree(rows, request_for("auto", 1, head=True), kernels.sampler_head(weights)))
    assert torch.allclose(*guesses, atol=1e-4)
    assert (trees[0].tokens, trees[0].parents) == (trees[1].tokens, trees[1].parents)
    assert trees[0].tokens
    assert not any(token % 2 for token in trees[0].tokens)


@compiled
def test_guesses_that_nobody_asks_for_end_before_what_they_read(model: LanguageModel) -> None:
    """The threads that make them read the model's and the head's memory."""
    state = torch.randn(model.hidden_size, generator=torch.Generator().manual_seed(4))
    tokens = torch.arange(64)
    for _ in range(20):
        runtime = NativeRuntime(model, threads=2)
        kernels = kernels_named("compiled", model, runtime)
        begun = kernels.guess(kernels.guess_head(sampler_weights(model)), state, 77, 4, runtime.shortlist(tokens))
        del kernels, runtime, begun
        gc.collect()


@compiled
def test_trees_of_a_draft_vocabulary_hold_no_other_token(runtime: NativeRuntime) -> None:
    wide = bfloat16_model(vocab_size=2 * VOCABULARY)
    both = NativeRuntime(wide, threads=2)
    hidden = torch.randn(4, wide.hidden_size, generator=torch.Generator().manual_seed(4))
    tokens = torch.randperm(2 * VOCABULARY, generator=torch.Generator().manual_seed(5))[:VOCABULARY].sort().values
    cut = torch.full((4, 2 * VOCABULARY), -1e9).index_copy_(1, tokens, both.logits(hidden)[:, tokens])
    request = request_for("budget", 2, head=False)
    rows = DraftRows(hidden, both.shortlist(tokens)(hidden), range(4), range(4), tokens=tokens.numpy())
    for name in NAMES:
        kernels = kernels_named(name, wide, both)
        ours = kernels.grow_tree(rows, request)
        assert ours.tokens == kernels.grow_tree(DraftRows(hidden, cut, range(4), range(4)), request).tokens
        assert set(ours.tokens) <= set(tokens.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_do_not_compare_still_give_a_tree(name: str, model: LanguageModel, runtime: NativeRuntime) -> None:
    rows, _ = whole_numbers(VOCABULARY, 5)
    rows.logits[2] = float("nan")
    assert kernels_named(name, model, runtime).grow_tree(rows, request_for("auto", 0, head=False)).tokens


# The shape of a call


@st.composite
def plans(draw: st.DrawFn) -> PlanRequest:
    count = draw(st.integers(0, 14))
    parents = [draw(st.integers(-1, i - 1)) for i in range(count)]
    reaches: list[float] = []
    for parent in parents:
        siblings = parents.count(parent)
        above = 1.0 if parent < 0 else reaches[parent]
        reaches.append(above * draw(st.floats(0.02, 0.98)) / siblings)
    order = sorted(range(count), key=lambda i: (-reaches[i], i))
    place = {-1: -1, **{old: new for new, old in enumerate(order)}}
    limit = draw(st.integers(1, 24))
    rising = np.cumsum([draw(st.floats(0.0, 0.4)) for _ in range(limit + 1)])
    most = min(count, limit - 1)
    return PlanRequest(
        0.6,
        3,
        limit,
        [reaches[i] for i in order],
        [place[parents[i]] for i in order],
        draw(st.lists(st.floats(0.02, 0.98), max_size=6)),
        [n for n in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12) if n < most] + [most],
        rising,
    )


@pytest.mark.parametrize("name", NAMES)
@seed(12)
@settings(max_examples=150, deadline=None)
@given(request=plans())
def test_the_shape_is_worth_what_the_search_by_hand_finds(name: str, request: PlanRequest) -> None:
    got, expected = kernels_named(name).plan_call(request), oracle.plan(request)
    assert got.rows <= request.rows_limit
    assert len(got.chains) == got.drafts + 1
    assert all(0 <= c <= len(request.hits) for c in got.chains)
    assert got == expected or oracle.worth(request, got) == pytest.approx(oracle.worth(request, expected), abs=1e-9)


@compiled
@seed(13)
@settings(max_examples=200, deadline=None)
@given(request=plans())
def test_both_implementations_choose_the_same_shape(request: PlanRequest) -> None:
    ours, theirs = (kernels_named(name).plan_call(request) for name in NAMES)
    assert ours == theirs
    assert ours.value == pytest.approx(theirs.value, abs=1e-9)


def test_names_are_those_of_the_table() -> None:
    every: list[Kernels] = [kernels_named(name) for name in NAMES]
    assert len({k.description for k in every}) == len(every)
