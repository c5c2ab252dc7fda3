"""Linear layers of captured passes that read the same input, as one product: q, k and v; gate and up.

Their weights become views into one tensor, so that nothing is stored twice and each layer still works by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, cast

import torch
from torch import nn

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.lookahead_parts import TOGETHER, AfterProduct


class JoinedLinears:
    """The groups of a model's linear layers that have one product each.

    A group is joined where all its layers are plain `nn.Linear`s of one dtype and device, with a bias or without one.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._groups = [] if model.quantization else [_Group(linears) for linears in _together(model)]

    def group(self, linears: Sequence[nn.Module]) -> int | None:
        """The number of the group of just these layers, in this order; None where there is none."""
        found = (number for number, group in enumerate(self._groups) if group.linears == list(linears))
        return next(found, None)

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    @contextlib.contextmanager
    def active(self, after: dict[int, AfterProduct] | None = None) -> Generator[None]:
        """The groups are one product each inside.

        Args:
            after: what changes the products of groups, by their numbers.
        """
        kept: list[tuple[nn.Module, Any]] = []
        for number, group in enumerate(self._groups):
            change = None if after is None else after.get(number)
            for linear, forward in zip(group.linears, group.forwards(change)):
                kept.append((linear, vars(linear).get("forward")))
                cast(Any, linear).forward = forward
        try:
            yield
        finally:
            for linear, forward in kept:
                if forward is None:
                    vars(linear).pop("forward", None)
                else:
                    cast(Any, linear).forward = forward


class _Group:
    """Linear layers that read the same input: weight [sum of outs, in]."""

    def __init__(self, linears: list[nn.Linear]) -> None:
        self.linears: list[nn.Module] = list(linears)
        self._weight = _joined([linear.weight for linear in linears])
        biases = [bias for linear in linears if (bias := _bias(linear)) is not None]
        self._bias = _joined(biases) if biases else None
        self._outs = [linear.out_features for linear in linears]

    def forwards(self, after: AfterProduct | None) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """One forward for each layer, for one pass: the first one computes the product of all."""
        ready: dict[int, torch.Tensor] = {}  # each layer's part of the product, until it is asked for
        of: list[torch.Tensor] = []

        def part(x: torch.Tensor, index: int) -> torch.Tensor:
            if index not in ready or of[0] is not x:
                out = nn.functional.linear(x, self._weight, self._bias)
                if after is not None:
                    after(x, out)
                of[:] = [x]
                ready.update(enumerate(out.split(self._outs, dim=-1)))
            mine = ready.pop(index)
            if not ready:
                of.clear()
            return mine

        return [lambda x, i=i: part(x, i) for i in range(len(self.linears))]


def _together(model: LanguageModel) -> Iterable[list[nn.Linear]]:
    """The layers of each group, in the order of the model."""
    found: dict[tuple[Any, ...], list[nn.Linear]] = {}
    for name, module in model.linears().items():
        parent, _, last = name.rpartition(".")
        kind = next((names for names in TOGETHER if last in names), None)
        if kind is not None and type(module) is nn.Linear and module.weight.is_floating_point():
            weight = module.weight
            key = (parent, kind, module.in_features, weight.dtype, weight.device, _bias(module) is None)
            found.setdefault(key, []).append(module)
    return [linears for linears in found.values() if len(linears) > 1]


def _bias(linear: nn.Linear) -> torch.Tensor | None:
    return cast("torch.Tensor | None", linear.bias)


@torch.no_grad()
def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The parts one below the other, as a tensor that they become views of; the same one if they are already."""
    first = parts[0].data
    begin = first.storage_offset()
    together = True
    for part in parts:
        data = part.data
        together &= data.is_contiguous() and _storage(data) == _storage(first)
        together &= data.storage_offset() == begin
        begin += data.numel()
    rows = sum(part.shape[0] for part in parts)
    if together:
        return first.as_strided((rows, *first.shape[1:]), first.stride(), first.storage_offset())
    joined = torch.cat([part.data for part in parts])
    for part, view in zip(parts, joined.split([part.shape[0] for part in parts])):
        part.data = view
    return joined


def _storage(tensor: torch.Tensor) -> int:
    """What tensors in one piece of memory share, whether it holds values or not."""
    return cast(Any, tensor.untyped_storage())._cdata
