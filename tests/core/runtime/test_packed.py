"""Packed linear layers are used only where this processor packs; every dtype runs where it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pass_core.runtime.packed import can_pack, pack_linears, plain_linears
from tests.tiny import tiny_gpt2, tiny_llama

REPOSITORY = Path(__file__).parents[3]
# oneDNN and torch as on a processor with AVX2 and nothing above it.
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "PASS_NO_NATIVE": "1"}
DECODE = """
import json, sys, torch
from pass_core.engine import Engine
from pass_core.runtime.packed import can_pack
from pass_core.models.shipped import untrained_lookahead
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions
from tests import tiny

out = {}
for family, dtype in (("gpt2", "bfloat16"), ("llama", "bfloat16"), ("llama", "float16"), ("llama", "float32")):
    model = tiny.FAMILIES[family](dtype=getattr(torch, dtype))
    settings = DecodingSettings(k=3, sampling=SamplingSettings(0.0, 0))
    engine = Engine(model)
    steps = engine.decode(
        [1, 2, 3], settings, lookahead=untrained_lookahead(model), stop=StopConditions(12, (), True)
    )
    ids = [token.id for step in steps for token in step.tokens]
    out[f"{family} {dtype}"] = [len(ids), can_pack(getattr(torch, dtype)), engine.runtime.description]
print(json.dumps(out))
"""


def test_every_dtype_decodes_on_a_processor_that_packs_no_bfloat16() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECODE],
        env={**os.environ, **AVX2, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)
    assert len(runs) == 4
    for name, (tokens, packs, description) in runs.items():
        assert tokens == 12, name
        assert packs == ("packed" in description), name
    assert not runs["gpt2 bfloat16"][1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_compute_what_plain_ones_do(dtype: torch.dtype) -> None:
    if not can_pack(dtype):
        pytest.skip(f"this processor packs no {dtype}")
    model = tiny_llama(dtype=dtype)
    assert pack_linears(model)
    x = torch.randn(3, model.hidden_size, generator=torch.Generator().manual_seed(1)).to(dtype)
    packed = model.lm_head(x)
    with plain_linears(model):
        plain = model.lm_head(x)
    torch.testing.assert_close(packed, plain)


def test_what_cannot_be_packed_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pass_core.runtime.packed.can_pack", lambda _: False)
    model = tiny_gpt2(dtype=torch.bfloat16)
    assert not pack_linears(model)
    assert "forward" not in model.lm_head.__dict__
