"""What the engine can do with an architecture, read from its config before any weight is loaded."""

from __future__ import annotations

from typing import Any

from pass_core.models.errors import ModelUnsupported
from pass_core.models.language_model import Capabilities

# Decoders whose attention takes any mask and whose positions are given row by row (mixtures of experts among them:
# experts see one row at a time); tests check each of them against a plain forward. Value: whether positions are learned
# (a table) instead of rotary.
FAMILIES: dict[str, bool] = {
    "llama": False,
    "mistral": False,
    "qwen2": False,
    "qwen3": False,
    "phi": False,
    "phi3": False,
    "gemma": False,
    "gemma2": False,
    "gemma3_text": False,
    "gpt_neox": False,
    "gpt2": True,
    "olmo": False,
    "olmo2": False,
    "smollm3": False,
    "stablelm": False,
    "granite": False,
    "starcoder2": False,
    "mixtral": False,
    "qwen2_moe": False,
    "qwen3_moe": False,
    "olmoe": False,
    "granitemoe": False,
    "gpt_oss": False,
}
_POSITION_BIAS = {"bloom": "ALiBi", "mpt": "ALiBi", "t5": "relative position bias"}
# Encoders; transformers runs them as decoders where `is_decoder` is set, and else every token sees the whole text.
_ENCODERS = frozenset(
    {
        "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
        "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta",
        "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip
_OWN_STATE = ("rwkv", "xlstm")  # their state is no transformers cache
_RECURRENT_KINDS = ("falcon_h1", "lfm2", "zamba", "jamba", "bamba", "nemotron_h")
_RECURRENT_SIGNS = ("mamba", "rwkv", "ssm", "recurrent", "linear_attention", "xlstm", "gated_delta", "conv")


def examine(config: Any, own_code: bool = False) -> Capabilities:
    """Capabilities of a model by its transformers config.

    Args:
        own_code: whether its classes are code of the model's folder.

    Raises:
        ModelUnsupported: it is no causal language model at all.
    """
    text = config.get_text_config()
    kind = str(text.model_type)
    length = context_length(text)
    if own_code:
        reason = f"{kind} runs with code of its own, whose mask and cache nobody has checked."
        return Capabilities(False, reason, length)
    refuse_unusable(config)
    reason = _reason(text, kind)
    return Capabilities(
        not reason,
        reason,
        length,
        learned_positions=FAMILIES.get(kind, False),
        sliding_window=_sliding_window(text, list(getattr(text, "layer_types", None) or [])),
    )


def refuse_unusable(config: Any) -> None:
    """Raises:
    ModelUnsupported: encoder-decoder models, and architectures that transformers has no causal model for.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    text = config.get_text_config()
    kind = str(text.model_type)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelUnsupported(
            f"This is an encoder-decoder model ({kind}); only decoder-only language models can be used. "
            "Choose a model such as SmolLM2, Llama, Qwen or GPT-2."
        )
    if kind in _OWN_STATE:
        raise ModelUnsupported(
            f"{kind} models keep their state in a form of their own, which this program cannot carry along. "
            "Choose a model such as SmolLM2, Llama, Qwen or GPT-2."
        )
    architectures: list[str] = getattr(config, "architectures", None) or []
    masked = any(
        a.endswith(("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")) for a in architectures
    )
    encoder = getattr(text, "is_decoder", None) is False and kind in _ENCODERS
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or masked or encoder:
        raise ModelUnsupported(
            f"“{', '.join(architectures) or kind}” is no language model that continues a text. "
            "Choose a causal model such as SmolLM2, Llama, Qwen or GPT-2."
        )


def context_length(text: Any) -> int:
    """The most tokens of prompt and text together; 2048 where the config is silent."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2048


def _reason(text: Any, kind: str) -> str:
    """Why PASS cannot run, in plain words; "" when it can."""
    if kind in _POSITION_BIAS or getattr(text, "alibi", False):
        bias = _POSITION_BIAS.get(kind, "ALiBi")
        return (
            f"{kind} encodes positions as {bias} inside the attention mask, so look-ahead rows cannot be placed freely."
        )
    recurrent = recurrent_parts(text)
    if recurrent:
        return f"{kind} keeps a running state ({recurrent}) that rejected drafts cannot be taken out of."
    boundary = rope_boundary(text)
    if boundary is not None:
        return (
            f"{kind} rotates every position anew once the text has more than {boundary} tokens (LongRoPE), so drafts "
            "that reach beyond that are computed for another text."
        )
    chunk = getattr(text, "attention_chunk_size", None)
    if chunk and chunk < context_length(text):
        return f"{kind} attends within chunks of {chunk} tokens, which look-ahead rows would cross."
    if kind not in FAMILIES:
        return (
            f"{kind} is not among the families whose mask and cache are known to allow drafting "
            "(“python -m pass_core models --families” lists them)."
        )
    return ""


def recurrent_parts(text: Any) -> str:
    """What keeps a running state instead of keys and values, "" where nothing does."""
    for layer_type in getattr(text, "layer_types", None) or []:
        if any(sign in layer_type for sign in _RECURRENT_SIGNS):
            return str(layer_type)
    kind = str(text.model_type)
    return "recurrent layers" if any(sign in kind for sign in (*_RECURRENT_SIGNS, *_RECURRENT_KINDS)) else ""


def rope_boundary(text: Any) -> int | None:
    """The length beyond which LongRoPE takes its other table of factors; None where it never does."""
    rope: Any = getattr(text, "rope_parameters", None) or {}
    for table in (rope, *(v for v in rope.values() if isinstance(v, dict))):
        if table.get("rope_type") == "longrope" and table.get("short_factor") != table.get("long_factor"):
            original = table.get("original_max_position_embeddings") or getattr(
                text, "original_max_position_embeddings", None
            )
            if isinstance(original, int) and original < context_length(text):
                return original
    return None


def _sliding_window(text: Any, layer_types: list[str]) -> int | None:
    """The window when it is in use and shorter than the context, else None."""
    window = getattr(text, "sliding_window", None)
    if not window or getattr(text, "use_sliding_window", True) is False or window >= context_length(text):
        return None
    if layer_types and not any("sliding" in t for t in layer_types):
        return None
    return int(window)
