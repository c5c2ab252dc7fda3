"""The two forwards of a training step: real tokens once without gradient, then every look-ahead row over their cache.

Real tokens never see look-ahead rows, so nothing is recomputed and gradients pass through look-ahead rows alone. All
rows of the second forward are look-ahead rows: the hooks that add deep vectors and adapters need no gate.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from pass_core.models.cache_argument import cache_argument
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.masks import layer_masks
from pass_core.training.chains import Chains
from pass_core.training.parts import Adapter, TrainableParts


class _FrozenLayer(DynamicLayer):
    """One layer's keys and values of the real tokens; new ones are appended for this call and not kept."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self._frozen = keys, values
        self.keys, self.values = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._frozen
        return torch.cat((keys, key_states), -2), torch.cat((values, value_states), -2)


@dataclass
class Prefix:
    """What the first forward leaves for a batch.

    Attributes:
        ids: [batch, tokens].
        keys, values: per layer [batch, kv heads, tokens, head size].
        hidden: [batch, tokens, hidden], after the final norm (the lm_head reads it).
    """

    ids: torch.Tensor
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    hidden: torch.Tensor

    def cache(self) -> Cache:
        cache: Any = DynamicCache()
        cache.layers = [_FrozenLayer(k, v) for k, v in zip(self.keys, self.values, strict=True)]
        return cache

    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values, self.hidden))


@torch.no_grad()
def prefix_forward(model: LanguageModel, ids: torch.Tensor) -> Prefix:
    """Run the frozen model over real tokens `ids` [batch, tokens] (right-padded where lengths differ)."""
    cache: Any = DynamicCache()
    out: Any = model.base(input_ids=ids, use_cache=True, **{cache_argument(model.base.forward): cache})
    layers = cache.layers
    return Prefix(ids, [x.keys for x in layers], [x.values for x in layers], out.last_hidden_state)


@contextmanager
def _hooked(model: LanguageModel, parts: TrainableParts, depth: torch.Tensor) -> Generator[None, None, None]:
    handles: list[Any] = []
    deep = parts.deep
    if deep is not None:
        for layer, vectors in zip(model.layers, deep, strict=True):

            def add_deep(_m: nn.Module, args: Any, kwargs: Any, vectors: torch.Tensor = vectors) -> Any:
                if args:
                    return (args[0] + vectors.to(args[0].dtype)[depth], *args[1:]), kwargs
                hidden = kwargs["hidden_states"]
                return args, {**kwargs, "hidden_states": hidden + vectors.to(hidden.dtype)[depth]}

            handles.append(layer.register_forward_pre_hook(add_deep, with_kwargs=True))
    linears = model.linears() if parts.adapter_names else {}
    for name, adapter in zip(parts.adapter_names, parts.adapters, strict=True):

        def add_low_rank(_m: nn.Module, args: Any, output: torch.Tensor, adapter: Any = adapter) -> torch.Tensor:
            assert isinstance(adapter, Adapter)
            return adapter.add_to(output, args[0])

        handles.append(linears[name].register_forward_hook(add_low_rank))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def lookahead_forward(model: LanguageModel, parts: TrainableParts, prefix: Prefix, chains: Chains) -> torch.Tensor:
    """Hidden states [batch, rows, hidden] of every look-ahead row, after the final norm, with gradient to `parts`."""
    inputs = parts.embeddings.to(model.dtype)[chains.depth]
    tokens = prefix.ids.shape[1]
    real = torch.arange(tokens, device=chains.position.device).expand(chains.position.shape[0], tokens)
    distance = chains.position[:, :, None] - torch.cat((real, chains.position), 1)[:, None]
    mask = layer_masks(model, chains.mask(tokens), distance[:, None])
    with _hooked(model, parts, chains.depth):
        out: Any = model.base(
            inputs_embeds=inputs,
            attention_mask=mask,
            position_ids=chains.position,
            **{cache_argument(model.base.forward): prefix.cache()},
            use_cache=True,
        )
    return out.last_hidden_state
