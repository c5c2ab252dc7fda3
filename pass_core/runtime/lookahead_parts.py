"""Deep vectors and adapters on a device: added to the look-ahead rows of a pass by hooks, never to token rows.

Every row takes part in the products, and one mask of the pass sets what is not for it to zero: shapes do not depend on
the rows, and y + 0 is y.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.models.placement import execution_device

# Linear layers of one module that read the same input: their down matrices are one product. Where two turn out to read
# different ones, each is computed from its own.
TOGETHER = (frozenset({"q_proj", "k_proj", "v_proj"}), frozenset({"gate_proj", "up_proj"}))


# Gets the input [.., in] of linear layers and their product [.., sum of outs], and may change the product in place.
AfterProduct = Callable[[torch.Tensor, torch.Tensor], None]


class Products(Protocol):
    """Linear layers that are one product (`pass_core.runtime.cuda_graphs.linears`)."""

    def group(self, linears: Sequence[nn.Module]) -> int | None:
        """The number of the product of just these layers, in this order; None where there is none."""
        ...


@dataclass(frozen=True, eq=False)
class _Group:
    """Adapters of linear layers that read the same input: down [sum of ranks, in], and for each linear its half.

    Attributes:
        together: [sum of outs, sum of ranks], each linear's half on the diagonal; `up` are views into it.
    """

    down: torch.Tensor
    linears: list[nn.Module]
    at: list[slice]
    up: list[torch.Tensor]
    together: torch.Tensor


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
        # Vectors of all layers on a device lie together, [layers there, L, hidden], so that a pass chooses from all.
        self._deep: dict[torch.device, torch.Tensor] = {}
        self._deep_at: list[tuple[torch.device, int]] = []
        if lookahead.deep is not None:
            on: dict[torch.device, list[torch.Tensor]] = {}
            for layer, vectors in zip(self._layers, lookahead.deep):
                device = execution_device(layer)
                there = on.setdefault(device, [])
                self._deep_at.append((device, len(there)))
                there.append(vectors)
            self._deep = {d: torch.stack(there).to(device=d, dtype=dtype, copy=True) for d, there in on.items()}
        self._groups: list[_Group] = []
        self._adapters: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        modules = model.linears()
        for names in _groups(lookahead, modules):
            # Not the weight's dtype: that of a quantised one is an integer.
            to: dict[str, Any] = {"device": execution_device(modules[names[0]]), "dtype": dtype}
            halves = [lookahead.adapters[n] for n in names]
            down = torch.cat([half.down for half in halves]).to(**to)
            together = torch.block_diag(*(half.up for half in halves)).to(**to)
            at, outs = (_slices([half.down.shape[0] for half in halves]), _slices([h.up.shape[0] for h in halves]))
            up = [together[out, rank] for out, rank in zip(outs, at)]
            self._groups.append(_Group(down, [modules[n] for n in names], at, up, together))
            self._adapters |= {n: (down[rows], half) for n, rows, half in zip(names, at, up)}

    @property
    def any_inside(self) -> bool:
        """Whether something acts inside the layers, besides the input vectors."""
        return bool(self._layers or self._groups)

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
        for (device, index), other in zip(self._deep_at, lookahead.deep if lookahead.deep is not None else ()):
            self._deep[device][index].copy_(other)
        for name, other in lookahead.adapters.items():
            down, up = self._adapters[name]
            down.copy_(other.down)
            up.copy_(other.up)

    @contextlib.contextmanager
    def on_rows(self, steps: np.ndarray) -> Generator[None]:
        """Active for passes whose row i is look-ahead step steps[i] (-1: a token row)."""
        device = self.embeddings.device
        all_steps = torch.from_numpy(steps).to(device)
        with self.masked(all_steps.clamp(min=0), (all_steps >= 0)[:, None]):
            yield

    @contextlib.contextmanager
    def masked(
        self, steps: torch.Tensor, is_lookahead: torch.Tensor, products: Products | None = None
    ) -> Generator[dict[int, AfterProduct]]:
        """The same with tensors, which may change between replays: steps [n] >= 0, is_lookahead [n, 1].

        Yields what has to change the products of `products`, by their numbers: adapters of all layers of one.
        """
        after: dict[int, AfterProduct] = {}
        handles: list[torch.utils.hooks.RemovableHandle] = []
        chosen = _Pass(steps, is_lookahead)
        rows = {device: chosen.deep(vectors) for device, vectors in self._deep.items()}
        for layer, (device, index) in zip(self._layers, self._deep_at):
            handles.append(layer.register_forward_pre_hook(_deep_hook(rows[device][index]), with_kwargs=True))
        for group in self._groups:
            number = None if products is None else products.group(group.linears)
            if number is not None:
                after[number] = _adapters_after(chosen, group)
                continue
            for module, at, up in zip(group.linears, group.at, group.up):
                handles.append(module.register_forward_hook(_adapter_hook(chosen, group, at, up)))
        try:
            yield after
        finally:
            for handle in handles:
                handle.remove()


def _groups(lookahead: LookaheadEmbeddings, modules: dict[str, nn.Module]) -> list[list[str]]:
    """Names of the file's adapters, those of linear layers that read the same input together."""
    found: dict[tuple[Any, ...], list[str]] = {}
    for name in (n for n in modules if n in lookahead.adapters):  # in the order of the model
        adapter = lookahead.adapters[name]
        parent, _, last = name.rpartition(".")
        kind: Any = next((names for names in TOGETHER if last in names), last)
        key = (parent, kind, adapter.down.shape[1], execution_device(modules[name]))
        found.setdefault(key, []).append(name)
    return list(found.values())


class _Pass:
    """The look-ahead rows of one pass; `where`, for 0 times something need not be 0."""

    def __init__(self, steps: torch.Tensor, is_lookahead: torch.Tensor) -> None:
        self._on = {steps.device: (steps, is_lookahead)}
        self._last: tuple[_Group, torch.Tensor, torch.Tensor] | None = None

    def _placed(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        if device not in self._on:
            steps, is_lookahead = next(iter(self._on.values()))
            self._on[device] = (steps.to(device), is_lookahead.to(device))
        return self._on[device]

    def deep(self, vectors: torch.Tensor) -> torch.Tensor:
        """[layers, n, hidden] what each layer adds to its input, given all vectors [layers, L, hidden]."""
        steps, is_lookahead = self._placed(vectors.device)
        return self._kept(is_lookahead, vectors.index_select(1, steps))

    @staticmethod
    def _kept(is_lookahead: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return torch.where(is_lookahead, values, 0)

    def add_adapter(self, output: torch.Tensor, x: torch.Tensor, group: _Group, at: slice, up: torch.Tensor) -> None:
        """Add one linear's update to its output, in place; the first of a group computes the product for all."""
        if self._last is None or self._last[0] is not group or self._last[1] is not x:
            self._last = (group, x, self._low(x, group, output.device))
        _add(output, self._last[2][:, at], up)

    def add_adapters(self, output: torch.Tensor, x: torch.Tensor, group: _Group) -> None:
        """Add the updates of all linears of a group to their product, in place."""
        _add(output, self._low(x, group, output.device), group.together)

    def _low(self, x: torch.Tensor, group: _Group, device: torch.device) -> torch.Tensor:
        _, is_lookahead = self._placed(device)
        return self._kept(is_lookahead, x.reshape(-1, x.shape[-1]).to(device) @ group.down.T)


def _add(output: torch.Tensor, low: torch.Tensor, up: torch.Tensor) -> None:
    rows = output.view(-1, output.shape[-1])
    if rows.dtype == low.dtype:
        rows.addmm_(low, up.T)
    else:
        rows.add_(low @ up.T)


def _slices(sizes: Sequence[int]) -> list[slice]:
    """Where parts of these sizes lie, one behind the other."""
    ends = np.cumsum(sizes).tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends], ends)]


def _deep_hook(update: torch.Tensor) -> Any:
    def changed(hidden: torch.Tensor) -> torch.Tensor:
        # The hidden states come from the layer above, which may lie on another device.
        return hidden + update.to(hidden)

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

    return hook


def _adapter_hook(chosen: _Pass, group: _Group, at: slice, up: torch.Tensor) -> Any:
    def hook(module: nn.Module, args: Sequence[Any], output: torch.Tensor) -> None:
        chosen.add_adapter(output, args[0], group, at, up)

    return hook


def _adapters_after(chosen: _Pass, group: _Group) -> AfterProduct:
    return lambda x, product: chosen.add_adapters(product, x, group)
