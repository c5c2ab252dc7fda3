"""Some rows of a runtime's lm_head in the compiled library."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np
import torch

from pass_core.runtime.native.arrays import pointer

if TYPE_CHECKING:
    from pass_core.runtime.native.runtime import NativeRuntime


class NativeShortlist:
    """Some rows of a runtime's lm_head in the library (see `pass_core.runtime.base.Shortlist`)."""

    def __init__(self, runtime: NativeRuntime, ids: torch.Tensor) -> None:
        self.ids, self._runtime = ids, ref(runtime)
        self._lib = runtime.lib
        self._lib.pass_shortlist_new.restype = ctypes.c_void_p
        at = ids.numpy().astype(np.int32)
        self.handle = self._lib.pass_shortlist_new(ctypes.c_void_p(runtime.handle), pointer(at), at.size)
        if not self.handle:
            raise MemoryError("There is not enough memory for the draft vocabulary. Switch the state head off.")

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.runtime.head(hidden, self.ids.numel(), self.handle)

    @property
    def runtime(self) -> NativeRuntime:
        """Whose lm_head it is."""
        runtime = self._runtime()
        assert runtime is not None
        return runtime

    def __del__(self) -> None:
        if handle := getattr(self, "handle", None):
            self._lib.pass_shortlist_free(ctypes.c_void_p(handle))
            self.handle = None
