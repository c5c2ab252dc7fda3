"""A model's files against its config: missing, unexpected and mis-shaped tensors are refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, cast

import torch

from pass_core.models.errors import ModelDamaged

_SHOWN = 4  # names in a sentence
_LONGEST_HEADER = 100 << 20  # safetensors' own limit
# Buffers that older versions of transformers saved; a model computes them anew.
_WHOLE = re.compile(r"[IU]\d+$|BOOL$")
_OLD_BUFFERS = re.compile(r"(\.(masked_bias|inv_freq|position_ids|rope\.freqs)|\.(attn|attention)\.bias)$")


def skeleton(config: Any, own_code: bool = False) -> Any:
    """The model of a config without memory for its weights (on torch's meta device).

    Args:
        own_code: whether code of the model's folder may run.

    Raises:
        Exception: any that transformers raises for a config that makes no model.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=own_code)


def weight_count(model: Any) -> int:
    """How many weights a model has, shared ones once; the buffers that it computes count as well."""
    return sum(t.numel() for t in {id(t): t for t in (*model.parameters(), *model.buffers())}.values())


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Shape of every tensor in a folder's safetensors files, by name, from the headers alone; None without such files.

    Raises:
        ModelDamaged: a header cannot be read, or says more data than its file has.
    """
    files = [p for p in sorted(folder.glob("*.safetensors")) if not p.name.startswith(("consolidated", "adapter_"))]
    if not files:
        return None
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files:
        shapes |= _header(path)
    return shapes


def check_stored(model: Any, folder: Path) -> None:
    """Refuse files that hold far fewer weights than the model of their config, before memory is taken for it.

    Args:
        model: the skeleton.

    Raises:
        ModelDamaged: with names of tensors that are missing.
    """
    shapes = stored_shapes(folder)
    if shapes is None:
        return
    stored = sum(math.prod(s) for s in shapes.values())
    needed = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    if needed <= 1.5 * stored:
        return  # names may differ between the file and the model; what is missing shows when it is loaded
    prefix = f"{model.base_model_prefix}."
    by_name = {n.removeprefix(prefix): s for n, s in shapes.items()}
    missing = [n for n, p in model.named_parameters() if by_name.get(n.removeprefix(prefix)) != tuple(p.shape)]
    raise ModelDamaged(
        f"The model in {folder} is incomplete or damaged: its files hold {stored:,} weights, and its config.json asks "
        f"for {needed:,}. Missing or of another shape: {names(missing)}. Download it again."
    )


def check_loaded(model: Any, info: dict[str, Any], origin: str) -> None:
    """Refuse a model of which transformers filled parts with random numbers, or left stored tensors out.

    Args:
        info: what `from_pretrained(..., output_loading_info=True)` returned.
        origin: the folder or file, for the message.

    Raises:
        ModelDamaged: with the names.
    """
    shapes = sorted(cast("Iterable[tuple[str, Any, Any]]", info.get("mismatched_keys") or ()), key=lambda m: m[0])
    if shapes:
        _, found, wanted = shapes[0]
        raise ModelDamaged(
            f"{origin} does not fit its own config: {names([m[0] for m in shapes])} "
            f"(the first has shape {list(found)}, and the config asks for {list(wanted)}). Download it again."
        )
    missing = sorted(cast("Collection[str]", info.get("missing_keys") or ()))
    if missing:
        raise ModelDamaged(f"{origin} is incomplete: it lacks the weights {names(missing)}. Download it again.")
    errors = info.get("conversion_errors") or info.get("error_msgs")
    if errors:
        raise ModelDamaged(f"{origin} cannot be put together: {names(sorted(map(str, errors)))}. Download it again.")
    left_out = sorted(n for n in info.get("unexpected_keys") or () if _belongs(model, n))
    if left_out:
        raise ModelDamaged(
            f"{origin} holds weights that its config has no place for: {names(left_out)}. "
            "The text would be another model's. Download it again, or mend config.json."
        )


def names(all_names: Collection[str]) -> str:
    """A few of the names, and how many there are."""
    shown = ", ".join(list(all_names)[:_SHOWN])
    return shown if len(all_names) <= _SHOWN else f"{shown} … ({len(all_names)} tensors)"


def _belongs(model: Any, name: str) -> bool:
    """Whether a stored tensor is of the text decoder's layers, so that leaving it out changes the text."""
    if _OLD_BUFFERS.search(name):
        return False
    count = int(model.config.get_text_config().num_hidden_layers)
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            short = path.removeprefix(f"{model.base_model_prefix}.")
            return name.startswith((f"{path}.", f"{short}."))
    return False


def _refuse_whole_numbers(path: Path, found: dict[str, Any]) -> None:
    """Weights are floating-point numbers; a cast of anything else loads without a word, and is another model.

    Raises:
        ModelDamaged: with the names.
    """
    wrong = [n for n, t in found.items() if _WHOLE.match(str(t["dtype"])) and n.endswith((".weight", ".bias"))]
    left = [n for n in wrong if not _OLD_BUFFERS.search(n)]
    if left:
        raise ModelDamaged(
            f"{path} stores {names(left)} as whole numbers ({found[left[0]]['dtype']}): it is quantised in a way that "
            "cannot be read, or damaged. Choose the original model."
        )


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
                raise ValueError(f"its header would have {length} bytes")
            found: dict[str, Any] = json.loads(file.read(length))
        found.pop("__metadata__", None)
        _refuse_whole_numbers(path, found)
        end = max((int(t["data_offsets"][1]) for t in found.values()), default=0)
        if 8 + length + end > size:
            raise ValueError(f"it ends {8 + length + end - size} bytes early")
        return {name: tuple(int(n) for n in t["shape"]) for name, t in found.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ModelDamaged(f"{path} is incomplete or damaged ({error}). Download it again.") from error
