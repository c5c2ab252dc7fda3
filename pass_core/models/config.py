"""A model folder's config.json, read with suspicion: sizes are checked before anything is built from them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

from pass_core.models.errors import ModelDamaged, ModelUnsupported
from pass_core.models.own_code import needs_own_code, refusal

MAX_LAYERS = 1000  # several times the deepest published model; building modules takes time for each layer
_MAX_BYTES = 16 << 20
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_SIZES = (
    "hidden_size", "n_embd", "d_model", "num_attention_heads", "n_head", "num_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "intermediate_size", "n_inner", "max_position_embeddings", "n_positions", "moe_intermediate_size",
)  # fmt: skip
_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
_MOST = {**dict.fromkeys(_SIZES, 1 << 31), **dict.fromkeys(_LAYERS, MAX_LAYERS), **dict.fromkeys(_COUNTS, 1 << 14)}


def read_config(folder: Path, own_code: bool = False) -> Any:
    """The transformers config of a folder; no code from the folder runs unless `own_code` allows it.

    Raises:
        ModelDamaged: config.json is missing, no JSON, or its sizes make no model.
        ModelUnsupported: the model needs code of its own.
    """
    raw = _read_json(folder / "config.json")
    _check_own_code(raw, folder, own_code)
    for part in (raw, raw.get("text_config")):
        if isinstance(part, dict):
            check_sizes(cast("dict[str, Any]", part), f"{folder / 'config.json'}")
    from transformers import AutoConfig
    from transformers.utils import logging

    run = own_code and needs_own_code(raw)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # its advice is for authors of configs
    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=run)
    finally:
        logging.set_verbosity(level)


def check_sizes(fields: dict[str, Any], where: str) -> None:
    """Refuse counts and widths that are no whole positive numbers, or beyond any model's.

    Raises:
        ModelDamaged: with the field and its value.
    """
    for name, most in _MOST.items():
        value = fields.get(name)
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        for one in values:
            least = 0 if isinstance(value, list) or name in _COUNTS else 1  # layers of a kind may have none
            if one is not None and (isinstance(one, bool) or not isinstance(one, int) or not least <= one <= most):
                raise ModelDamaged(
                    f"{where} says {name} = {_shown(one)}, which no model has (a whole number from {least} to {most} "
                    "is expected). Download the model again."
                )
    _check_numbers(fields, where)
    heads, groups = fields.get("num_attention_heads"), fields.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(groups, int) and heads % groups:
        raise ModelDamaged(
            f"{where} says {heads} attention heads for {groups} key-value heads, which do not divide. "
            "Download the model again."
        )


def _check_numbers(fields: dict[str, Any], where: str) -> None:
    """Refuse what a norm or a rotary embedding makes no numbers of."""
    for name, value in fields.items():
        if isinstance(value, dict) and name.startswith("rope"):
            _check_numbers(cast("dict[str, Any]", value), where)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            positive = name.endswith("theta") or (name == "factor")
            small = name.endswith(("eps", "epsilon"))
            if (positive and not 0 < value < math.inf) or (small and not 0 <= value < math.inf):
                raise ModelDamaged(
                    f"{where} says {name} = {value}, of which no number can be computed. Download the model again."
                )


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_BYTES:
        raise ModelDamaged(f"{path} has {path.stat().st_size / 1e6:.0f} MB, which no config has. Download it again.")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ModelDamaged(f"{path} is no JSON file ({error}): the model is incomplete or damaged.") from error
    if not isinstance(found, dict):
        raise ModelDamaged(f"{path} holds no JSON object: the model is incomplete or damaged. Download it again.")
    return cast("dict[str, Any]", found)


def _check_own_code(raw: dict[str, Any], folder: Path, allowed: bool) -> None:
    """Refuse a model that transformers does not know and that brings its classes along (`auto_map`)."""
    kind = raw.get("model_type")
    if kind is not None and not isinstance(kind, str):
        raise ModelUnsupported(f"{folder / 'config.json'} names no model type ({_shown(kind)}). Download it again.")
    if needs_own_code(raw) and not allowed:
        raise refusal(folder)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
