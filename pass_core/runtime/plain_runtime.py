"""The runtime of models that only decode plainly: transformers' own masks and cache, one chain of rows a call."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers.cache_utils import DynamicCache

from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.cache_argument import cache_argument
from pass_core.models.capabilities import recurrent_parts, rope_boundary
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, ProgressCallback
from pass_core.runtime.base import Cache, Shortlist
from pass_core.runtime.rows import Rows

_READ_AGAIN = frozenset({"phi3", "phi4_multimodal"})  # in prepare_inputs_for_generation
_STATE_SPACE = frozenset({"mamba", "mamba2", "falcon_mamba"})  # their states take no mask


class GrowingCache:
    """transformers' cache for this architecture (windows, running states); it can grow but not go back."""

    def __init__(self, model: LanguageModel, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self.pending = 0
        self._config = model.config
        self.boundary = rope_boundary(model.config)
        self.tokens: list[int] = []
        self.begun = False
        self.forget()

    def forget(self) -> None:
        """Begin anew with no entries inside; the committed tokens are read again by the next call."""
        self.inner: Any = DynamicCache(config=self._config)

    def crosses(self, rows: int) -> bool:
        """Whether a pass of this many rows takes the text beyond LongRoPE's boundary, so that all of it rotates anew.

        As transformers' `generate`: a prompt is read with the table for its length; of the models that cross the
        boundary while they write, Phi-3 reads all of the text again.
        """
        if self.boundary is None or not self.length <= self.boundary < self.length + rows:
            return False
        return self.length > 0 and (not self.begun or self._config.model_type in _READ_AGAIN)

    def commit(self, rows: Sequence[int]) -> None:
        """Keep the rows of the last call.

        Raises:
            RuntimeError: `rows` are not all of them; this cache cannot take rows back.
        """
        if list(rows) != list(range(self.pending)):
            raise RuntimeError("this model's cache cannot drop rows; only plain decoding is possible")
        self.length += self.pending
        self.pending = 0

    def truncate(self, length: int) -> None:
        """Raises:
        RuntimeError: there are more entries than that.
        """
        if length < self.length:
            raise RuntimeError("this model's cache cannot be cut; only plain decoding is possible")

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors in the cache."""
        found = (v for layer in self.inner.layers for v in vars(layer).values() if isinstance(v, torch.Tensor))
        return sum(t.numel() * t.element_size() for t in found)


class PlainRuntime:
    """Calls the model as a whole, with all that its architecture does to masks, states and logits.

    `forward` returns the logits of the last row, [1, vocabulary], in place of hidden states, and `logits` passes them
    on: families differ in what lies between the two.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._device = model.device
        self._recurrent = bool(recurrent_parts(model.config))
        takes = inspect.signature(model.model.forward).parameters
        self._cache_name = cache_argument(model.model.forward)
        self._takes_mask = "attention_mask" in takes and model.config.model_type not in _STATE_SPACE
        self._options: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    @property
    def description(self) -> str:
        return f"transformers modules, plain decoding only, {str(self.model.dtype).removeprefix('torch.')}"

    @property
    def row_buckets(self) -> tuple[int, ...]:
        return ()

    def warm_up(self, on_progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """Nothing to prepare."""

    def new_cache(self, capacity: int) -> GrowingCache:
        return GrowingCache(self.model, capacity)

    def use_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        """Raises:
        RuntimeError: there are no look-ahead rows here.
        """
        if lookahead is not None:
            raise RuntimeError(f"{self.model.name} cannot draft: {self.model.capabilities.reason}")

    def forward(self, cache: Cache, rows: Rows) -> torch.Tensor:
        growing = cast(GrowingCache, cache)
        if not rows.is_chain or (rows.lookahead >= 0).any():
            raise RuntimeError(f"{self.model.name} cannot draft: {self.model.capabilities.reason}")
        # Running states take several tokens in one pass only when they are new.
        at_once = growing.length == 0 or not self._recurrent
        chunks = [rows.tokens] if at_once else np.split(rows.tokens, rows.count)
        logits = torch.empty(0)
        done = 0
        del growing.tokens[growing.length :]
        growing.tokens += [int(t) for t in rows.tokens]
        if growing.crosses(rows.count):
            growing.forget()
            chunks, done = [np.array(growing.tokens)], -growing.length
        growing.begun = growing.begun or rows.count == 1
        with torch.inference_mode():
            for chunk in chunks:
                ids = torch.from_numpy(chunk).to(self._device)[None]
                inputs: dict[str, Any] = {"input_ids": ids, self._cache_name: growing.inner, "use_cache": True}
                done += chunk.size
                if self._takes_mask:
                    inputs["attention_mask"] = ids.new_ones(1, growing.length + done)
                logits = self.model.model(**inputs, **self._options).logits[0, -1:]
        growing.pending = rows.count
        return logits

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.float()

    def shortlist(self, ids: torch.Tensor) -> Shortlist:
        """Raises:
        RuntimeError: nothing drafts here.
        """
        raise RuntimeError(f"{self.model.name} cannot draft: {self.model.capabilities.reason}")

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
