"""The KV cache over lent buffers, and the face that captured calls see of it."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

from pass_core.runtime.cache import KVCache
from pass_core.runtime.cuda_graphs.storage import Storage, StoragePool


class StaticCache(KVCache):
    """A `KVCache` whose buffer has one of few sizes and is lent by a pool; it moves to a larger one when it is full."""

    def __init__(self, pool: StoragePool, layers: int, capacity: int) -> None:
        super().__init__(layers, capacity)
        self._pool = pool
        self.storage: Storage | None = None

    @torch.inference_mode()
    def reserve(self, rows: int) -> None:
        """Make room for a call of `rows` rows, as soon as the shape of keys is known.

        Raises:
            RuntimeError: beyond the capacity; callers reserve it, so this is a bug.
        """
        end = self.length + rows
        if end > self.capacity:
            raise RuntimeError(f"KV cache of {self.capacity} slots cannot hold {end} rows")
        if not self._pool.ready or (self.storage is not None and end <= self.storage.scratch):
            return
        larger = self._pool.lend(end)
        if self.storage is not None:
            larger.tensor[:, :, :, : self.length] = self.storage.tensor[:, :, :, : self.length]
        self._hold(larger)

    def _layer(self, layer_idx: int, like: torch.Tensor) -> torch.Tensor:
        if self.storage is None:
            self._pool.learn(like)
            self.reserve(like.shape[2])
        assert self.storage is not None
        return self.storage.tensor[layer_idx]

    def _hold(self, storage: Storage | None) -> None:
        if self.storage is not None:
            self._pool.take_back(self.storage)
        self.storage = storage
        self._buffers = {} if storage is None else {storage.tensor.device: storage.tensor}

    def __del__(self) -> None:
        self._hold(None)


class SlotCache(Cache):
    """Writes a pass's keys and values at slots that a tensor holds, and returns whole buffers: shapes never change.

    Args:
        slots: [n] int64 on the device, changed between calls.
    """

    def __init__(self, storage: Storage, slots: torch.Tensor) -> None:
        super().__init__(layers=[])
        self._storage, self._slots = storage, slots

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [1, kv_heads, n, head_dim] of one layer; returns [1, kv_heads, slots, head_dim] of keys and values."""
        keys, values = self._storage.tensor[layer_idx]
        keys.index_copy_(1, self._slots, key_states[0])
        values.index_copy_(1, self._slots, value_states[0])
        return keys[None], values[None]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self._storage.slots, 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return self._storage.slots

    def get_query_offset(self, layer_idx: int | None = None) -> int:
        return 0

    @property
    def is_initialized(self) -> bool:
        return True

    def __len__(self) -> int:
        return int(self._storage.tensor.shape[0])
