"""Architectures that cannot draft still write exactly what transformers' own `generate` writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pass_core.engine import Engine
from pass_core.models.capabilities import examine
from pass_core.models.language_model import LanguageModel, fingerprint
from pass_core.runtime.factory import make_runtime
from pass_core.runtime.plain_runtime import PlainRuntime
from pass_core.runtime.rows import RowsBuilder
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "exaone4": {"sliding_window": 16, "sliding_window_pattern": 2},
    "bloom": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phimoe": {"num_local_experts": 2},
    "mamba": {"state_size": 8},
    "recurrent_gemma": {"attention_window_size": 16},
}


def build(kind: str) -> LanguageModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    fields: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "n_head": 4,
        "n_layer": 4, "intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8, "use_cache": True,
        "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **(fields | ARCHITECTURES[kind]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.data.normal_(0.0, 2 * parameter.shape[-1] ** -0.5)
    return LanguageModel(kind, kind, model, None, examine(config), fingerprint(model))


@pytest.mark.parametrize("length", [20, 300])  # 300: the prompt takes more than one call
@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_plain_decoding_equals_generate(kind: str, length: int) -> None:
    model = build(kind)
    assert not model.capabilities.supports_pass
    assert isinstance(make_runtime(model), PlainRuntime)
    ids = torch.randint(0, 64, (1, length), generator=torch.Generator().manual_seed(1))
    options: dict[str, Any] = {"max_new_tokens": 20, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    reference = model.model.generate(ids, **options)[0, length:].tolist()
    settings = DecodingSettings(strategy=Strategy.AUTOREGRESSIVE, sampling=SamplingSettings(0.0, 0))
    steps = list(Engine(model).decode(ids[0].tolist(), settings, stop=StopConditions(20)))
    assert [t.id for s in steps for t in s.tokens] == reference
    assert sum(s.calls for s in steps) == 20


def test_a_cache_that_cannot_go_back_says_so() -> None:
    runtime = PlainRuntime(build("exaone4"))
    cache = runtime.new_cache(32)
    rows = RowsBuilder()
    rows.add_token(1)
    rows.add_token(2, parent=0)
    runtime.forward(cache, rows.build())
    with pytest.raises(RuntimeError, match="cannot drop rows"):
        cache.commit([0])
    cache.commit([0, 1])
    assert cache.length == 2
    assert cache.nbytes > 0
    with pytest.raises(RuntimeError, match="cannot be cut"):
        cache.truncate(1)
    rows.add_lookahead(0, parent=1)
    with pytest.raises(RuntimeError, match="cannot draft"):
        runtime.forward(cache, rows.build())
