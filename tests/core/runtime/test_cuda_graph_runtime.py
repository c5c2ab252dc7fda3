"""Captured calls without a GPU: the same numbers as eager ones, from static buffers alone, or a fall back to them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.cuda_graphs.graphs import Captured, Rerun, Work
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime, unsupported_reason
from pass_core.runtime.rows import Rows, RowsBuilder, chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.settings import LookaheadPart, Strategy
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, random_lookahead, run
from tests.core.runtime.recorded import RecordedGraphs
from tests.engines import use

LENGTH = 3
TEXT = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5], dtype=np.int64)


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.FAMILIES[request.param]()


def tree(seed: int = 0, tokens: int = 4) -> Rows:
    """A random tree of tokens with look-ahead chains below the root and another node: 5 more rows."""
    random = np.random.default_rng(seed)
    rows = RowsBuilder()
    nodes = [rows.add_token(int(random.integers(64)))]
    for _ in range(tokens - 1):
        nodes.append(rows.add_token(int(random.integers(64)), int(random.choice(nodes))))
    rows.add_lookahead_chain(2, nodes[0])
    rows.add_lookahead_chain(3, int(random.choice(nodes)))
    return rows.build()


def drive(runtime: TorchRuntime, calls: int = 6, start: int = TEXT.size) -> list[torch.Tensor]:
    """Hidden states of a prompt and of calls of many sizes, some of whose rows are kept."""
    cache = runtime.new_cache(400)
    states = [runtime.forward(cache, chain_rows(np.resize(TEXT, start)))]
    cache.commit(range(start))
    for seed in range(calls):
        rows = tree(seed, tokens=1 + 5 * seed) if seed % 3 else chain_rows(TEXT[: 1 + seed])
        states.append(runtime.forward(cache, rows))
        path = [rows.count - 1] if rows.is_chain else [0]
        while rows.is_chain and rows.parents[path[0]] >= 0:
            path.insert(0, int(rows.parents[path[0]]))
        cache.commit(path)
    return states


@pytest.mark.parametrize(
    ("family", "attention"), [*((f, "sdpa") for f in tiny.FAMILIES), ("llama", "eager"), ("gpt2", "eager")]
)
def test_every_row_is_that_of_an_eager_call(family: str, attention: str) -> None:
    model = tiny.FAMILIES[family](attention=attention, context=512)
    graphs = RecordedGraphs()
    runtime, eager = CudaGraphRuntime(model, graphs), TorchRuntime(model)
    lookahead = random_lookahead(model, LENGTH, ALL_PARTS)
    for one in (runtime, eager):
        one.use_lookahead(lookahead)
    for start in (TEXT.size, 100, 1):  # the second and third run replay what the first captured
        for got, expected in zip(drive(runtime, start=start), drive(eager, start=start), strict=True):
            assert torch.allclose(got, expected, atol=1e-5, rtol=1e-4)
    assert runtime.trouble == ""
    assert graphs.captures == len(runtime._captured)
    # The first prompt of all is eager: it shows the shape of keys.
    assert {key[0] for key in runtime._captured} == {1, 4, 16, 32}


def test_rows_that_pad_a_call_leave_no_trace(model: LanguageModel) -> None:
    """Calls of all sizes up to the largest bucket, at an empty cache, too, where padding rows have nothing to see."""
    runtime, eager = CudaGraphRuntime(model, RecordedGraphs()), TorchRuntime(model)
    runtime.forward(runtime.new_cache(64), chain_rows(TEXT))
    for count in (1, 2, 3, 5, 9, 17, 25, 33, 47, 63, 64):
        cache, reference = runtime.new_cache(100), eager.new_cache(100)
        rows = chain_rows(np.arange(count) % 60)
        for _ in range(2):
            got = runtime.forward(cache, rows)
            assert got.shape == (count, model.hidden_size)
            assert torch.allclose(got, eager.forward(reference, rows), atol=1e-5, rtol=1e-4)
        del cache  # gives its buffers back, so that the next size finds them


@pytest.mark.parametrize("parts", [{LookaheadPart.DEEP}, {LookaheadPart.ADAPTER}, ALL_PARTS])
def test_lookahead_parts_never_touch_token_rows(model: LanguageModel, parts: frozenset[LookaheadPart]) -> None:
    """In captured calls of the same shape: bit for bit."""
    whole = random_lookahead(model, LENGTH, ALL_PARTS)
    rows = tree()
    results: list[torch.Tensor] = []
    for lookahead in (whole.without(ALL_PARTS), whole.without(ALL_PARTS - parts)):
        runtime = CudaGraphRuntime(model, Rerun())
        runtime.use_lookahead(lookahead)
        cache = runtime.new_cache(64)
        runtime.forward(cache, chain_rows(TEXT))
        cache.commit(range(TEXT.size))
        for _ in range(2):
            got = runtime.forward(cache, rows)
        assert runtime.trouble == ""
        results.append(got)
    without, with_parts = results
    is_token = torch.from_numpy(rows.tokens >= 0)
    assert torch.equal(without[is_token], with_parts[is_token])
    assert bool(((without - with_parts)[~is_token].abs().amax(1) > 1e-3).all())


@pytest.mark.parametrize("strategy", [Strategy.TWO_CALL, Strategy.FUSED])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_coupled_text_is_that_of_plain_decoding(family: str, strategy: Strategy) -> None:
    model = tiny.FAMILIES[family](vocabulary=12)
    plain = run(model, [1, 5, 2, 7], seed=1, count=16).ids
    runtime = CudaGraphRuntime(model, RecordedGraphs())
    use(model, runtime=runtime)
    assert run(model, [1, 5, 2, 7], seed=1, count=16).ids == plain
    accepted = 0
    for k, parts, budget in ((3, ALL_PARTS, None), (4, frozenset[LookaheadPart](), 20)):
        got = run(
            model,
            [1, 5, 2, 7],
            strategy,
            seed=1,
            count=16,
            k=k,
            lookahead=random_lookahead(model, 4, parts, seed=k),
            row_budget=budget,
            prompt_lookup=budget is not None,
        )
        assert got.ids == plain, k
        accepted += got.summary.accepted
    assert accepted > 0
    assert runtime.trouble == ""
    assert runtime._captured


def test_a_text_moves_to_larger_buffers_and_stays_the_same() -> None:
    model = tiny.tiny_llama(vocabulary=12, context=1024)
    prompt = (list(range(12)) * 20)[:245]
    lookahead = random_lookahead(model, 4, ALL_PARTS)
    plain = run(model, prompt, seed=3, count=16).ids
    runtime = CudaGraphRuntime(model, Rerun())
    use(model, runtime=runtime)
    assert run(model, prompt, Strategy.FUSED, seed=3, count=16, k=3, lookahead=lookahead).ids == plain
    assert {storage.slots for _, storage, *_ in runtime._captured} == {256, 512}
    before = len(runtime._captured)
    assert run(model, prompt, Strategy.FUSED, seed=3, count=16, k=3, lookahead=lookahead).ids == plain
    assert len(runtime._captured) == before  # a later text needs no new captures


def test_caches_that_live_at_the_same_time_do_not_mix() -> None:
    model = tiny.tiny_llama()
    runtime, eager = CudaGraphRuntime(model, RecordedGraphs()), TorchRuntime(model)
    texts = [TEXT, TEXT[::-1].copy()]
    caches = [(runtime.new_cache(64), eager.new_cache(64)) for _ in texts]
    for (cache, reference), text in zip(caches, texts):
        for one, other in ((runtime, cache), (eager, reference)):
            one.forward(other, chain_rows(text))
            other.commit(range(text.size))
    for _ in range(3):
        for cache, reference in caches:
            got = runtime.forward(cache, chain_rows(TEXT[:2]))
            assert torch.allclose(got, eager.forward(reference, chain_rows(TEXT[:2])), atol=1e-5)
            cache.commit([0])
            reference.commit([0])


def test_files_of_the_same_structure_share_captured_calls() -> None:
    model = tiny.tiny_llama()
    files = [random_lookahead(model, LENGTH, ALL_PARTS, seed=seed) for seed in range(3)]
    kept = [{n: t.clone() for n, t in f.tensors().items()} for f in files]
    graphs = RecordedGraphs()
    runtime, eager = CudaGraphRuntime(model, graphs), TorchRuntime(model)
    captures: list[int] = []
    for lookahead in (*files, files[0]):
        for one in (runtime, eager):
            one.use_lookahead(lookahead)
        for got, expected in zip(drive(runtime, calls=3), drive(eager, calls=3), strict=True):
            assert torch.allclose(got, expected, atol=1e-5, rtol=1e-4)
        captures.append(graphs.captures)
    # The very first prompt was eager, for it shows the shape of keys; the second run captures its size.
    assert captures[1:] == [captures[1]] * 3
    for lookahead, tensors in zip(files, kept):
        assert all(torch.equal(tensors[n], t) for n, t in lookahead.tensors().items())  # nobody wrote into the files


class Failing:
    """Capture raises."""

    name = "graphs"

    def capture(self, work: Work) -> Captured:
        raise RuntimeError("operation not permitted when stream is capturing")


class Wrong:
    """Replays give other numbers than the call did."""

    name = "graphs"

    def capture(self, work: Work) -> Captured:
        return Captured(lambda: 1.1 * work())


class Empty:
    """What a graph is whose kernels went to another stream: its capture computed, its replays do nothing."""

    name = "graphs"

    def capture(self, work: Work) -> Captured:
        result = work()
        return Captured(lambda: result, result)


class Frozen:
    """A graph that froze the inputs of its capture."""

    name = "graphs"

    def capture(self, work: Work) -> Captured:
        kept = work().clone()
        return Captured(lambda: kept)


@pytest.mark.parametrize(
    ("graphs", "says"),
    [
        (Failing(), "not permitted"),
        (Wrong(), "differs from"),
        (Empty(), "differs from"),
        (Frozen(), "differs from"),
    ],
)
def test_what_cannot_be_captured_or_is_wrong_runs_eagerly(
    graphs: Failing | Wrong | Empty | Frozen, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny.tiny_llama(vocabulary=12)
    lookahead = random_lookahead(model, 4)
    plain = run(model, [1, 2, 3]).ids
    runtime = CudaGraphRuntime(model, graphs)
    use(model, runtime=runtime)
    assert runtime.description == "graphs, float32, packed linear layers"
    with caplog.at_level(logging.WARNING):
        assert run(model, [1, 2, 3], Strategy.FUSED, k=3, lookahead=lookahead).ids == plain
    assert says in runtime.trouble
    assert len([r for r in caplog.records if says in r.getMessage()]) == 1
    assert runtime.description.endswith("graphs off")
    assert run(model, [1, 2, 3], Strategy.FUSED, k=3, lookahead=lookahead).ids == plain


def test_the_stand_in_freezes_what_python_computed() -> None:
    number, held = [1.0], torch.zeros(2)
    captured = RecordedGraphs().capture(lambda: (held + number[0]).view(2)[:1] * 2)
    number[0] = 5.0
    held.fill_(10.0)
    assert captured.replay().tolist() == [22.0]


def test_reading_a_value_back_cannot_be_captured() -> None:
    with pytest.raises(RuntimeError, match="inside a captured call"):
        RecordedGraphs().capture(lambda: torch.ones(2) * float(torch.ones(2).sum()))


def test_captures_are_announced() -> None:
    model = tiny.tiny_llama()
    runtime = CudaGraphRuntime(model, Rerun())
    said: list[str] = []
    runtime.on_capture = said.append
    runtime.use_lookahead(random_lookahead(model, LENGTH))
    cache = runtime.new_cache(64)
    for rows in (chain_rows(TEXT), chain_rows(TEXT[:3]), tree()):
        for _ in range(2):
            runtime.forward(cache, rows)
    assert said == ["16 rows, 256 slots", "4 rows, 256 slots", "16 rows with look-ahead, 256 slots"]


def test_rows_beyond_the_capacity_are_refused() -> None:
    runtime = CudaGraphRuntime(tiny.tiny_llama(), Rerun())
    cache = runtime.new_cache(4)
    runtime.forward(cache, chain_rows(TEXT[:4]))
    cache.commit(range(4))
    with pytest.raises(RuntimeError, match="4 slots cannot hold 5"):
        runtime.forward(cache, chain_rows(TEXT[:1]))
    with pytest.raises(RuntimeError, match="use_lookahead"):
        runtime.forward(runtime.new_cache(64), tree())


def test_a_changing_rotary_embedding_is_not_captured() -> None:
    assert unsupported_reason(tiny.tiny_llama()) == ""
    dynamic = tiny.tiny_llama(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    assert "dynamic" in unsupported_reason(dynamic)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_graphs_on_a_gpu(dtype: torch.dtype) -> None:
    from pass_core.runtime.factory import make_runtime

    model = tiny.tiny_llama(dtype=dtype, context=512)
    model.model.to("cuda")
    runtime = make_runtime(model)
    assert isinstance(runtime, CudaGraphRuntime)
    runtime.use_lookahead(random_lookahead(model, LENGTH, ALL_PARTS))
    for start in (TEXT.size, 100):
        drive(runtime, start=start)
    assert runtime.trouble == ""
    assert runtime.description == f"CUDA graphs, {str(dtype).removeprefix('torch.')}"
