"""Deep vectors and adapters on a device: added to the look-ahead rows of a call by hooks, never to token rows."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.models.placement import execution_device


class LookaheadParts:
    """The embeddings and the parts that work inside the layers, as tensors beside the model's own.

    Attributes:
        embeddings: [L, hidden] input vectors.
    """

    def __init__(self, model: LanguageModel, lookahead: LookaheadEmbeddings) -> None:
        dtype = model.dtype
        # Copies, even where nothing changes: `load` overwrites them.
        self.embeddings = lookahead.embeddings.to(device=model.device, dtype=dtype, copy=True)
        self._layers = list(model.layers) if lookahead.deep is not None else []
        self._deep: list[torch.Tensor] = []
        if lookahead.deep is not None:
            for layer, vectors in zip(self._layers, lookahead.deep):
                self._deep.append(vectors.to(device=execution_device(layer), dtype=dtype, copy=True))
        self._linears: list[nn.Module] = []
        self._down: list[torch.Tensor] = []
        self._up: list[torch.Tensor] = []
        modules = model.linears()
        for name, adapter in lookahead.adapters.items():
            module = modules[name]
            self._linears.append(module)
            # Not the weight's dtype: that of a quantised one is an integer.
            for kept, half in ((self._down, adapter.down), (self._up, adapter.up)):
                kept.append(half.to(device=execution_device(module), dtype=dtype, copy=True))

    @property
    def any_inside(self) -> bool:
        """Whether something acts inside the layers, besides the input vectors."""
        return bool(self._deep or self._linears)

    @staticmethod
    def structure(lookahead: LookaheadEmbeddings) -> tuple[Any, ...]:
        """What decides the operations of a call; files of equal structure can take each other's place in `load`."""
        deep = None if lookahead.deep is None else tuple(lookahead.deep.shape)
        adapters = tuple((n, tuple(a.down.shape), tuple(a.up.shape)) for n, a in lookahead.adapters.items())
        return tuple(lookahead.embeddings.shape), deep, adapters

    @torch.inference_mode()
    def load(self, lookahead: LookaheadEmbeddings) -> None:
        """Take the values of another file of the same structure, in place: captured calls keep their addresses."""
        self.embeddings.copy_(lookahead.embeddings)
        for mine, other in zip(self._deep, lookahead.deep if lookahead.deep is not None else ()):
            mine.copy_(other)
        for down, up, other in zip(self._down, self._up, lookahead.adapters.values()):
            down.copy_(other.down)
            up.copy_(other.up)

    @contextlib.contextmanager
    def on_rows(self, steps: np.ndarray) -> Generator[None]:
        """Active for calls whose row i is look-ahead step steps[i] (-1: a token row); computes those rows only."""
        at = np.flatnonzero(steps >= 0)
        with self._active(_Chosen(at, steps[at])):
            yield

    @contextlib.contextmanager
    def masked(self, steps: torch.Tensor, is_lookahead: torch.Tensor) -> Generator[None]:
        """The same for passes of a fixed shape, whose rows change on the device: steps [n] >= 0, is_lookahead [n, 1].

        Computes every row and keeps what belongs to look-ahead rows.
        """
        with self._active(_Masked(steps, is_lookahead)):
            yield

    @contextlib.contextmanager
    def _active(self, change: _Chosen | _Masked) -> Generator[None]:
        handles: list[torch.utils.hooks.RemovableHandle] = []
        for layer, vectors in zip(self._layers, self._deep):
            handles.append(layer.register_forward_pre_hook(_deep_hook(change, vectors), with_kwargs=True))
        for module, down, up in zip(self._linears, self._down, self._up):
            handles.append(module.register_forward_hook(_adapter_hook(change, down, up)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Chosen:
    """Look-ahead rows by their indices: their number is part of the call's shape."""

    def __init__(self, at: np.ndarray, steps: np.ndarray) -> None:
        self._at, self._steps = torch.from_numpy(at), torch.from_numpy(steps)
        self._on: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def _placed(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if device not in self._on:
            self._on[device] = (self._at.to(device), self._steps.to(device))
        return self._on[device]

    def deep(self, hidden: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        at, steps = self._placed(hidden.device)
        changed = hidden.clone()
        # The hidden states come from the layer above, which may lie on another device.
        update = vectors.to(hidden.device).index_select(0, steps).to(hidden)
        changed.view(-1, hidden.shape[-1]).index_add_(0, at, update)
        return changed

    def adapter(self, output: torch.Tensor, x: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        at, _ = self._placed(output.device)
        flat = x.reshape(-1, x.shape[-1]).to(output.device)
        changed = output.clone()
        update = (flat.index_select(0, at) @ down.T) @ up.T
        changed.view(-1, output.shape[-1]).index_add_(0, at, update.to(output.dtype))
        return changed


class _Masked:
    """All rows, with a mask on the device; `where`, for adding 0 times something could change bits (or be NaN)."""

    def __init__(self, steps: torch.Tensor, is_lookahead: torch.Tensor) -> None:
        self._steps, self._is_lookahead = steps, is_lookahead

    def deep(self, hidden: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return torch.where(self._is_lookahead, hidden + vectors.index_select(0, self._steps), hidden)

    def adapter(self, output: torch.Tensor, x: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        rows = output.view(-1, output.shape[-1])
        return torch.where(self._is_lookahead, rows + (flat @ down.T) @ up.T, rows).view(output.shape)


def _deep_hook(change: _Chosen | _Masked, vectors: torch.Tensor) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if args:
            return (change.deep(args[0], vectors), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change.deep(kwargs["hidden_states"], vectors)}

    return hook


def _adapter_hook(change: _Chosen | _Masked, down: torch.Tensor, up: torch.Tensor) -> Any:
    def hook(module: nn.Module, args: Sequence[Any], output: torch.Tensor) -> torch.Tensor:
        return change.adapter(output, args[0], down, up)

    return hook
