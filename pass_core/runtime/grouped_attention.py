"""Attention of query heads that share keys and values, without a copy of these for each query head.

transformers repeats keys and values where a mask is given, which copies the whole KV cache in every layer of every
pass of more than one row. Here each KV head is a sequence of the batch, and its query heads read the same memory
through a stride of 0; the sums of a head stay as they are.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Generator
from typing import Any

import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.attention_switch import attending_by, uses_sdpa

_NAME = "pass_shared_keys"
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
_OTHER_KINDS = ("softcap", "position_bias", "s_aux")
log = logging.getLogger(__name__)


def shared_keys_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """`sdpa_attention_forward` of transformers; what is not masked attention of one sequence goes there.

    Args:
        query: [1, heads, n, head_dim].
        key, value: [1, kv_heads, keys, head_dim].
        attention_mask: [1, 1, n, keys], bool or additive.

    Returns:
        [1, n, heads, head_dim].
    """
    batch, heads, rows, _ = query.shape
    kv_heads = key.shape[1]
    ours = batch == 1 and rows > 1 and heads > kv_heads and not dropout
    ours = ours and attention_mask is not None and attention_mask.shape[:2] == (1, 1)
    if not ours or any(kwargs.get(kind) is not None for kind in _OTHER_KINDS):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    shared = (kv_heads, heads // kv_heads, -1, -1)
    out = nn.functional.scaled_dot_product_attention(
        query[0].unflatten(0, shared[:2]),
        key[0, :, None].expand(shared),
        value[0, :, None].expand(shared),
        attn_mask=attention_mask,
        scale=scaling,
    )
    return out.permute(2, 0, 1, 3).reshape(1, rows, heads, value.shape[-1]), None


@functools.cache
def can_share(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch computes it rightly on a device, tried once against transformers' own way."""
    if device.type not in ("cpu", "cuda") or dtype not in _TOLERANCE:
        return False  # on Apple's GPU transformers expands nothing
    module = nn.Module()
    module.num_key_value_groups = 3  # type: ignore[assignment]
    random = torch.Generator().manual_seed(0)
    shapes = ((1, 6, 5, 16), (1, 2, 24, 16), (1, 2, 24, 16))
    query, key, value = (torch.randn(s, generator=random).to(device, dtype) for s in shapes)
    mask = (torch.rand(1, 1, 5, 24, generator=random) < 0.5).index_fill_(3, torch.zeros(1, dtype=torch.long), True)
    try:
        with torch.inference_mode():
            got, expected = (
                attend(module, query, key, value, mask.to(device), scaling=0.3)[0]
                for attend in (shared_keys_attention, sdpa_attention_forward)
            )
            difference = float((got.float() - expected.float()).abs().max())
    except RuntimeError as error:
        log.info("keys are repeated for every query head: %s", error)
        return False
    if not difference <= _TOLERANCE[dtype]:
        log.info("keys are repeated for every query head: sharing them differs by %.2g", difference)
        return False
    return True


@contextlib.contextmanager
def shared_keys(model: LanguageModel) -> Generator[None]:
    """Attention as above inside, for models that use SDPA, where it can be computed."""
    if not uses_sdpa(model) or not can_share(model.device, model.dtype):
        yield
        return
    with attending_by(model, _NAME, shared_keys_attention):
        yield
