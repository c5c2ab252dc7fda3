"""The compiled runtime: right against the transformers modules, and the same bits however rows are batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pass_core.engine import Engine
from pass_core.lookahead.embeddings import AdapterWeights, LookaheadEmbeddings, SamplerWeights
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime, unsupported_reason
from pass_core.runtime.rows import RowsBuilder, chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.settings import DecodingSettings, StopConditions, Strategy
from tests import tiny

pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler on this machine")

SHAPES = {"llama": tiny.tiny_llama, "mistral": tiny.tiny_mistral, "qwen2": tiny.tiny_qwen2, "qwen3": tiny.tiny_qwen3}
LOOKAHEAD = 4


def bfloat16_model(family: str) -> LanguageModel:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    if family in ("mistral", "qwen3"):
        sizes["head_dim"] = 16
    model = SHAPES[family](**sizes)
    model.model.to(torch.bfloat16)
    return model


@pytest.fixture(params=sorted(SHAPES))
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return bfloat16_model(request.param)


def prompt(model: LanguageModel, count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, model.vocabulary_size - 4, count)


def lookahead_for(model: LanguageModel) -> LookaheadEmbeddings:
    g = torch.Generator().manual_seed(3)
    hidden, layers = model.hidden_size, len(model.layers)
    scale = float(model.input_embedding.weight.float().std())
    adapters = {}
    for name, module in model.linears().items():
        out, into = module.weight.shape
        adapters[name] = AdapterWeights(
            0.3 * torch.randn(5, into, generator=g) / into**0.5, 0.3 * torch.randn(out, 5, generator=g)
        )
    return LookaheadEmbeddings(
        embeddings=scale * torch.randn(LOOKAHEAD, hidden, generator=g),
        deep=scale * torch.randn(layers, LOOKAHEAD, hidden, generator=g),
        adapters=adapters,
        sampler=SamplerWeights(
            torch.randn(48, 2 * hidden, generator=g) / hidden**0.5,
            torch.randn(LOOKAHEAD, 48, generator=g),
            torch.randn(hidden, 48, generator=g) / 7,
        ),
    )


def tree(model: LanguageModel):
    """A root with two branches, each with look-ahead rows of its own."""
    rows = RowsBuilder()
    root = rows.add_token(5)
    left = rows.add_token(7, root)
    right = rows.add_token(9, root)
    deep = rows.add_token(11, right)
    for node, count in ((root, LOOKAHEAD), (left, 1), (deep, 2)):
        rows.add_lookahead_chain(count, node)
    return rows.build()


def close(ours: torch.Tensor, reference: torch.Tensor) -> bool:
    """Within what bfloat16 rounding of every intermediate explains."""
    scale = reference.float().abs().mean()
    return float((ours.float() - reference.float()).abs().mean()) < 0.02 * float(scale)


def test_agrees_with_the_transformers_modules_in_every_part(model: LanguageModel) -> None:
    assert unsupported_reason(model) == ""
    lookahead = lookahead_for(model)
    outputs = []
    for runtime in (NativeRuntime(model, threads=2), TorchRuntime(model)):
        runtime.use_lookahead(lookahead)
        cache = runtime.new_cache(96)
        runtime.forward(cache, chain_rows(prompt(model, 37)))
        cache.commit(range(37))
        hidden = runtime.forward(cache, tree(model))
        cache.commit([0, 2, 3])
        after = runtime.forward(cache, chain_rows(np.array([13])))
        outputs.append((hidden, runtime.logits(hidden[:4]), runtime.logits(after)))
    for ours, reference in zip(*outputs):
        assert close(ours, reference)


def test_the_parts_change_look_ahead_rows_only(model: LanguageModel) -> None:
    runtime = NativeRuntime(model, threads=2)
    lookahead = lookahead_for(model)
    plain = LookaheadEmbeddings(embeddings=lookahead.embeddings)
    outputs = []
    for active in (plain, lookahead):
        runtime.use_lookahead(active)
        cache = runtime.new_cache(64)
        runtime.forward(cache, chain_rows(prompt(model, 9)))
        cache.commit(range(9))
        outputs.append(runtime.forward(cache, tree(model)))
    assert torch.equal(outputs[0][:4], outputs[1][:4])
    assert not torch.equal(outputs[0][4:], outputs[1][4:])


@pytest.mark.parametrize("committed", [0, 1, 16, 31, 32])
def test_rows_have_the_same_bits_in_any_company(model: LanguageModel, committed: int) -> None:
    runtime = NativeRuntime(model, threads=2)
    runtime.use_lookahead(lookahead_for(model))
    ids = prompt(model, committed)

    def started():
        cache = runtime.new_cache(96)
        if committed:
            runtime.forward(cache, chain_rows(ids))
            cache.commit(range(committed))
        return cache

    cache = started()
    together = runtime.forward(cache, tree(model))
    cache.commit([0, 2, 3])
    then = runtime.forward(cache, chain_rows(np.array([13])))
    cache = started()
    alone = []
    for token in (5, 9, 11, 13):
        alone.append(runtime.forward(cache, chain_rows(np.array([token])))[0])
        cache.commit([0])
    assert torch.equal(torch.stack(alone), torch.cat((together[[0, 2, 3]], then)))
    assert torch.equal(runtime.logits(together[:4])[2], runtime.logits(together[2:3])[0])


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    model = bfloat16_model("llama")
    outputs = []
    for count in (2, threads):
        runtime = NativeRuntime(model, threads=count)
        runtime.use_lookahead(lookahead_for(model))
        cache = runtime.new_cache(64)
        outputs.append(runtime.forward(cache, tree(model)))
    assert torch.equal(*outputs)


def test_low_precision_speculation_is_lossless_bit_for_bit(model: LanguageModel) -> None:
    """What no other runtime can promise: in bfloat16, PASS prints exactly the text of plain decoding."""
    engine = Engine(model, runtime=NativeRuntime(model, threads=2))
    lookahead = lookahead_for(model)
    stop = StopConditions(max_new_tokens=60, ignore_eos=True)

    def ids(settings: DecodingSettings, seed: int) -> list[int]:
        steps = engine.decode([1, 2, 3], settings, lookahead=lookahead, stop=stop, seed=seed)
        return [t.id for s in steps for t in s.tokens]

    for seed in range(3):
        plain = ids(DecodingSettings(strategy=Strategy.AUTOREGRESSIVE), seed)
        for settings in (
            DecodingSettings(strategy=Strategy.TWO_CALL, k=3),
            DecodingSettings(k=4, auto=False),
            DecodingSettings(k=4, auto=False, row_budget=30, prompt_lookup=True),
        ):
            assert ids(settings, seed) == plain


def test_a_full_cache_is_refused() -> None:
    runtime = NativeRuntime(bfloat16_model("llama"), threads=1)
    cache = runtime.new_cache(16)
    with pytest.raises(RuntimeError, match="cannot hold"):
        runtime.forward(cache, chain_rows(np.arange(64)))


@pytest.mark.parametrize(("family", "reason"), [("gpt2", "not Llama-shaped"), ("gemma", "not Llama-shaped")])
def test_other_shapes_say_why_they_run_elsewhere(family: str, reason: str) -> None:
    other = tiny.FAMILIES[family]()
    other.model.to(torch.bfloat16)
    assert reason in unsupported_reason(other)


def test_reading_a_buffer_reads_all_of_it() -> None:
    runtime = NativeRuntime(bfloat16_model("llama"), threads=2)
    buffer = torch.ones(128 * 5001)
    buffer[-1] = 7.0
    assert runtime.read(buffer) == buffer.numel() + 6
