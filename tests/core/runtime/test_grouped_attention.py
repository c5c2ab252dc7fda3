"""Query heads that share keys: the numbers of transformers' repeated keys, nothing repeated, no trace left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pass_core.runtime import grouped_attention
from pass_core.runtime.grouped_attention import can_share, shared_keys, shared_keys_attention
from pass_core.runtime.rows import chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from tests import tiny

CPU = torch.device("cpu")


def inputs(rows: int, dtype: torch.dtype, groups: int = 3) -> dict[str, Any]:
    torch.manual_seed(rows)
    module = nn.Module()
    module.num_key_value_groups = groups  # type: ignore[assignment]
    mask = (torch.rand(1, 1, rows, 40) < 0.5).index_fill_(3, torch.tensor([0]), True)
    # As layers make them: heads beside each other in a row.
    query, key, value = (torch.randn(1, n, h, 16, dtype=dtype) for n, h in ((rows, 2 * groups), (40, 2), (40, 2)))
    return {
        "module": module,
        "query": query.transpose(1, 2),
        "key": key.transpose(1, 2),
        "value": value.transpose(1, 2),
        "attention_mask": mask,
        "scaling": 0.3,
    }


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 7, 33])
def test_the_same_bits_as_with_repeated_keys(rows: int, dtype: torch.dtype, additive: bool) -> None:
    given = inputs(rows, dtype)
    if additive:
        mask = given["attention_mask"]
        given["attention_mask"] = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    with torch.inference_mode():
        got, _ = shared_keys_attention(**given)
        expected, _ = sdpa_attention_forward(**given)
    assert got.shape == expected.shape == (1, rows, 6, 16)
    assert got.is_contiguous()
    assert torch.equal(got, expected)


def test_other_attention_goes_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    passed_on: list[dict[str, Any]] = []
    monkeypatch.setattr(
        grouped_attention, "sdpa_attention_forward", lambda *a, **k: passed_on.append(k) or (torch.empty(0), None)
    )
    bias = torch.zeros(1, 6, 4, 40)
    given = inputs(4, torch.float32)
    changes: list[dict[str, Any]] = [
        {"softcap": 5.0},
        {"position_bias": bias},
        {"s_aux": torch.zeros(6)},
        {"attention_mask": bias},
    ]
    for change in changes:
        shared_keys_attention(**{**given, **change})
    shared_keys_attention(**inputs(4, torch.float32, groups=1))
    assert len(passed_on) == 5
    assert passed_on[0]["softcap"] == 5.0
    shared_keys_attention(**given)
    assert len(passed_on) == 5


def test_a_pass_repeats_no_keys_and_leaves_the_model_as_it_was() -> None:
    model = tiny.tiny_llama()
    heads, width = 4, 8
    runtime = TorchRuntime(model)
    cache = runtime.new_cache(100)
    runtime.forward(cache, chain_rows(np.arange(60) % 50))
    cache.commit(range(60))

    class Shapes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: set[tuple[int, ...]] = set()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            self.seen |= {tuple(t.shape) for t in tree_leaves(out) if isinstance(t, torch.Tensor)}
            return out

    with Shapes() as shapes:
        runtime.forward(cache, chain_rows(np.arange(5)))
    assert shapes.seen & {(2, 2, 65, width)}  # each KV head with two query heads, a view
    assert (1, heads, 65, width) not in shapes.seen
    assert model.model.config._attn_implementation == "sdpa"


def test_eager_attention_stays_eager() -> None:
    model = tiny.tiny_llama(attention="eager")
    with shared_keys(model):
        assert model.model.config._attn_implementation == "eager"


def test_sharing_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_share(CPU, torch.float32)
    assert not can_share(torch.device("mps"), torch.float32)
    genuine = nn.functional.scaled_dot_product_attention

    def wrong(query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return genuine(query, key, *args, **kwargs) * (1.0 if 0 not in key.stride() else 1.1)

    def refused(query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if 0 in key.stride():
            raise RuntimeError("strides of 0 are not supported")
        return genuine(query, key, *args, **kwargs)

    for broken in (wrong, refused):
        can_share.cache_clear()
        monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", broken)
        assert not can_share(CPU, torch.float32)
        with shared_keys(model := tiny.tiny_llama()):
            assert model.model.config._attn_implementation == "sdpa"
    can_share.cache_clear()
