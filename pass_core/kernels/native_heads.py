"""Draft heads in the compiled library."""

from __future__ import annotations

import ctypes

import torch

from pass_core.kernels.interface import DraftHead
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.lookahead.sampler import RMS_EPSILON
from pass_core.runtime.native.arrays import floats, halves
from pass_core.runtime.native.shortlist import NativeShortlist

_PANEL = 16  # outputs of one panel; a product reads its inputs by two panels


class NativeHead:
    """A head in the library and the same in torch, for calls that the library leaves to it.

    Args:
        handle: the library's own object, which this one frees; None where the sizes are not the library's.
        kept: what the library reads where it is, as long as the head lives.
    """

    def __init__(
        self, library: ctypes.CDLL, handle: int | None, in_torch: DraftHead, kept: object | None = None
    ) -> None:
        self.handle, self.in_torch = handle, in_torch
        self.library, self._kept = library, kept

    def __del__(self) -> None:
        if self.handle:
            self.library.pass_head_free(self.handle)
            self.handle = None


def sampler_in_library(library: ctypes.CDLL, weights: SamplerWeights) -> int | None:
    """The sampler head of a look-ahead file; None for sizes that are not whole panels."""
    hidden, inner = (int(n) for n in weights.w_out.shape)
    if inner % _PANEL or hidden % (2 * _PANEL):
        return None
    arrays = (
        halves(weights.w_in[:, :hidden]),
        halves(weights.w_in[:, hidden:]),
        halves(weights.w_out),
        floats(weights.step),
    )
    addresses = (a.ctypes.data for a in arrays)
    return _made(library.pass_sampler_new(hidden, inner, weights.step.shape[0], RMS_EPSILON, *addresses))


def bigrams_in_library(library: ctypes.CDLL, bigrams: Bigrams) -> int | None:
    """The model's own bigrams, read where they are; None for sizes that are not whole panels."""
    hidden = int(bigrams.shifts.shape[1])
    in_place = bigrams.shifts.is_contiguous() and bigrams.shifts.dtype is torch.bfloat16
    if hidden % (2 * _PANEL) or not in_place:
        return None
    return _made(library.pass_bigrams_new(hidden, bigrams.known, bigrams.shifts.data_ptr()))


def _made(handle: int | None) -> int:
    if not handle:
        raise MemoryError("There is not enough memory for the draft head. Switch it off.")
    return handle


class NativeGuesses:
    """Guesses of a state head that the library's other threads make while this one goes on.

    Args:
        model: the library's own object for the model.
        table: [vocabulary, hidden] bfloat16 input embeddings.

    Raises:
        MemoryError: there is not enough memory; a plain sentence.
    """

    def __init__(
        self,
        model: int,
        head: NativeHead,
        shortlist: NativeShortlist,
        table: torch.Tensor,
        state: torch.Tensor,
        token: int,
        depth: int,
    ) -> None:
        runtime = shortlist.runtime
        self._library, self._model = head.library, model
        self._kept: tuple[object, ...] = head, shortlist, table, runtime  # as long as the library reads them
        count = shortlist.ids.numel()
        logits = torch.empty(depth, -(-count // _PANEL) * _PANEL)
        self._hidden, self._logits = torch.empty(depth, state.shape[0]), logits[:, :count]
        addresses = head.handle, shortlist.handle, table.data_ptr(), state.contiguous().data_ptr()
        self._handle: int | None = self._library.pass_guess_start(
            model, *addresses, token, depth, self._hidden.data_ptr(), logits.data_ptr()
        )
        if not self._handle:
            raise MemoryError("There is not enough memory to draft. Close other programs.")

    def wait(self) -> tuple[torch.Tensor, torch.Tensor]:
        """States [depth, hidden] and their logits [depth, n]."""
        if self._handle:
            self._library.pass_guess_finish(self._model, self._handle)
            self._handle, self._kept = None, ()
        return self._hidden, self._logits

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.wait()
