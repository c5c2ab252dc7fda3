"""What a GGUF file says of its model and transformers' reader drops: written into the config, or the file is refused.

transformers 5 reads neither rope scaling nor key lengths nor soft caps, and takes a config class's defaults for what it
does not read: a text that looks right and is another model's. Here every key of the model must be known.
"""

from __future__ import annotations

import math
from typing import Any, cast

from pass_core.models.errors import ModelUnsupported
from pass_core.models.gguf_header import GgufHeader
from pass_core.models.gguf_rope import rope_keys, set_rope

# Keys that say nothing about the computation, or repeat what the tensors' shapes say.
_SILENT = frozenset({"vocab_size", "rope.scaling.finetuned", "tensor_data_layout", "attention.relative_buckets_count"})
_ARRAYS_OF_EQUALS = {"attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
                     "feed_forward_length": "intermediate_size"}  # fmt: skip
_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
_EPSILON_KEYS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
# Keys with one config field each, on architectures that have the field.
_FIELDS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "use_parallel_residual": "use_parallel_residual",
}
# Keys whose value must be the one that the architecture has in transformers anyway.
_FIXED: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.max_alibi_bias": (0, 0.0),
    "attention.clamp_kqv": (0, 0.0),
    "expert_weights_norm": (True,),
    "expert_weights_scale": (1, 1.0, 0, 0.0),
    "expert_gating_func": (1, 0),
    "expert_shared_count": (0,),
    "leading_dense_block_count": (0,),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "logit_scale": (1, 1.0, 0, 0.0),
    "embedding_scale": (1, 1.0),
    "residual_scale": (1, 1.0),
}
_OWN_READERS = frozenset({"lfm2", "qwen35", "qwen35moe"})  # transformers reads all keys of these, strictly
_WINDOWED = frozenset({"gemma2", "gemma3", "phi3", "mistral", "starcoder2", "gpt-oss", "gpt_oss"})


def complete_config(config: Any, header: GgufHeader, factors: dict[str, list[float]]) -> None:
    """Write into a config what the file says, in place.

    Args:
        factors: the values of the file's tables of rope factors, by the tensors' names.

    Raises:
        ModelUnsupported: the file says something that the config cannot, named in the message.
    """
    text = config.get_text_config()
    text.vocab_size = header.tensors["token_embd.weight"].shape[0]
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):  # never a config class's own
        at = header.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
        setattr(text, f"{ours}_token_id", at if isinstance(at, int) and 0 <= at < text.vocab_size else None)
    if header.architecture in _OWN_READERS:
        return
    known = set(_SILENT)
    known |= _sizes(text, header)
    known |= _heads(text, header)
    known |= _plain_fields(text, header)
    known |= _window(text, header)
    known |= rope_keys(header)
    _refuse_unknown(header, known | _of_transformers(header.architecture))
    set_rope(text, header, factors)


def _sizes(text: Any, header: GgufHeader) -> set[str]:
    length = header.of_model("context_length")
    if length is not None:
        # GPT-2's reader calls it n_ctx, which its config does not have.
        text.max_position_embeddings = int(length)
    inner = header.of_model("feed_forward_length")
    if isinstance(inner, int) and hasattr(text, "n_inner"):
        text.n_inner = inner
    for key, field in _ARRAYS_OF_EQUALS.items():
        value = header.of_model(key)
        if isinstance(value, list):
            counts = set(cast("list[int]", value))
            if len(counts) != 1:
                raise _unsupported(header, key, "another number in every layer")
            setattr(text, field, counts.pop())
    return {"context_length", *_ARRAYS_OF_EQUALS}


def _heads(text: Any, header: GgufHeader) -> set[str]:
    """Width of a head: `key_length`, else the hidden size shared out; values must have the keys' width."""
    heads = header.of_model("attention.head_count")
    shared = int(header.of_model("embedding_length", 0)) // heads if isinstance(heads, int) and heads else None
    width = header.of_model("attention.key_length", shared)
    values = header.of_model("attention.value_length", width)
    if width is not None:
        if values != width:
            raise _unsupported(header, "attention.value_length", f"{values}, where keys have {width}")
        if hasattr(text, "head_dim"):
            text.head_dim = int(width)
        elif width != shared:
            raise _unsupported(header, "attention.key_length", f"{width}, where the hidden size gives {shared}")
    if header.architecture in ("gemma2", "gemma3") and width is not None and shared is not None:
        # llama.cpp tells the 27B models by their layers; they divide by the hidden size's share.
        largest = header.of_model("block_count") in (46, 62)
        text.query_pre_attn_scalar = shared if largest else width
    return {"attention.key_length", "attention.value_length"}


def _plain_fields(text: Any, header: GgufHeader) -> set[str]:
    known: set[str] = set(_EPSILON_KEYS)
    epsilon = next((e for k in _EPSILON_KEYS if (e := header.of_model(k)) is not None), None)
    field = next((f for f in _EPSILONS if hasattr(text, f)), None)
    if epsilon is not None and field is not None:
        # The file has float32: 1e-6 comes as 9.999999974752427e-07.
        setattr(text, field, float(f"{epsilon:.7g}"))
    for key, name in _FIELDS.items():
        value = header.of_model(key)
        if value is None or (key == "expert_count" and not value):
            known.add(key)
        elif hasattr(text, name):
            setattr(text, name, float(value) if isinstance(value, float) else value)
            known.add(key)
        elif key == "expert_used_count" and not value:
            known.add(key)
    for key, allowed in _FIXED.items():
        value = header.of_model(key)
        if value is not None and value not in allowed:
            raise _unsupported(header, key, str(value))
        known.add(key)
    if header.architecture == "gemma2":
        known |= {"attention.sliding_window"}
    return known


def _window(text: Any, header: GgufHeader) -> set[str]:
    window, pattern = header.of_model("attention.sliding_window"), header.of_model("attention.sliding_window_pattern")
    if window and header.architecture not in _WINDOWED:
        raise _unsupported(header, "attention.sliding_window", str(window))
    if hasattr(text, "sliding_window") and header.architecture in _WINDOWED - {"gpt-oss", "gpt_oss"}:
        text.sliding_window = int(window) if window else None
        if not window and getattr(text, "layer_types", None):
            text.layer_types = ["full_attention"] * int(header.of_model("block_count"))
    if pattern is not None and getattr(text, "layer_types", None):
        count = int(header.of_model("block_count"))
        if isinstance(pattern, list):
            slides = [bool(s) for s in cast("list[Any]", pattern)]
        else:
            slides = [bool((i + 1) % int(pattern)) for i in range(count)]
        text.layer_types = ["sliding_attention" if s else "full_attention" for s in slides]
    return {"attention.sliding_window", "attention.sliding_window_pattern"}


def _of_transformers(architecture: str) -> set[str]:
    """Keys that transformers' own reader puts into the config."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    table = cast("dict[str, dict[str, str | None]]", GGUF_CONFIG_MAPPING)
    aliases = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss", "minimax-m2": "minimax_m2"}
    fields = table.get(aliases.get(architecture, architecture), {})
    return {key for key, field in fields.items() if field is not None} | {"block_count", "embedding_length"}


def _refuse_unknown(header: GgufHeader, known: set[str]) -> None:
    prefix = f"{header.architecture}."
    keys = {k.removeprefix(prefix): v for k, v in header.metadata.items() if k.startswith(prefix)}
    for key, value in sorted(keys.items()):
        if key not in known:
            raise _unsupported(header, key, _short(value))


def _unsupported(header: GgufHeader, key: str, value: str) -> ModelUnsupported:
    return ModelUnsupported(
        f"{header.name} cannot be converted rightly: its {header.architecture}.{key} is {value}, which transformers' "
        f"{header.architecture} cannot express. Choose the original model, or another file."
    )


def _short(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    text = str(cast("object", value))
    return text if len(text) <= 40 else f"{text[:40]}…"
