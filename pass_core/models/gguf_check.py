"""GGUF files that hold no whole language model: adapters, projectors, single parts and files with tensors missing."""

from __future__ import annotations

import re

from pass_core.models.config import check_sizes
from pass_core.models.errors import ModelDamaged, ModelUnsupported
from pass_core.models.gguf_header import GgufHeader
from pass_core.models.weights import names

_BLOCK = re.compile(r"^blk\.(\d+)\.")
_ADAPTER = re.compile(r"\.lora_[ab]$")
_PROJECTOR = re.compile(r"^(v|a|mm)\.")
_SIZES = {
    "block_count": "num_hidden_layers", "embedding_length": "hidden_size", "attention.head_count": "num_heads",
    "attention.head_count_kv": "num_key_value_heads", "attention.key_length": "head_dim",
    "feed_forward_length": "intermediate_size", "context_length": "n_positions", "vocab_size": "vocab_size",
    "expert_count": "num_experts",
}  # fmt: skip


def check_gguf(header: GgufHeader) -> None:
    """Refuse what is no whole language model, before anything is built from it.

    Raises:
        ModelUnsupported: an adapter, a projector, one part of several, or another kind of file.
        ModelDamaged: sizes or tensors are missing.
    """
    _refuse_kinds(header)
    if not header.tensors:
        raise ModelDamaged(f"{header.name} holds no tensors, only a vocabulary. Choose a file with the weights.")
    blocks = header.of_model("block_count")
    if blocks is None:
        raise ModelDamaged(
            f"{header.name} does not say how many layers its model has ({header.architecture or '?'}.block_count). "
            "It is no language model, or it is damaged: download it again."
        )
    check_sizes({ours: header.of_model(key) for key, ours in _SIZES.items()}, header.name)
    if not header.metadata.get("tokenizer.ggml.tokens"):
        raise ModelDamaged(f"{header.name} holds no tokenizer. Choose another file of the model.")
    found = {int(m[1]) for m in map(_BLOCK.match, header.tensors) if m}
    lacking = [f"blk.{i}.*" for i in range(blocks) if i not in found]
    if lacking or "token_embd.weight" not in header.tensors:
        lacking += [] if "token_embd.weight" in header.tensors else ["token_embd.weight"]
        raise ModelDamaged(f"{header.name} is incomplete: it lacks the weights {names(lacking)}. Download it again.")


def _refuse_kinds(header: GgufHeader) -> None:
    data, name = header.metadata, header.name
    kind = str(data.get("general.type", "model"))
    if kind == "adapter" or "adapter.type" in data or any(map(_ADAPTER.search, header.tensors)):
        raise ModelUnsupported(
            f"{name} is an adapter (LoRA) and no model. Merge it into its model first, for example with llama.cpp's "
            "llama-export-lora."
        )
    projector = kind == "mmproj" or header.architecture == "clip" or any(k.startswith("clip.") for k in data)
    if projector or (header.tensors and all(map(_PROJECTOR.match, header.tensors))):
        raise ModelUnsupported(f"{name} is the projector of a multimodal model. Choose the language model's file.")
    parts = data.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise ModelUnsupported(
            f"{name} is one of {parts} parts, and its name does not say so. Put all parts into one folder, with names "
            f"such as model-00001-of-{parts:05}.gguf, and choose one of them."
        )
    if kind != "model":
        raise ModelUnsupported(f"{name} is a GGUF file of the kind “{kind}” and no model. Choose another file.")
    if not header.architecture:
        raise ModelDamaged(f"{name} does not name its architecture. Download it again.")
