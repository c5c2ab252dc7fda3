"""Attention masks of layers with a sliding window, over full buffers, so that drafts can be rolled back."""

from __future__ import annotations

import torch

from pass_core.models.language_model import LanguageModel

Masks = torch.Tensor | dict[str, torch.Tensor]


def layer_masks(model: LanguageModel, allowed: torch.Tensor, distance: torch.Tensor) -> Masks:
    """The mask that every kind of layer gets, in the form that the model's attention takes.

    A layer with a window of w tokens sees itself and w - 1 positions before it, wherever their rows lie.

    Args:
        allowed: bool [..., rows, keys], True where a row may attend but for windows.
        distance: int [..., rows, keys], a row's position minus its key's.

    Returns:
        One mask, or one for each kind of layer by its name in the config's `layer_types`: bool (True = attend), or
        additive in the model's dtype where attention is eager.
    """
    window = model.capabilities.sliding_window
    if window is None:
        return _form(model, allowed)
    windowed = _form(model, allowed & (distance < window))
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if len(kinds) < 2:
        return windowed
    return {"full_attention": _form(model, allowed), "sliding_attention": windowed}


def _form(model: LanguageModel, allowed: torch.Tensor) -> torch.Tensor:
    # Only SDPA takes booleans; eager attention adds the mask.
    if getattr(model.model.config, "_attn_implementation", "sdpa") != "eager":
        return allowed
    floor = torch.finfo(model.dtype).min
    return torch.zeros_like(allowed, dtype=model.dtype).masked_fill(~allowed, floor)
