"""Adapters of several linear layers as one product: each layer's own update, whatever the layers read."""

from __future__ import annotations

import numpy as np
import torch

from pass_core.lookahead.embeddings import AdapterWeights
from pass_core.runtime.lookahead_parts import LookaheadParts
from pass_core.settings import LookaheadPart
from tests import tiny
from tests.core.decoding.engine import random_lookahead

STEPS = np.array([-1, 0, 2, -1, 1])


def expected(weight: torch.Tensor, adapter: AdapterWeights, x: torch.Tensor) -> torch.Tensor:
    """The definition, one row at a time."""
    changed = weight + adapter.up @ adapter.down
    return torch.stack([row @ (weight if step < 0 else changed).T for row, step in zip(x, STEPS.tolist())])


def test_each_linear_gets_its_own_update_of_what_it_reads() -> None:
    model = tiny.tiny_llama(layers=1)
    lookahead = random_lookahead(model, 3, frozenset({LookaheadPart.ADAPTER}))
    linears = model.linears()
    generator = torch.Generator().manual_seed(0)
    parts = LookaheadParts(model, lookahead)
    shared = torch.randn(1, 5, model.hidden_size, generator=generator)
    # All of a group from one input; then from inputs that differ, and out of order; then those of no group.
    for names, same in (("qkv", True), ("vqk", False), ("kkq", True)):
        with torch.inference_mode(), parts.on_rows(STEPS):
            for letter in names:
                name = f"layers.0.self_attn.{letter}_proj"
                x = shared if same else torch.randn(shared.shape, generator=generator)
                want = expected(linears[name].weight, lookahead.adapters[name], x[0])  # type: ignore[arg-type]
                assert torch.allclose(linears[name](x)[0], want, atol=2e-5), name
    for name, adapter in lookahead.adapters.items():
        x = torch.randn(1, 5, adapter.down.shape[1], generator=generator)
        with torch.inference_mode(), parts.on_rows(STEPS):
            got = linears[name](x)[0]
        assert torch.allclose(got, expected(linears[name].weight, adapter, x[0]), atol=2e-5), name  # type: ignore[arg-type]


def test_token_rows_keep_their_bits_whatever_stands_in_them() -> None:
    """Infinities, too: 0 times them would be no number."""
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny.tiny_llama(layers=1, dtype=dtype)
        parts = LookaheadParts(model, random_lookahead(model, 3, frozenset({LookaheadPart.ADAPTER})))
        linear = model.linears()["layers.0.self_attn.o_proj"]
        x = torch.randn(1, 5, model.hidden_size, generator=torch.Generator().manual_seed(1)).to(dtype)
        x[0, 3, 0] = torch.inf
        with torch.inference_mode():
            plain = linear(x)
            with parts.on_rows(STEPS):
                got = linear(x)
        tokens = torch.from_numpy(STEPS < 0)
        assert torch.equal(got[0, tokens], plain[0, tokens])
        assert not torch.equal(got[0, ~tokens], plain[0, ~tokens])
