"""Every family that is said to support PASS does, and the others are refused with their reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pass_core.decoding.loop import UnsupportedStrategy
from pass_core.engine import Engine
from pass_core.models.capabilities import FAMILIES, examine
from pass_core.models.errors import ModelUnsupported
from pass_core.models.language_model import LanguageModel, fingerprint
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy
from tests import tiny
from tests.core.decoding.engine import run

_EXPERTS: dict[str, Any] = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
_NO_WINDOW: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 256, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 256, "query_pre_attn_scalar": 8},
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": None, **_EXPERTS},
    "gpt_oss": {"sliding_window": 256, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, **_EXPERTS},
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "olmoe", "granitemoe"), _EXPERTS),
}
_EAGER = ("gemma2", "gpt_oss")
WINDOWS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 8},
    "mixtral": {"sliding_window": 8},
    "phi3": {"sliding_window": 8},
    "starcoder2": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8, "tie_word_embeddings": False},
    "gemma3_text": {
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "tie_word_embeddings": False,
    },
    "gpt_oss": {"sliding_window": 8},
    "qwen2": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0},
    "qwen2_moe": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3_moe": {"sliding_window": 8, "use_sliding_window": True},
    "smollm3": {
        "sliding_window": 8,
        "use_sliding_window": True,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
"""Families with a window shorter than the texts of these tests."""


def family_model(kind: str, **changes: Any) -> LanguageModel:
    """A tiny random model of any family, window at least as long as the context unless `changes` say otherwise."""
    if kind in tiny.FAMILIES and not changes:
        return tiny.FAMILIES[kind](seed=3)
    from transformers import AutoConfig, AutoModelForCausalLM

    fields: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None, "use_cache": True,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **(fields | _NO_WINDOW.get(kind, {}) | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager" if kind in _EAGER else "sdpa")
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.data.normal_(0.0, 3 * parameter.shape[-1] ** -0.5)
    model.eval().requires_grad_(False)
    return LanguageModel(kind, kind, model, None, examine(config), fingerprint(model))


def text_of(model: LanguageModel, strategy: Strategy) -> list[int]:
    settings = DecodingSettings(strategy=strategy, k=3, sampling=SamplingSettings(0.0, 0))
    steps = Engine(model).decode(list(range(5, 25)), settings, stop=StopConditions(24))
    return [t.id for s in steps for t in s.tokens]


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_a_supported_family_drafts_without_changing_a_token(kind: str) -> None:
    model = family_model(kind)
    assert model.capabilities.supports_pass, model.capabilities.reason
    assert model.capabilities.learned_positions == (kind == "gpt2")
    assert model.capabilities.context_length == 256
    reference = model.model.generate(
        torch.arange(5, 25)[None], max_new_tokens=24, do_sample=False, attention_mask=torch.ones(1, 20)
    )[0, 20:].tolist()
    assert text_of(model, Strategy.AUTOREGRESSIVE) == reference
    assert text_of(model, Strategy.TWO_CALL) == reference
    assert text_of(model, Strategy.FUSED) == reference


def generated(model: LanguageModel, prompt: list[int], count: int) -> list[int]:
    """transformers' own greedy text."""
    ids = torch.tensor([prompt])
    options: dict[str, Any] = {"max_new_tokens": count, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    return model.model.generate(ids, **options)[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("kind", sorted(WINDOWS))
def test_a_window_that_slides_changes_no_token(kind: str) -> None:
    """Prompt and text are longer than the window: PASS against plain against transformers."""
    model = family_model(kind, **WINDOWS[kind])
    assert model.capabilities.supports_pass, model.capabilities.reason
    assert model.capabilities.sliding_window == 8
    reference = generated(model, list(range(5, 25)), 24)
    unbounded = family_model(kind, **WINDOWS[kind] | {"sliding_window": 256})
    assert reference != generated(unbounded, list(range(5, 25)), 24), "the window matters"
    for strategy in (Strategy.AUTOREGRESSIVE, Strategy.TWO_CALL, Strategy.FUSED):
        assert text_of(model, strategy) == reference, strategy


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text", "mixtral", "qwen2"])
def test_trees_and_noise_change_no_token_past_the_window(kind: str) -> None:
    model = family_model(kind, **WINDOWS[kind])
    prompt = list(range(5, 25))
    plain = run(model, prompt, Strategy.AUTOREGRESSIVE, count=40, seed=5).ids
    for k in (1, 3, 5):
        assert run(model, prompt, Strategy.FUSED, count=40, seed=5, k=k, prompt_lookup=True).ids == plain
        assert run(model, prompt, Strategy.TWO_CALL, count=40, seed=5, k=k).ids == plain


def test_a_window_that_is_never_reached_is_no_reason() -> None:
    for model in (tiny.tiny_mistral(sliding_window=256), tiny.tiny_qwen2(sliding_window=16, use_sliding_window=False)):
        assert model.capabilities.supports_pass
        assert model.capabilities.sliding_window is None


ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
    },
    "longrope": {
        "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 32, "factor": 4.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("length", [20, 30, 31, 32, 33, 40])
@pytest.mark.parametrize(("rope", "kind"), [*((r, "llama") for r in ROPES), ("yarn", "qwen2"), ("longrope", "phi3")])
def test_every_rope_across_its_boundary(rope: str, length: int, kind: str) -> None:
    """The boundary of 32 tokens lies before, at and after the prompt's end; the context of 64 ends the text."""
    parameters = {"rope_type": rope, "rope_theta": 100.0, **ROPES[rope]}
    changes: dict[str, Any] = {"original_max_position_embeddings": 32} if kind == "phi3" else {}
    model = family_model(kind, rope_parameters=parameters, max_position_embeddings=64, sliding_window=None, **changes)
    assert model.config.rope_parameters["rope_type"] == rope
    drafts = rope != "longrope"
    assert model.capabilities.supports_pass == drafts, model.capabilities.reason
    prompt = [int(i) for i in torch.randint(0, 64, (length,), generator=torch.Generator().manual_seed(2))]
    reference = generated(model, prompt, 64 - length)
    for strategy in (Strategy.AUTOREGRESSIVE, Strategy.TWO_CALL, Strategy.FUSED)[: 3 if drafts else 1]:
        assert run(model, prompt, strategy, count=64, temperature=0.0, top_k=0, k=5).ids == reference, strategy
    if not drafts:
        with pytest.raises(UnsupportedStrategy, match="LongRoPE"):
            run(model, prompt, Strategy.FUSED)


def test_longrope_that_never_changes_is_no_reason() -> None:
    parameters = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [2.0] * 4, "long_factor": [2.0] * 4,
                  "original_max_position_embeddings": 32, "attention_factor": 1.0}  # fmt: skip
    assert family_model("llama", rope_parameters=parameters).capabilities.supports_pass


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mamba", "running state"),
        ("bloom", "ALiBi"),
        ("qwen3_next", "linear_attention"),
        ("opt", "not among the families"),
        ("phimoe", "not among the families"),
        ("llama4_text", "chunks of 8192 tokens"),
    ],
)
def test_other_architectures_are_refused_with_their_reason(kind: str, reason: str) -> None:
    from transformers import AutoConfig

    capabilities = examine(AutoConfig.for_model(kind))
    assert not capabilities.supports_pass
    assert reason in capabilities.reason


@pytest.mark.parametrize(
    ("kind", "message"), [("t5", "encoder-decoder"), ("whisper", "encoder-decoder"), ("rwkv", "own")]
)
def test_what_cannot_run_at_all_is_refused(kind: str, message: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(ModelUnsupported, match=message):
        examine(AutoConfig.for_model(kind))


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_an_encoder_that_sees_the_whole_text_is_refused(kind: str) -> None:
    from transformers import AutoConfig

    with pytest.raises(ModelUnsupported, match="no language model"):
        examine(AutoConfig.for_model(kind))
    assert examine(AutoConfig.for_model(kind, is_decoder=True)).context_length > 0


def test_encoders_are_no_models_for_this() -> None:
    from transformers import BertConfig, ViTConfig

    with pytest.raises(ModelUnsupported, match="BertForMaskedLM"):
        examine(BertConfig(architectures=["BertForMaskedLM"]))
    with pytest.raises(ModelUnsupported, match="no language model"):
        examine(ViTConfig())
