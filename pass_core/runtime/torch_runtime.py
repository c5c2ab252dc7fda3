"""The runtime that works for every supported family and device: the transformers modules over our own cache."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import numpy as np
import torch

from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.cache_argument import cache_argument
from pass_core.models.language_model import LanguageModel
from pass_core.models.placement import devices_of, is_spread
from pass_core.progress import CancelToken, ProgressCallback
from pass_core.runtime.base import Cache, Shortlist
from pass_core.runtime.cache import KVCache
from pass_core.runtime.grouped_attention import shared_keys
from pass_core.runtime.lookahead_parts import LookaheadParts
from pass_core.runtime.masks import Masks, layer_masks
from pass_core.runtime.packed import pack_linears
from pass_core.runtime.rows import Rows


class TorchRuntime:
    """Forward passes through the transformers modules, with a custom mask, positions and KV cache."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._base: Any = model.base
        self._cache_name = cache_argument(model.base.forward)
        self._device = model.device
        self._devices = devices_of(model.model)
        self._dtype = model.dtype
        self._layers = list(model.layers)
        self._lookahead: LookaheadEmbeddings | None = None
        self._shortlist: tuple[torch.Tensor, Shortlist] | None = None
        self._parts: LookaheadParts | None = None
        self._packed = pack_linears(model)

    @property
    def description(self) -> str:
        return f"transformers modules, {self._words}"

    @property
    def _words(self) -> str:
        dtype = str(self._dtype).removeprefix("torch.")
        spread = f", spread over {', '.join(map(str, self._devices))}" if is_spread(self.model.model) else ""
        weights = f", {self.model.quantization} weights" if self.model.quantization else ""
        return f"{dtype}{weights}{spread}" + (", packed linear layers" if self._packed else "")

    @property
    def row_buckets(self) -> tuple[int, ...]:
        return ()

    def warm_up(self, on_progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """Nothing to prepare."""

    def new_cache(self, capacity: int) -> KVCache:
        return KVCache(len(self._layers), capacity)

    def use_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        if lookahead is self._lookahead:
            return
        self._lookahead = lookahead
        self._parts = None if lookahead is None else self._place(lookahead)

    def _place(self, lookahead: LookaheadEmbeddings) -> LookaheadParts:
        return LookaheadParts(self.model, lookahead)

    def forward(self, cache: Cache, rows: Rows) -> torch.Tensor:
        cache = cast(KVCache, cache)
        steps = torch.from_numpy(rows.lookahead).to(self._device)
        tokens = torch.from_numpy(np.maximum(rows.tokens, 0)).to(self._device)
        # Rows beyond the context are never part of a text; rotary embeddings that stretch would stretch for all rows.
        last = self.model.capabilities.context_length - 1
        positions = torch.from_numpy(np.minimum(rows.depths + cache.length, last)).to(self._device)
        parts = self._parts_for(rows)
        with torch.inference_mode():
            inputs = self.model.input_embedding(tokens)
            if parts is not None:
                chosen = parts.embeddings.index_select(0, steps.clamp(min=0))
                inputs = torch.where((steps >= 0)[:, None], chosen, inputs)
            inside = parts is not None and parts.any_inside
            with (
                shared_keys(self.model),
                parts.on_rows(rows.lookahead) if parts is not None and inside else contextlib.nullcontext(),
            ):
                out = self._base(
                    inputs_embeds=inputs[None],
                    attention_mask=self._mask(rows, cache.length),
                    position_ids=positions[None],
                    **{self._cache_name: cache},
                    use_cache=True,
                )
        return cast(torch.Tensor, out.last_hidden_state[0])

    def _parts_for(self, rows: Rows) -> LookaheadParts | None:
        """The parts that a call needs; None without look-ahead rows."""
        if not (rows.lookahead >= 0).any():
            return None
        if self._parts is None:
            raise RuntimeError("look-ahead rows need look-ahead embeddings: call use_lookahead first")
        return self._parts

    def _mask(self, rows: Rows, committed: int) -> Masks:
        """[1, 1, n, committed + n], see `layer_masks`."""
        seen = torch.ones(rows.count, committed + rows.count, dtype=torch.bool)
        if rows.is_chain:
            seen[:, committed:] = torch.ones(rows.count, rows.count, dtype=torch.bool).tril()
        else:
            seen[:, committed:] = torch.from_numpy(rows.ancestors())
        depths = torch.from_numpy(rows.depths)
        keys = torch.cat((torch.arange(committed), depths + committed))
        distance = (depths + committed)[:, None] - keys
        return layer_masks(self.model, seen.to(self._device)[None, None], distance.to(self._device)[None, None])

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.model.logits(hidden)

    def shortlist(self, ids: torch.Tensor) -> Shortlist:
        if self._shortlist is None or self._shortlist[0] is not ids:
            self._shortlist = ids, self.model.shortlist(ids)
        return self._shortlist[1]

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            for device in self._devices:
                torch.cuda.synchronize(device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
