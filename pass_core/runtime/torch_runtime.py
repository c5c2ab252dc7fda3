"""The runtime that works for every supported family and device: the transformers modules over our own cache."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from pass_core.lookahead import LookaheadEmbeddings, SamplerWeights
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Cache
from pass_core.runtime.cache import KVCache
from pass_core.runtime.packed import pack_linears
from pass_core.runtime.rows import Rows
from pass_core.runtime.sampler_head import TorchSamplerHead


class TorchRuntime:
    """Forward calls through the transformers modules, with a custom mask, positions and KV cache."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._base: Any = model.base
        self._device = model.device
        self._dtype = model.dtype
        self._layers = list(model.layers)
        self._eager = getattr(model.model.config, "_attn_implementation", "sdpa") == "eager"
        self._softcap = getattr(model.config, "final_logit_softcapping", None)
        self._logits_scaling = getattr(model.config, "logits_scaling", None)  # Granite
        self._lookahead: LookaheadEmbeddings | None = None
        self._embeddings: torch.Tensor | None = None
        self._parts: _LookaheadHooks | None = None
        self._packed = pack_linears(model)

    @property
    def description(self) -> str:
        dtype = str(self._dtype).removeprefix("torch.")
        return f"transformers modules, {dtype}" + (", packed linear layers" if self._packed else "")

    def new_cache(self, capacity: int) -> KVCache:
        return KVCache(len(self._layers), capacity)

    def use_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        if lookahead is self._lookahead:
            return
        self._lookahead = lookahead
        if lookahead is None:
            self._embeddings, self._parts = None, None
            return
        self._embeddings = lookahead.embeddings.to(device=self._device, dtype=self._dtype)
        self._parts = (
            _LookaheadHooks(self.model, lookahead) if lookahead.deep is not None or lookahead.adapters else None
        )

    def forward(self, cache: Cache, rows: Rows) -> torch.Tensor:
        cache = cast(KVCache, cache)
        steps = torch.from_numpy(rows.lookahead).to(self._device)
        tokens = torch.from_numpy(np.maximum(rows.tokens, 0)).to(self._device)
        positions = torch.from_numpy(rows.depths + cache.length).to(self._device)
        is_lookahead = bool((rows.lookahead >= 0).any())
        with torch.inference_mode():
            inputs = self.model.input_embedding(tokens)
            if is_lookahead:
                if self._embeddings is None:
                    raise RuntimeError("look-ahead rows need look-ahead embeddings: call use_lookahead first")
                chosen = self._embeddings[steps.clamp(min=0)]
                inputs = torch.where((steps >= 0)[:, None], chosen, inputs)
            parts = self._parts.on_rows(steps) if is_lookahead and self._parts else contextlib.nullcontext()
            with parts:
                out = self._base(
                    inputs_embeds=inputs[None],
                    attention_mask=self._mask(rows, cache.length),
                    position_ids=positions[None],
                    past_key_values=cache,
                    use_cache=True,
                )
        return cast(torch.Tensor, out.last_hidden_state[0])

    def _mask(self, rows: Rows, committed: int) -> torch.Tensor:
        """[1, 1, n, committed + n]: bool (True = attend), or additive where attention is eager."""
        seen = torch.ones(rows.count, committed + rows.count, dtype=torch.bool)
        if rows.is_chain:
            seen[:, committed:] = torch.ones(rows.count, rows.count, dtype=torch.bool).tril()
        else:
            seen[:, committed:] = torch.from_numpy(rows.ancestors())
        seen = seen.to(self._device)
        if not self._eager:
            return seen[None, None]
        floor = torch.finfo(self._dtype).min
        return torch.zeros_like(seen, dtype=self._dtype).masked_fill(~seen, floor)[None, None]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self._cap(self.model.head(hidden.to(self.model.head.weight.device)).float())

    def sampler_head(self, weights: SamplerWeights) -> TorchSamplerHead:
        return TorchSamplerHead(weights, self.model.input_embedding.weight, self.model.head)

    def _cap(self, logits: torch.Tensor) -> torch.Tensor:
        if self._logits_scaling:
            logits = logits / self._logits_scaling
        if self._softcap:
            return torch.tanh(logits / self._softcap) * self._softcap
        return logits

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()


class _LookaheadHooks:
    """Deep vectors and adapters, added to look-ahead rows by hooks; token rows keep their exact bits."""

    def __init__(self, model: LanguageModel, lookahead: LookaheadEmbeddings) -> None:
        self._layers = list(model.layers)
        self._deep = lookahead.deep
        self._linears: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
        modules = model.linears()
        for name, adapter in lookahead.adapters.items():
            weight = cast(torch.Tensor, modules[name].weight)
            self._linears.append((modules[name], adapter.down.to(weight), adapter.up.to(weight)))

    @contextlib.contextmanager
    def on_rows(self, steps: torch.Tensor) -> Generator[None]:
        """Active for calls whose row i is look-ahead step steps[i] (-1: a token row)."""
        at = torch.nonzero(steps >= 0).flatten()
        which = steps[at]
        handles: list[torch.utils.hooks.RemovableHandle] = []
        if self._deep is not None:
            for layer, vectors in zip(self._layers, self._deep):
                handles.append(layer.register_forward_pre_hook(_add_deep(vectors, at, which), with_kwargs=True))
        for module, down, up in self._linears:
            handles.append(module.register_forward_hook(_add_adapter(down, up, at)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _add_deep(vectors: torch.Tensor, at: torch.Tensor, which: torch.Tensor) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        inside = bool(args)
        hidden = args[0] if inside else kwargs["hidden_states"]
        changed = hidden.clone()
        changed[0, at] += vectors[which.to(vectors.device)].to(hidden)
        if inside:
            return (changed, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed}

    return hook


def _add_adapter(down: torch.Tensor, up: torch.Tensor, at: torch.Tensor) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        flat = args[0].reshape(-1, args[0].shape[-1])
        changed = output.clone()
        changed.view(-1, output.shape[-1])[at] += (flat[at] @ down.T) @ up.T
        return changed

    return hook
