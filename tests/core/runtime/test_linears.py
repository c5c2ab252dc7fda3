"""Linear layers of one input as one product: the layers' own results, and no second copy of their weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.cuda_graphs.linears import JoinedLinears
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.runtime.rows import chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.settings import LookaheadPart
from tests import tiny
from tests.core.decoding.engine import random_lookahead
from tests.core.runtime.recorded import RecordedGraphs
from tests.core.runtime.test_cuda_graph_runtime import TEXT, tree

JOINED = {"llama": 2, "mistral": 2, "qwen2": 2, "qwen3": 2, "gemma": 2, "phi": 1, "gpt-neox": 0, "gpt2": 0}


def memory(model: LanguageModel) -> int:
    """Bytes of all pieces of memory that hold parameters."""
    pieces = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.model.parameters()}
    return sum(pieces.values())


@pytest.mark.parametrize("family", [f for f in tiny.FAMILIES if f in JOINED])
def test_weights_are_stored_once_and_stay_what_they_were(family: str) -> None:
    model = tiny.FAMILIES[family]()
    before, kept = memory(model), {n: p.clone() for n, p in model.model.named_parameters()}
    joined = JoinedLinears(model)
    assert joined.count == JOINED[family] * len(model.layers)
    assert memory(model) == before
    for name, parameter in model.model.named_parameters():
        assert torch.equal(parameter, kept[name]), name
        assert not parameter.is_inference()  # training reads them
    again = JoinedLinears(model)  # of a second runtime: the same memory
    assert [g._weight.data_ptr() for g in again._groups] == [g._weight.data_ptr() for g in joined._groups]


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # without and with biases
def test_each_layer_gives_its_own_product(family: str) -> None:
    model = tiny.FAMILIES[family](layers=1)
    joined = JoinedLinears(model)
    linears = model.linears()
    attention = [linears[f"layers.0.self_attn.{letter}_proj"] for letter in "qkv"]
    assert joined.group(attention) is not None
    assert joined.group(attention[::-1]) is None
    assert joined.group(attention[:2]) is None
    forwards = [vars(linear).get("forward") for linear in attention]
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(1, 5, model.hidden_size, generator=generator)
    with torch.inference_mode(), joined.active():
        for order, same in ((attention, True), ([*attention[::-1], attention[0]], False), ([attention[1]] * 2, True)):
            for linear in order:
                x = shared if same else torch.randn(shared.shape, generator=generator)
                bias: Any = linear.bias
                want = nn.functional.linear(x, linear.weight, bias)  # type: ignore[arg-type]
                assert torch.allclose(linear(x), want, atol=1e-5)
    assert [vars(linear).get("forward") for linear in attention] == forwards


def test_quantised_layers_stay_apart() -> None:
    model = replace(tiny.tiny_llama(), quantization="int8")
    assert JoinedLinears(model).count == 0


@pytest.mark.parametrize("letters", ["qkv", "qv", "k"])
def test_adapters_of_some_layers_of_a_product(letters: str) -> None:
    """The captured pass is the eager one, which computes layer by layer."""
    model = tiny.tiny_llama()
    whole = random_lookahead(model, 3, frozenset({LookaheadPart.ADAPTER}))
    names = [n for n in whole.adapters if n[-6] in letters and n.endswith("_proj") and "self_attn" in n]
    assert len(names) == len(letters) * len(model.layers)
    lookahead = replace(whole, adapters={n: whole.adapters[n] for n in reversed(names)})
    results: list[torch.Tensor] = []
    for runtime in (CudaGraphRuntime(model, RecordedGraphs()), TorchRuntime(model)):
        runtime.use_lookahead(lookahead)
        cache = runtime.new_cache(64)
        runtime.forward(cache, chain_rows(TEXT))
        cache.commit(range(TEXT.size))
        for _ in range(2):
            got = runtime.forward(cache, tree())
        results.append(got)
    assert torch.allclose(*results, atol=1e-5, rtol=1e-4)
