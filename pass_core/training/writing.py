"""Letting the model write many texts: one batched, sampled continuation with a preallocated cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pass_core.models.cache_argument import cache_argument
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.runtime.attention_switch import attending_by, uses_sdpa

FEWEST = 16


class _RoomLayer(DynamicLayer):
    """Keys and values in buffers with room for the whole sequence, so that a step copies nothing old."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.used = capacity, 0
        self._room: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self._room is None:
            b, h, _, d = key_states.shape
            dv = value_states.shape[-1]
            self._room = key_states.new_empty(b, h, self.capacity, d), value_states.new_empty(b, h, self.capacity, dv)
            self.is_initialized = True
        keys, values = self._room
        end = self.used + key_states.shape[-2]
        keys[:, :, self.used : end] = key_states
        values[:, :, self.used : end] = value_states
        self.used = end
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.used


def _room_cache(layers: int, capacity: int) -> Cache:
    cache: Any = DynamicCache()
    cache.layers = [_RoomLayer(capacity) for _ in range(layers)]
    return cache


def _next_logits(model: LanguageModel, rows: torch.Tensor, end: int, cache: Cache) -> torch.Tensor:
    """Logits [batch, vocabulary] after `rows` [batch, n], the tokens before position `end`, on the model's device."""
    batch, n = rows.shape
    out: Any = model.base(
        input_ids=rows,
        position_ids=torch.arange(end - n, end, device=model.device)[None].expand(batch, -1),
        **{cache_argument(model.base.forward): cache},
        use_cache=True,
    )
    return model.logits(out.last_hidden_state[:, -1])


_GROUPED = "pass_grouped"


def _grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA, but with one new token per row one product per KV head: on CPUs a tenth of the fused kernel's time."""
    batch, heads, rows, size = query.shape
    if rows != 1 or attention_mask is not None or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    kv_heads, length = key.shape[1], key.shape[2]
    grouped = query.reshape(batch * kv_heads, heads // kv_heads, size)
    logits = torch.bmm(grouped, key.reshape(batch * kv_heads, length, size).transpose(1, 2)).float()
    weights = torch.softmax(logits * (size**-0.5 if scaling is None else scaling), -1).to(value.dtype)
    out = torch.bmm(weights, value.reshape(batch * kv_heads, length, value.shape[-1]))
    return out.view(batch, 1, heads, value.shape[-1]), None


@contextlib.contextmanager
def _fast_attention(model: LanguageModel) -> Generator[None]:
    """Grouped attention inside, for models on a CPU that use SDPA."""
    if model.device.type != "cpu" or not uses_sdpa(model):
        yield
        return
    with attending_by(model, _GROUPED, _grouped_attention):
        yield


def _draw(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """[batch] one token from each row of float32 logits, by the inverse of the cumulative distribution.

    The random numbers are the CPU's, so that any device draws from the same.
    """
    sums = torch.softmax(logits, -1).cumsum(-1)
    uniform = torch.rand(logits.shape[0], 1, generator=generator).to(logits.device)
    return torch.searchsorted(sums, uniform * sums[:, -1:]).clamp_max_(logits.shape[-1] - 1).squeeze(-1)


@torch.no_grad()
def continue_text(
    model: LanguageModel,
    prefixes: torch.Tensor,
    length: int,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    generator: torch.Generator,
    *,
    opening: int = 0,
    cancel: CancelToken | None = None,
    enough: Callable[[], bool] | None = None,
) -> torch.Tensor:
    """Sample until each row has `length` tokens; ends of text are written over, so a turn follows the last.

    Returns:
        [batch, length] on the CPU.

    Args:
        prefixes: [batch, n] token ids.
        temperature, top_k: [batch] each; top-k 0 keeps all tokens.
        opening: number of first tokens that are drawn at temperature 1 without top-k, for variety.
        enough: asked before each token; once it says so, the rows stay as long as they are then, with at least
            `FEWEST` tokens beyond prefix and opening.
    """
    batch, n = prefixes.shape
    # Everything stays on the model's device until the end: a GPU is never waited for.
    ids = torch.empty(batch, length, dtype=torch.long, device=model.device)
    ids[:, :n] = prefixes.to(model.device)
    limited = int(top_k.max())
    temperature, top_k = temperature.to(model.device), top_k.to(model.device)
    cache = _room_cache(len(model.layers), length)
    rows = ids[:, :n]
    with _fast_attention(model):
        for at in range(n, length):
            if cancel is not None:
                cancel.raise_if_cancelled()
            if enough is not None and at >= n + opening + FEWEST and enough():
                return ids[:, :at].cpu()
            logits = _next_logits(model, rows, at, cache)
            if at - n >= opening:
                if limited:
                    best = logits.topk(limited, -1).values
                    last = best.gather(1, (top_k - 1).clamp_min(0)[:, None])
                    logits = logits.masked_fill((top_k > 0)[:, None] & (logits < last), float("-inf"))
                logits = logits / temperature[:, None]
            ids[:, at] = _draw(logits, generator)
            rows = ids[:, at : at + 1]
    return ids.cpu()
