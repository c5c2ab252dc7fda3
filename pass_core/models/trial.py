"""One small forward pass of a loaded model: weights or settings that make no numbers are refused before any text.

Without it such a model writes its first token for ever, and nothing says why.
"""

from __future__ import annotations

from typing import Any

import torch

from pass_core.models.errors import ModelDamaged

TEXT = "The keeper climbed 12 stairs."
_MOST_TOKENS = 8
_REMEDY = {torch.float16: "Choose another dtype (float16 holds no numbers above 65,504), or download the model again."}


def sample_ids(tokenizer: Any) -> list[int]:
    """Token ids of a short text, which must be whole numbers.

    Raises:
        Exception: any that a damaged tokenizer raises.
    """
    return [int(i) for i in tokenizer(TEXT)["input_ids"]]


def check_numbers(model: Any, ids: list[int], name: str) -> None:
    """Refuse a model whose logits are not all finite.

    Args:
        model: transformers' model, on its device.
        ids: of a text; those that the model has no embedding for are left out.

    Raises:
        ModelDamaged: with the way out.
    """
    table: Any = model.get_input_embeddings().weight
    known = [i for i in ids if 0 <= i < table.shape[0]][:_MOST_TOKENS] or [0, min(1, table.shape[0] - 1)]
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([known], device=table.device), use_cache=False).logits
    if not torch.isfinite(logits).all():
        dtype = str(model.dtype).removeprefix("torch.")
        raise ModelDamaged(
            f"{name} computes no numbers (NaN or infinity) in {dtype}: its weights or its config.json are damaged. "
            + _REMEDY.get(model.dtype, "Download it again.")
        )
