"""The one place that lets a model of transformers attend in another way for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from pass_core.models.language_model import LanguageModel

Attention = Callable[..., tuple[torch.Tensor, None]]
"""Signature of transformers' `sdpa_attention_forward`."""


def uses_sdpa(model: LanguageModel) -> bool:
    """Whether it attends by PyTorch's scaled dot product, as it was loaded."""
    return getattr(model.model.config, "_attn_implementation", None) == "sdpa"


@contextlib.contextmanager
def attending_by(model: LanguageModel, name: str, attention: Attention) -> Generator[None]:
    """Attention by this function inside, with SDPA's masks; afterwards by SDPA again.

    Args:
        model: one that `uses_sdpa`.
        name: of the function among transformers' own.
    """
    config: Any = model.model.config
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, sdpa_mask)
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
