"""KV buffers that outlive the caches they are lent to, so that what was captured over their addresses stays valid."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pass_core.runtime.cuda_graphs.buckets import kv_bucket


@dataclass(frozen=True, eq=False)
class Storage:
    """Keys and values of all layers: [layers, 2, kv_heads, slots, head_dim]. The last slot takes padding rows' entries.

    Equal only to itself, so that it can be a key.
    """

    tensor: torch.Tensor

    @property
    def slots(self) -> int:
        return int(self.tensor.shape[3])

    @property
    def scratch(self) -> int:
        """The slot that nobody attends to."""
        return self.slots - 1


class StoragePool:
    """Storages by size. One cache at a time holds each; a new one is made only where all of that size are in use.

    Args:
        layers: decoder layers of the model.
    """

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._free: dict[int, list[Storage]] = {}
        self._like: torch.Tensor | None = None

    @property
    def ready(self) -> bool:
        """Whether the shape of keys is known: from the first call of any cache on."""
        return self._like is not None

    @torch.inference_mode()
    def learn(self, keys: torch.Tensor) -> None:
        """Take shape, dtype and device from keys [1, kv_heads, n, head_dim]."""
        if self._like is None:
            self._like = keys[0, :, :0].clone()

    @torch.inference_mode()
    def lend(self, entries: int) -> Storage:
        """A storage for at least `entries` entries, every slot finite: weight 0 times NaN would be NaN."""
        if self._like is None:
            raise RuntimeError("the shape of keys is not known yet")
        size = kv_bucket(entries)
        free = self._free.setdefault(size, [])
        if free:
            storage = free.pop()
            storage.tensor.zero_()
            return storage
        heads, _, width = self._like.shape
        return Storage(self._like.new_zeros((self._layers, 2, heads, size, width)))

    def take_back(self, storage: Storage) -> None:
        """The cache that held it is gone or has moved on."""
        self._free.setdefault(storage.slots, []).append(storage)
