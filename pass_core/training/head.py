"""The frozen model's vocabulary head, over all tokens or a part of them."""

from __future__ import annotations

from typing import Any

import torch

from pass_core.models.language_model import LanguageModel


def scores(model: LanguageModel, hidden: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
    """Logits in float32 of final hidden states [rows, hidden]: [rows, vocabulary], or [rows, len(ids)]."""
    head: Any = model.head
    weight: torch.Tensor = head.weight
    bias: torch.Tensor | None = head.bias
    if ids is not None:
        weight, bias = weight[ids], None if bias is None else bias[ids]
    logits = torch.nn.functional.linear(hidden, weight, bias).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def part_scores(model: LanguageModel, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Logits [batch, rows, size] in float32 of final hidden states [batch, rows, hidden], over `ids` [batch, size]."""
    return torch.stack([scores(model, states, part) for states, part in zip(hidden, ids, strict=True)])
