"""GPUs without values: fake tensors know their device and refuse what mixes two, on machines without any GPU."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode


@contextmanager
def fake_gpus() -> Generator[None]:
    """Tensors made or moved here may lie on cuda:0, cuda:1 …; nothing is computed but shapes and devices."""
    with FakeTensorMode(allow_non_fake_inputs=True), _Indexing():
        yield


class _Indexing(TorchFunctionMode):
    """x[i, :, None] and x.new_empty by other operations: torch's own want a driver, even for fake tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__getitem__:
            return _item(*args)
        if func is torch.Tensor.__setitem__:
            return torch.ops.aten.copy_(_item(args[0], args[1]), args[2])
        if func is torch.Tensor.copy_:
            return torch.ops.aten.copy_(*args)
        if func is torch.Tensor.contiguous:
            return torch.ops.aten.contiguous(args[0])
        if func in (torch.Tensor.new_empty, torch.Tensor.new_zeros):
            make = torch.empty if func is torch.Tensor.new_empty else torch.zeros
            return make(args[1], **{"dtype": args[0].dtype, "device": args[0].device, **(kwargs or {})})
        return func(*args, **(kwargs or {}))


def _item(x: torch.Tensor, index: Any) -> torch.Tensor:
    index = index if isinstance(index, tuple) else (index,)
    axis = 0
    for place, one in enumerate(index):
        if one is Ellipsis:
            axis = x.ndim - sum(i is not None for i in index[place + 1 :])
        elif one is None:
            x, axis = x.unsqueeze(axis), axis + 1
        elif isinstance(one, int):
            x = x.select(axis, one)
        elif isinstance(one, slice):
            x, axis = torch.ops.aten.slice.Tensor(x, axis, one.start, one.stop, one.step or 1), axis + 1
        else:
            one = torch.as_tensor(one)
            x, axis = x.index_select(axis, one.to(x.device) if one.device.type == "cpu" else one), axis + 1
    return x
