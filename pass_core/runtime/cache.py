"""The KV cache: preallocated buffers, an explicit write slot, and a commit that keeps accepted rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache


class KVCache(Cache):
    """Keys and values of all layers in one buffer [layers, 2, kv_heads, capacity, head_dim] (batch 1).

    A forward pass writes its rows at slots length..length+n-1; `commit` then moves the kept ones together and
    advances `length`. Nothing else grows, shrinks or is concatenated, so rejected drafts and look-ahead rows vanish
    by being overwritten. Keys are stored after RoPE, so a row may move to another slot.

    Buffers are allocated at the first update, when the model's own shapes and dtype are known.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        super().__init__(layers=[])
        self.layer_count = layers
        self.capacity = capacity
        self.length = 0
        self._buffers: dict[torch.device, torch.Tensor] = {}
        self._placement: dict[int, tuple[torch.device, int]] = {}
        self._pending = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [1, kv_heads, n, head_dim] of one layer; returns views of everything up to the last row.

        Raises:
            RuntimeError: when the rows do not fit; callers reserve capacity, so this is a bug.
        """
        rows = key_states.shape[2]
        end = self.length + rows
        if end > self.capacity:
            raise RuntimeError(f"KV cache of {self.capacity} slots cannot hold {end} rows")
        buffer = self._layer(layer_idx, key_states)
        buffer[0, :, self.length : end].copy_(key_states[0])
        buffer[1, :, self.length : end].copy_(value_states[0])
        self._pending = rows
        return buffer[0, None, :, :end], buffer[1, None, :, :end]

    def _layer(self, layer_idx: int, like: torch.Tensor) -> torch.Tensor:
        if layer_idx not in self._placement:
            # With a device map layers live on several devices: one buffer per device, made when first seen.
            if like.device not in self._buffers:
                shape = (self.layer_count, 2, like.shape[1], self.capacity, like.shape[3])
                self._buffers[like.device] = like.new_empty(shape)
            self._placement[layer_idx] = (like.device, layer_idx)
        device, index = self._placement[layer_idx]
        return self._buffers[device][index]

    @torch.inference_mode()
    def commit(self, rows: Sequence[int]) -> None:
        """Keep these rows of the last pass, in this order, as the newest entries; forget the others."""
        kept = len(rows)
        if list(rows) != list(range(kept)):
            for device, buffer in self._buffers.items():
                source = torch.tensor(rows, device=device) + self.length
                buffer[:, :, :, self.length : self.length + kept] = buffer.index_select(3, source)
        self.length += kept
        self._pending = 0

    def truncate(self, length: int) -> None:
        """Forget everything after `length` entries."""
        self.length = min(self.length, length)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return sum(b.numel() * b.element_size() for b in self._buffers.values())

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return self.capacity

    def get_query_offset(self, layer_idx: int | None = None) -> int:
        return self.length

    @property
    def is_initialized(self) -> bool:
        return bool(self._buffers)

    def __len__(self) -> int:
        return self.layer_count
