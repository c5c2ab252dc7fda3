"""The operations in the compiled library, on a CPU. The torch kernels take each call that the library cannot."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from pass_core.kernels.heads import KeptHeads
from pass_core.kernels.interface import (
    CallPlan,
    DraftHead,
    DraftRows,
    GrownTree,
    GrowRequest,
    Guesses,
    IntArray,
    PlanRequest,
    SampledPath,
    WalkRequest,
)
from pass_core.kernels.layout import image
from pass_core.kernels.native_heads import NativeGuesses, NativeHead, bigrams_in_library, sampler_in_library
from pass_core.kernels.native_library import (
    GrowArrays,
    GrowBlock,
    TopArrays,
    TopRequest,
    WalkArrays,
    WalkBlock,
    declared,
)
from pass_core.kernels.native_plan import plan_in_library
from pass_core.kernels.reference import ReferenceKernels
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Shortlist
from pass_core.runtime.native.shortlist import NativeShortlist

_NO_MEMORY = -1


class NativeKernels:
    """See `pass_core.kernels.interface.Kernels`.

    Args:
        library: the compiled library.
        model: whose embeddings draft heads read, in bfloat16; None where there are no heads.
        handle: the library's own object for this model, whose threads grow trees; without one torch grows them.
    """

    def __init__(self, library: ctypes.CDLL, model: LanguageModel | None = None, handle: int | None = None) -> None:
        self._library = declared(library)
        self._block: int = library.pass_top_block()
        self._small_block: int = library.pass_small_block()
        self._handle = handle
        self._reference = ReferenceKernels(model)
        self._table: torch.Tensor | None = None
        self._output: torch.Tensor | None = None
        self._model = model
        self._heads = KeptHeads[NativeHead]()
        self._begun: NativeGuesses | None = None

    @property
    def description(self) -> str:
        return "compiled kernels"

    def sampler_head(self, weights: SamplerWeights) -> DraftHead:
        return self._heads.get(weights, lambda: self._sampler_head(weights))

    def _sampler_head(self, weights: SamplerWeights) -> NativeHead:
        made = sampler_in_library(self._library, weights) if self._reads_embeddings() else None
        return NativeHead(self._library, made, self._in_torch(made).sampler_head(weights))

    def guess_head(self, weights: SamplerWeights) -> DraftHead:
        return self.sampler_head(weights)

    def bigram_head(self, bigrams: Bigrams) -> DraftHead:
        made = bigrams_in_library(self._library, bigrams) if self._reads_embeddings() else None
        return NativeHead(self._library, made, self._in_torch(made).bigram_head(bigrams), bigrams)

    def _in_torch(self, made: int | None) -> ReferenceKernels:
        """Torch kernels whose heads round as the library's head does, where there is one."""
        return self._reference if made is None else ReferenceKernels(self._model, torch.bfloat16)

    def _reads_embeddings(self) -> bool:
        """Give the library the embeddings and the lm_head in bfloat16; False where it grows no trees of this model.

        They are read where they are, or copied once where the model holds them in another dtype: drafts need no more
        precision, and a copy costs far less than scoring drafts in torch does in every step.
        """
        if self._handle is None or self._model is None or self._model.vocabulary_size % self._block:
            return False
        if self._table is None:
            table, output = self._model.input_embedding.weight.detach(), self._model.lm_head.weight.detach()
            self._table = table.to(torch.bfloat16).contiguous()
            tied = output.data_ptr() == table.data_ptr()
            self._output = self._table if tied else output.to(torch.bfloat16).contiguous()
        return True

    def top_k(
        self, logits: torch.Tensor, count: int, rows: Sequence[int] | None = None
    ) -> tuple[IntArray, npt.NDArray[np.float32]]:
        count = min(count, logits.shape[1])
        if not self._selects(logits, count):
            return self._reference.top_k(logits, count, rows)
        which = np.arange(logits.shape[0], dtype=np.int32) if rows is None else np.asarray(rows, dtype=np.int32)
        if which.size and not 0 <= int(which.min()) <= int(which.max()) < logits.shape[0]:
            raise IndexError(f"rows {which.tolist()} are not all among the {logits.shape[0]} rows of logits")
        ids = np.empty((which.size, count), dtype=np.int64)
        values = np.empty((which.size, count), dtype=np.float32)
        request = TopRequest(logits.stride(0), which.size, logits.shape[1], count, 0)
        arrays = TopArrays(logits.data_ptr(), which.ctypes.data, ids.ctypes.data, values.ctypes.data)
        if self._library.pass_top(request, arrays):
            return self._reference.top_k(logits, count, rows)
        return ids, values

    def sample_path(
        self, logits: torch.Tensor, request: WalkRequest, tokens: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> SampledPath:
        if not self._selects(logits, request.top_k):
            return self._reference.sample_path(logits, request, tokens, parents)
        if logits.shape[0] <= len(tokens):
            raise IndexError(f"{len(tokens)} drafts need more than {logits.shape[0]} rows of logits")
        most = len(tokens) + 1
        drafted, above = np.array(tokens, dtype=np.int64), np.array(parents, dtype=np.int32)
        rows, samples = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int64)
        ids = np.empty((most, request.top_k), dtype=np.int64)
        values = np.empty((most, request.top_k), dtype=np.float32)
        kept = np.empty(most, dtype=np.int32)
        arrays = WalkArrays(
            stride=logits.stride(0),
            vocabulary=logits.shape[1],
            drafts=len(tokens),
            logits=logits.data_ptr(),
            tokens=drafted.ctypes.data,
            parents=above.ctypes.data,
            rows=rows.ctypes.data,
            samples=samples.ctypes.data,
            ids=ids.ctypes.data,
            values=values.ctypes.data,
            kept=kept.ctypes.data,
        )
        levels: int = self._library.pass_walk(image(WalkBlock, request), arrays)
        if levels < 0:
            return self._reference.sample_path(logits, request, tokens, parents)
        met, sampled, left = (a[:levels].tolist() for a in (rows, samples, kept))
        return SampledPath(met, sampled, ids[:levels], values[:levels], left)

    def grow_tree(
        self, rows: DraftRows, request: GrowRequest, head: DraftHead | None = None, text: IntArray | None = None
    ) -> GrownTree:
        ours = cast(NativeHead | None, head)
        found = None
        if self._handle is not None and (ours is None or ours.handle) and 0 < request.top_k <= request.candidates:
            found = self._grown(self._handle, rows, request, ours, text)
        if found is not None:
            return found
        return self._reference.grow_tree(rows, request, ours and ours.in_torch, text)

    def _grown(
        self, handle: int, rows: DraftRows, request: GrowRequest, head: NativeHead | None, text: IntArray | None
    ) -> GrownTree | None:
        """None for logits or states that the library cannot take."""
        logits, hidden = rows.logits, rows.hidden
        if not self._selects(logits, request.candidates) or hidden.dtype is not torch.float32:
            return None
        hidden = hidden.contiguous()
        # The root's distribution, then one for each node of a level's beam.
        most = 1 + (len(rows.at) - 1) * request.width
        tokens, reaches = np.empty(request.limit, dtype=np.int64), np.empty(request.limit, dtype=np.float64)
        parents, depths, source = np.empty((3, request.limit), dtype=np.int32)
        ids = np.empty((most, request.top_k), dtype=np.int64)
        log_p = np.empty((most, request.top_k), dtype=np.float64)
        at, steps = np.array([rows.at, rows.steps], dtype=np.int32)
        shares = np.array(request.shares, dtype=np.float64)
        text = None if text is None or head is None else np.ascontiguousarray(text)
        arrays = GrowArrays(
            stride=logits.stride(0),
            text_length=0 if text is None else text.size,
            depth=len(rows.at),
            vocabulary=logits.shape[1],
            plain=rows.plain,
            states=hidden.data_ptr(),
            logits=logits.data_ptr(),
            at=at.ctypes.data,
            steps=steps.ctypes.data,
            shares=shares.ctypes.data,
            text=None if text is None else text.ctypes.data,
            columns=None if rows.tokens is None else rows.tokens.ctypes.data,
            table=_address(self._table),
            head=_address(self._output),
            tokens=tokens.ctypes.data,
            parents=parents.ctypes.data,
            depths=depths.ctypes.data,
            source=source.ctypes.data,
            reaches=reaches.ctypes.data,
            ids=ids.ctypes.data,
            log_p=log_p.ctypes.data,
        )
        made = None if head is None else head.handle
        count: int = self._library.pass_grow(handle, made, image(GrowBlock, request), arrays)
        if count == _NO_MEMORY:
            raise MemoryError("There is not enough memory to draft. Close other programs.")
        if count < 0:
            return None
        numbers: list[Any] = [a[:count].tolist() for a in (tokens, parents, depths, reaches, source)]
        return GrownTree(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], ids, log_p)

    def guess(self, head: DraftHead, state: torch.Tensor, token: int, depth: int, shortlist: Shortlist) -> Guesses:
        ours = cast(NativeHead, head)
        model, table = self._handle, self._table
        ready = ours.handle and state.dtype is torch.float32 and isinstance(shortlist, NativeShortlist)
        if model is None or table is None or not ready:
            return self._reference.guess(ours.in_torch, state, token, depth, shortlist)
        if self._begun is not None:
            self._begun.wait()  # one at a time: the head's memory is its own
        self._begun = NativeGuesses(model, ours, cast(NativeShortlist, shortlist), table, state, token, depth)
        return self._begun.wait

    def plan_call(self, request: PlanRequest) -> CallPlan:
        return plan_in_library(self._library, request)

    def _selects(self, logits: torch.Tensor, count: int) -> bool:
        """Whether the library can select the `count` largest of rows of these logits: it reads whole blocks."""
        vocabulary = logits.shape[1]
        return (
            logits.device.type == "cpu"
            and logits.dtype is torch.float32
            and not vocabulary % self._block
            and logits.stride(1) == 1
            and 0 < count <= vocabulary // self._small_block
        )


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
