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

_NO_WINDOW: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 256, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": 256, "query_pre_attn_scalar": 8},
    "mistral": {"sliding_window": None},
}


def family_model(kind: str) -> LanguageModel:
    """A tiny random model of any family, window at least as long as the context."""
    if kind in tiny.FAMILIES:
        return tiny.FAMILIES[kind](seed=3)
    from transformers import AutoConfig, AutoModelForCausalLM

    fields: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None, "use_cache": True,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **(fields | _NO_WINDOW.get(kind, {})))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager" if kind == "gemma2" else "sdpa")
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


def test_a_sliding_window_in_use_is_refused_and_decodes_plainly() -> None:
    model = tiny.tiny_mistral(sliding_window=16)
    assert not model.capabilities.supports_pass
    assert "sliding-window attention (16 tokens)" in model.capabilities.reason
    with pytest.raises(UnsupportedStrategy, match="sliding-window"):
        text_of(model, Strategy.FUSED)
    reference = model.model.generate(
        torch.arange(5, 25)[None], max_new_tokens=24, do_sample=False, attention_mask=torch.ones(1, 20)
    )[0, 20:].tolist()
    assert text_of(model, Strategy.AUTOREGRESSIVE) == reference


def test_a_window_that_is_never_reached_is_no_reason() -> None:
    assert tiny.tiny_mistral(sliding_window=256).capabilities.supports_pass
    assert tiny.tiny_qwen2(sliding_window=16, use_sliding_window=False).capabilities.supports_pass


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mamba", "running state"),
        ("bloom", "ALiBi"),
        ("qwen3_next", "linear_attention"),
        ("opt", "not among the families"),
        ("mixtral", "not among the families"),
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


def test_encoders_are_no_models_for_this() -> None:
    from transformers import BertConfig, ViTConfig

    with pytest.raises(ModelUnsupported, match="BertForMaskedLM"):
        examine(BertConfig(architectures=["BertForMaskedLM"]))
    with pytest.raises(ModelUnsupported, match="no language model"):
        examine(ViTConfig())
