"""Every format of weights on every instruction set that this processor has: right, and the same bits in any company."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

import gguf
import numpy as np
import pytest
import torch

from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.native import runtime as native
from pass_core.runtime.native.build import find, folders
from pass_core.runtime.native.compiler import instruction_sets
from pass_core.runtime.native.formats import BLOCK, Format
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.runtime.native.weights import HEAD, TABLE
from pass_core.runtime.rows import chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.settings import DecodingSettings, StopConditions, Strategy
from tests.core.runtime.test_native import SHAPES, bfloat16_model, lookahead_for, prompt, tree

BUILT = [one.name for one in instruction_sets() if find(one.name, folders()).library is not None]
# weights, type of the file's blocks, bits of rows
KINDS = [
    ("float32", "", 16),
    ("bfloat16", "", 16),
    ("int8", "", 16),
    ("int8", "", 8),
    *(("gguf", name, bits) for name in ("Q4_0", "Q4_1", "Q8_0") for bits in (16, 8)),
]


class MemoryBlocks:
    """What a GGUF file of this model would hold: matrices in one type of blocks, vectors in float32.

    Embeddings are float16 unless `others` says so: in Q4_0 they are few different numbers, and half of the largest lies
    in the middle of two 8-bit integers, so that chance would round it.
    """

    def __init__(self, model: LanguageModel, kind: str, others: dict[str, str] | None = None) -> None:
        self._tensors = {name: p.detach().float().numpy() for name, p in model.model.named_parameters()}
        self._tensors[TABLE] = model.input_embedding.weight.detach().float().numpy()
        self._tensors[HEAD] = model.lm_head.weight.detach().float().numpy()
        self._kind, self._others = kind, {"embed_tokens": "F16"} if others is None else others

    def tensor(self, name: str) -> tuple[str, tuple[int, ...], np.ndarray]:
        wide = self._tensors[name]
        kind = next((k for part, k in self._others.items() if part in name), self._kind if wide.ndim == 2 else "F32")
        data = gguf.quants.quantize(wide, gguf.GGMLQuantizationType[kind])
        return kind, wide.shape, np.ascontiguousarray(data).view(np.uint8)

    def wide(self, name: str) -> np.ndarray:
        kind, shape, data = self.tensor(name)
        raw = data.view(np.float32) if kind == "F32" else data
        return gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind]).reshape(shape)


@pytest.fixture(params=BUILT)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    chosen = find(request.param, folders()).library
    monkeypatch.setattr(native, "library", lambda: chosen)
    return request.param


def wide_model(family: str) -> LanguageModel:
    model = bfloat16_model(family)
    model.model.float()
    return model


def made(
    model: LanguageModel, kind: tuple[str, str, int], threads: int = 2, wide_cache: bool | None = None
) -> NativeRuntime:
    weights, blocks, bits = kind
    source = MemoryBlocks(model, blocks) if blocks else None
    return NativeRuntime(
        model,
        threads,
        weights=weights,  # type: ignore[arg-type]
        blocks=source,
        bits=bits,
        wide_cache=wide_cache,
    )


def with_the_same_weights(model: LanguageModel, kind: tuple[str, str, int]) -> LanguageModel:
    """The model in float32 with the numbers that the runtime's weights stand for."""
    weights, blocks, _ = kind
    same = copy.deepcopy(model)
    source = MemoryBlocks(model, blocks or "Q8_0")
    if weights in ("int8", "gguf"):
        # One tensor for embeddings and head would keep only the last of the two.
        table = torch.from_numpy(source.wide(TABLE) if blocks else source._tensors[TABLE])
        head = torch.from_numpy(source.wide(HEAD).copy())
        with torch.no_grad():
            for name, module in same.linears().items():
                module.weight.copy_(torch.from_numpy(source.wide(f"model.{name}.weight").copy()))
            same.input_embedding.weight = torch.nn.Parameter(table.clone(), requires_grad=False)
            same.lm_head.weight = torch.nn.Parameter(head, requires_grad=False)
    return same


def seen_by_products(bits: int, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Rows rounded to integers with a scale for each 32 inputs, as csrc/activations.h does."""
    x = inputs[0]
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % BLOCK))
    blocks = padded.reshape(*x.shape[:-1], -1, BLOCK)
    most = 2 ** (bits - 1) - 1
    scale = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / most
    return ((blocks / scale).round() * scale).reshape(padded.shape)[..., : x.shape[-1]], *inputs[1:]


def rounds_as(model: LanguageModel, runtime: NativeRuntime, kind: tuple[str, str, int]) -> LanguageModel:
    """The model with hooks that show its linear layers what the products see."""
    weights, blocks, bits = kind
    if weights in ("int8", "gguf"):
        taken = Format[blocks or "Q8_0"]
        bytes_form = 2
        seen = 8 if runtime.lib.pass_form(int(taken), bits) == bytes_form else 16
        for module in (*model.linears().values(), model.lm_head):
            module.register_forward_pre_hook(functools.partial(seen_by_products, seen))
    return model


def outputs(runtime: NativeRuntime | TorchRuntime, model: LanguageModel) -> list[torch.Tensor]:
    runtime.use_lookahead(lookahead_for(model))
    cache = runtime.new_cache(96)
    runtime.forward(cache, chain_rows(prompt(model, 37)))
    cache.commit(range(37))
    hidden = runtime.forward(cache, tree(model))
    cache.commit([0, 2, 3])
    after = runtime.forward(cache, chain_rows(np.array([13])))
    return [hidden, runtime.logits(hidden[:4]), runtime.logits(after)]


NARROW = 0.015
"""The largest mean difference from float32, as a share of the mean size, where keys and values are bfloat16 (each is
off by up to 1/512), or weights in bfloat16 meet rows in bfloat16."""
WIDE = 2e-4
"""The same where all is float32 or the same 16-bit integers: sums in another order."""


def agree(ours: list[torch.Tensor], reference: list[torch.Tensor], most: float) -> None:
    for a, b in zip(ours, reference):
        assert float((a - b).abs().mean()) < most * float(b.abs().mean())


def most_rows_agree(runtime: NativeRuntime, reference: TorchRuntime, model: LanguageModel) -> None:
    """Of rows without context more than half agree as closely as with 16 bits.

    With 8 bits a number near the middle of two integers may round the other way here and there, and one such step
    changes its row, and all rows that attend to it, as much as all roundings together do.
    """
    differences = []
    caches = runtime.new_cache(16), reference.new_cache(16)
    for token in prompt(model, 15):
        a, b = (r.logits(r.forward(c, chain_rows(np.array([token])))) for r, c in zip((runtime, reference), caches))
        differences.append(float((a - b).abs().mean() / b.abs().mean()))
    assert float(np.median(differences)) < WIDE


@pytest.mark.parametrize("family", sorted(SHAPES))
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k)))
def test_every_format_computes_what_its_weights_say(isa: str, kind: tuple[str, str, int], family: str) -> None:
    """Against modules that hold the same numbers and round their rows the same; integers by a float32 cache."""
    weights, _, bits = kind
    model = wide_model(family)
    runtime = made(model, kind, wide_cache=weights != "bfloat16")
    reference = TorchRuntime(rounds_as(with_the_same_weights(model, kind), runtime, kind))
    if bits == 16:
        agree(outputs(runtime, model), outputs(reference, model), NARROW if weights == "bfloat16" else WIDE)
        return
    most_rows_agree(runtime, reference, model)


@pytest.mark.parametrize("blocks", ["Q4_0", "Q4_1", "Q8_0"])
def test_a_bfloat16_cache_costs_integers_little(isa: str, blocks: str) -> None:
    model, kind = wide_model("llama"), ("gguf", blocks, 16)
    agree(outputs(made(model, kind), model), outputs(TorchRuntime(with_the_same_weights(model, kind)), model), NARROW)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k)))
def test_company_threads_and_slots_change_no_bit(isa: str, kind: tuple[str, str, int]) -> None:
    model = wide_model("qwen3")
    results = []
    for threads in (1, 2):
        runtime = made(model, kind, threads)
        runtime.use_lookahead(lookahead_for(model))
        cache = runtime.new_cache(96)
        runtime.forward(cache, chain_rows(prompt(model, 31)))
        cache.commit(range(31))
        together = runtime.forward(cache, tree(model))
        cache.commit([0, 2, 3])  # slots 33 and 34 move to 32 and 33
        then = runtime.forward(cache, chain_rows(np.array([13])))
        path = torch.cat((together[[0, 2, 3]], then))
        cache.truncate(31)
        alone = []
        for token in (5, 9, 11, 13):
            alone.append(runtime.forward(cache, chain_rows(np.array([token])))[0])
            cache.commit([0])
        assert torch.equal(torch.stack(alone), path)
        assert torch.equal(runtime.logits(path)[2], runtime.logits(path[2:3])[0])
        results.append((together, runtime.logits(path)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k)))
def test_a_shortlist_has_the_logits_of_its_tokens(isa: str, kind: tuple[str, str, int]) -> None:
    """Bit for bit, in an order and a number that cut through the library's panels of 16."""
    model = wide_model("llama")
    runtime = made(model, kind)
    hidden = torch.randn(3, model.hidden_size, generator=torch.Generator().manual_seed(4))
    every = runtime.logits(hidden)
    for count in (1, 37, model.vocabulary_size):
        order = torch.randperm(model.vocabulary_size, generator=torch.Generator().manual_seed(count))
        ids = order[:count].sort().values
        assert torch.equal(runtime.shortlist(ids)(hidden), every[:, ids])


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k)))
def test_drafting_writes_the_text_of_plain_decoding(isa: str, kind: tuple[str, str, int]) -> None:
    model = wide_model("llama")
    engine = Engine(model, runtime=made(model, kind))
    lookahead = lookahead_for(model)
    stop = StopConditions(max_new_tokens=40, ignore_eos=True)

    def ids(settings: DecodingSettings) -> list[int]:
        steps = engine.decode([1, 2, 3], settings, lookahead=lookahead, stop=stop, seed=4)
        return [t.id for s in steps for t in s.tokens]

    plain = ids(DecodingSettings(strategy=Strategy.AUTOREGRESSIVE))
    assert ids(DecodingSettings(strategy=Strategy.TWO_CALL, k=3)) == plain
    assert ids(DecodingSettings(k=4, auto=False, row_budget=30, prompt_lookup=True)) == plain


def test_what_a_file_mixes_becomes_float32_and_stays_exact(isa: str) -> None:
    model = wide_model("llama")
    mixed = {"v_proj": "Q8_0", "down_proj": "F16", "embed_tokens": "F16"}
    blocks = MemoryBlocks(model, "Q4_0", mixed)
    runtime = NativeRuntime(model, 2, weights="gguf", blocks=blocks)
    same = copy.deepcopy(model)
    with torch.no_grad():
        for name, module in same.linears().items():
            module.weight.copy_(torch.from_numpy(blocks.wide(f"model.{name}.weight").copy()))
        same.input_embedding.weight = torch.nn.Parameter(torch.from_numpy(blocks.wide(TABLE).copy()), False)
        same.lm_head.weight = torch.nn.Parameter(torch.from_numpy(blocks.wide(HEAD).copy()), False)
    agree(outputs(runtime, model), outputs(TorchRuntime(same), model), NARROW)
    assert [m.format for m in runtime._source.group("model.layers.0.self_attn.q_proj.weight")] == [Format.Q4_0]
    assert runtime._source.mixed == {"F16"}


def test_heads_that_cut_through_blocks_of_32(isa: str) -> None:
    """head_dim 80: attention leaves its result in pieces that are no whole blocks."""
    model = SHAPES["llama"](hidden_size=320, intermediate_size=96, num_attention_heads=4)
    kind = ("int8", "", 8)
    runtime = made(model, kind, wide_cache=True)
    reference = TorchRuntime(rounds_as(with_the_same_weights(model, kind), runtime, kind))
    most_rows_agree(runtime, reference, model)


def test_blocks_belong_to_their_weights(isa: str) -> None:
    with pytest.raises(ValueError, match="belong together"):
        NativeRuntime(wide_model("llama"), weights="gguf")
