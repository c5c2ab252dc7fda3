"""Draft heads in the compiled library; see `pass_core.runtime.draft_heads`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.runtime.native.arrays import floats, halves, pointer

if TYPE_CHECKING:
    from pass_core.runtime.native.runtime import NativeRuntime


class NativeHead:
    """A head in the library: what both kinds share.

    Args:
        handle: the library's own object, which this one frees.
        inner: width of what `prepare` makes.
    """

    def __init__(self, runtime: NativeRuntime, handle: int | None, inner: int) -> None:
        if not handle:
            raise MemoryError("There is not enough memory for the draft head. Switch it off.")
        self.handle = handle
        self._runtime = runtime
        self._inner = inner
        self._addresses = (ctypes.c_void_p(runtime.handle), ctypes.c_void_p(handle))
        self._weights = tuple(ctypes.c_void_p(address) for address in runtime.embeddings)

    def prepare(self, states: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        states = states.contiguous()
        at = np.asarray(steps, dtype=np.int32)
        prepared = torch.empty(states.shape[0], self._inner, dtype=torch.float32)
        self._runtime.lib.pass_head_prepare(
            *self._addresses,
            ctypes.c_void_p(states.data_ptr()),
            pointer(at),
            states.shape[0],
            ctypes.c_void_p(prepared.data_ptr()),
        )
        return prepared

    def scores(
        self, state: torch.Tensor, prepared: torch.Tensor, before: np.ndarray, candidates: np.ndarray
    ) -> np.ndarray:
        out = np.empty((before.size, candidates.size), dtype=np.float32)
        self._runtime.lib.pass_head_score(
            *self._addresses,
            ctypes.c_void_p(state.data_ptr()),
            ctypes.c_void_p(prepared.data_ptr()),
            *self._weights,
            pointer(before),
            before.size,
            pointer(candidates),
            candidates.size,
            pointer(out),
        )
        return out

    def __del__(self) -> None:
        handle: int | None = getattr(self, "handle", None)
        if handle:
            self._runtime.lib.pass_head_free(ctypes.c_void_p(handle))


class NativeSamplerHead(NativeHead):
    """The coherent-draft head of a look-ahead file."""

    def __init__(self, runtime: NativeRuntime, weights: SamplerWeights) -> None:
        hidden, inner = (int(n) for n in weights.w_out.shape)
        new = runtime.lib.pass_sampler_new
        new.restype = ctypes.c_void_p
        from_hidden, from_token = halves(weights.w_in[:, :hidden]), halves(weights.w_in[:, hidden:])
        out, step = halves(weights.w_out), floats(weights.step)
        arrays = (pointer(a) for a in (from_hidden, from_token, out, step))
        super().__init__(runtime, new(hidden, inner, step.shape[0], *arrays), inner)


class NativeBigramHead(NativeHead):
    """The model's own bigrams; the library reads the vectors where they are."""

    def __init__(self, runtime: NativeRuntime, bigrams: Bigrams) -> None:
        new = runtime.lib.pass_bigrams_new
        new.restype = ctypes.c_void_p
        self._shifts = bigrams.shifts.contiguous()
        address = ctypes.c_void_p(self._shifts.data_ptr())
        super().__init__(runtime, new(int(self._shifts.shape[1]), ctypes.c_int64(bigrams.known), address), 0)
