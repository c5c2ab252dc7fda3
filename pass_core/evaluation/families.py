"""Which architectures draft, decode plainly or are refused: tried with a tiny random model of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from pass_core.engine import Engine
from pass_core.models.capabilities import FAMILIES, examine
from pass_core.models.errors import ModelUnsupported
from pass_core.models.language_model import LanguageModel, fingerprint
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy

_PROMPT = tuple(range(5, 25))
_TOKENS = 24
_CONTEXT = 256
_EXPERTS: dict[str, Any] = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
_FIELDS: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": _CONTEXT, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": _CONTEXT, "query_pre_attn_scalar": 8},
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": None, **_EXPERTS},
    "gpt_oss": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, **_EXPERTS},
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "phimoe"), _EXPERTS),
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "mamba": {"state_size": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "expand": 2},
    "recurrent_gemma": {"attention_window_size": 16, "num_hidden_layers": 3},
    "exaone4": {"sliding_window": 8, "sliding_window_pattern": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4},
    "gptj": {"rotary_dim": 8},
    "codegen": {"rotary_dim": 8},
    "falcon": {"new_decoder_architecture": False, "multi_query": True},
}
_WINDOWS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 8},
    "mixtral": {"sliding_window": 8},
    "phi3": {"sliding_window": 8},
    "starcoder2": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "gpt_oss": {"sliding_window": 8},
    "qwen2": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0},
    "qwen2_moe": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3_moe": {"sliding_window": 8, "use_sliding_window": True},
}
_LONGROPE: dict[str, Any] = {
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 32,
    },
    "original_max_position_embeddings": 32,
}  # fmt: skip
_OTHERS = (
    "bloom", "codegen", "cohere", "cohere2", "exaone4", "falcon", "glm", "glm4", "gpt_bigcode", "gpt_neo", "gptj",
    "helium", "jamba", "lfm2", "llama4_text", "mamba", "mamba2", "mpt", "nemotron", "olmo3", "opt", "persimmon",
    "phimoe", "recurrent_gemma", "bert", "roberta", "rwkv", "t5", "xlstm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FamilyResult:
    """One row of the table.

    Attributes:
        kind: transformers' model type; variant says what is special about the model ("window of 8").
        decoding: "drafts", "plain", "refused", or "not tried" where this transformers builds no tiny model of it.
        agrees: whether every text equals transformers' own greedy one; None where none was written.
        note: the reason in the program's words.
    """

    kind: str
    variant: str
    decoding: str
    agrees: bool | None
    note: str


def family_results(kinds: Sequence[str] | None = None) -> Iterator[FamilyResult]:
    """Try every architecture, or only some: greedy texts of all strategies against transformers' `generate`.

    The prompt has 20 tokens, the text 24; windows of 8 are passed several times, and LongRoPE's boundary of 32 once.
    """
    for kind in (*sorted(FAMILIES), *_OTHERS) if kinds is None else kinds:
        yield _result(kind, "", {})
        if kind in _WINDOWS:
            yield _result(kind, "window of 8", _WINDOWS[kind])
        if kind == "phi3":
            yield _result(kind, "LongRoPE", _LONGROPE)


def markdown(results: Sequence[FamilyResult]) -> str:
    """The table as docs/families.md has it."""
    said = {True: "equal to transformers", False: "**differs from transformers**", None: "–"}
    lines = ["| architecture | decoding | greedy texts | why |", "|---|---|---|---|"]
    for one in results:
        name = f"{one.kind}, {one.variant}" if one.variant else one.kind
        lines.append(f"| {name} | {one.decoding} | {said[one.agrees]} | {one.note} |")
    return "\n".join(lines) + "\n"


def _result(kind: str, variant: str, changes: dict[str, Any]) -> FamilyResult:
    try:
        model = _model(kind, changes)
    except ModelUnsupported as error:
        return FamilyResult(kind, variant, "refused", None, str(error))
    except Exception as error:  # configs of strangers' architectures raise what they like
        words = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        return FamilyResult(kind, variant, "not tried", None, f"no tiny model could be built ({words})")
    able = model.capabilities.supports_pass
    strategies = (Strategy.AUTOREGRESSIVE, Strategy.TWO_CALL, Strategy.FUSED) if able else (Strategy.AUTOREGRESSIVE,)
    try:
        wanted = _generated(model)
        agrees = all(_text(model, s) == wanted for s in strategies)
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        return FamilyResult(kind, variant, "not tried", None, f"the tiny model does not run ({words})")
    return FamilyResult(kind, variant, "drafts" if able else "plain", agrees, model.capabilities.reason)


def _model(kind: str, changes: dict[str, Any]) -> LanguageModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    fields: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": _CONTEXT, "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None, "use_cache": True, "tie_word_embeddings": False,
    }  # fmt: skip
    old = {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 64,
        "n_positions": _CONTEXT,
        "d_model": 32,
        "n_layers": 2,
    }
    old |= {"n_heads": 4, "max_seq_len": _CONTEXT}
    defaults: Any = AutoConfig.for_model(kind)
    named = set(defaults.to_dict()) | set(getattr(defaults, "attribute_map", {}))
    taken = {k: v for k, v in (fields | old).items() if k in named}
    config: Any = AutoConfig.for_model(kind, **(taken | _FIELDS.get(kind, {}) | changes))
    capabilities = examine(config)
    factory: Any = AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        try:
            model = factory.from_config(config, attn_implementation="sdpa", trust_remote_code=False)
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
            model = factory.from_config(config, attn_implementation="eager", trust_remote_code=False)
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.data.normal_(0.0, 2 * parameter.shape[-1] ** -0.5)
    if sum(p.numel() for p in model.parameters()) > 20_000_000:
        raise ValueError("its config ignores the small sizes")
    model.eval().requires_grad_(False)
    return LanguageModel(kind, kind, model, None, capabilities, fingerprint(model))


def _generated(model: LanguageModel) -> list[int]:
    ids = torch.tensor([_PROMPT])
    out: Any = model.model.generate(ids, max_new_tokens=_TOKENS, do_sample=False, attention_mask=torch.ones_like(ids))
    return cast("list[int]", out[0, ids.shape[1] :].tolist())


def _text(model: LanguageModel, strategy: Strategy) -> list[int]:
    settings = DecodingSettings(strategy=strategy, k=3, sampling=SamplingSettings(0.0, 0))
    steps = Engine(model).decode(list(_PROMPT), settings, stop=StopConditions(_TOKENS))
    return [t.id for step in steps for t in step.tokens]
