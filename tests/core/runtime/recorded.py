"""A stand-in for CUDA graphs on the CPU: it records the operations of a call once and repeats exactly those.

As in a CUDA graph, whatever Python computed while recording (lengths, tokens, branches) is frozen, reading a value back
to the host is an error, and a repeated call sees nothing but what its tensors hold by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pass_core.runtime.cuda_graphs.graphs import Captured, Work

_READS_BACK = ("item", "_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")


class RecordedGraphs:
    """See the module. `captures` counts."""

    name = "recorded calls"

    def __init__(self) -> None:
        self.captures = 0

    def capture(self, work: Work) -> Captured:
        self.captures += 1
        recorder = _Recorder()
        with torch.inference_mode(), recorder:
            result = work()

        def replay() -> torch.Tensor:
            with torch.inference_mode():
                for again in recorder.operations:
                    again()
            return result

        return Captured(replay, result)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Callable[[], None]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        if name in _READS_BACK:
            raise RuntimeError(f"{name} inside a captured call")
        out = func(*args, **kwargs)
        given = {_storage(t) for t in _tensors((args, kwargs))}
        # What shares memory with an argument is a view or was written in place: it needs no copy.
        fresh = [(i, t) for i, t in enumerate(_tensors(out)) if _storage(t) not in given]
        if fresh or func._schema.is_mutable:
            self.operations.append(lambda: _again(func, args, kwargs, fresh))
        return out


def _again(func: Any, args: Any, kwargs: Any, fresh: list[tuple[int, torch.Tensor]]) -> None:
    out = _tensors(func(*args, **kwargs))
    for index, tensor in fresh:
        tensor.copy_(out[index])


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int:
    return -id(tensor) if tensor.layout != torch.strided else tensor.untyped_storage()._cdata
