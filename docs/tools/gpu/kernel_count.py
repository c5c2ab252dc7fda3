"""Kernels of a forward pass, counted without a GPU: what a captured CUDA graph has as nodes, nearly.

    python docs/tools/gpu/kernel_count.py [--model MODEL] [--dtype bfloat16] [--rows 16] [--operations]

Runs the passes that `CudaGraphRuntime` would capture, and counts each torch operation that writes memory. Views,
metadata and bare allocations are left out. A GPU may need more than one kernel for an operation (a product that
splits its sums) and torch may compute an operation differently there, so this is a measure of the program, not of a
card.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pass_core import default_lookahead, load_model
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.cuda_graphs.graphs import Captured, Work
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.runtime.rows import Rows, RowsBuilder, chain_rows

_ALLOCATIONS = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})
_TEXT = 200


class CountKernels(TorchDispatchMode):
    """Counts operations that write memory, by name, while it is active.

    Attributes:
        by_name: operation -> kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self.by_name.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[-1]
        given = {_memory(t) for t in _tensors((args, kwargs))}
        # What lies in an argument's memory, and was not written there, is a view.
        made = [t for t in _tensors(out) if _memory(t) not in given]
        if func._schema.is_mutable or (made and name not in _ALLOCATIONS):
            self.by_name[name] += 1
            if name == "addmm" and args[0].ndim == 2:
                self.by_name["addmm copies what it adds to"] += 1
        return out


class _Counting:
    """`Graphs` that counts the pass instead of capturing it."""

    name = "counted passes"

    def __init__(self) -> None:
        self.counter = CountKernels()

    def capture(self, work: Work) -> Captured:
        self.counter = CountKernels()
        with self.counter:
            work()
        return Captured(work)


def kernels(model: LanguageModel, lookahead: LookaheadEmbeddings | None, rows: int) -> Counter[str]:
    """Kernels by operation of one captured pass of this many rows; with look-ahead rows where a file is given.

    Raises:
        RuntimeError: passes of this model cannot be captured, or a captured one differs from an eager one.
    """
    graphs = _Counting()
    runtime = CudaGraphRuntime(model, graphs)
    runtime.use_lookahead(lookahead)
    cache = runtime.new_cache(_TEXT + rows)
    runtime.forward(cache, chain_rows(np.arange(_TEXT) % 50))  # eager: larger than a captured pass
    cache.commit(range(_TEXT))
    runtime.forward(cache, _tree(rows, 0 if lookahead is None else lookahead.count))
    if runtime.trouble:
        raise RuntimeError(runtime.trouble)
    return graphs.counter.by_name


def _tree(rows: int, length: int) -> Rows:
    """A root with children, and a look-ahead chain of up to `length` rows below it."""
    builder = RowsBuilder()
    root = builder.add_token(1)
    chain = min(length, rows - 1)
    for _ in range(rows - 1 - chain):
        builder.add_token(2, root)
    if chain:
        builder.add_lookahead_chain(chain, root)
    return builder.build()


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]


def _memory(tensor: torch.Tensor) -> int:
    """Where a tensor's storage lies; what has no strides (a packed weight) only is itself."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else -id(tensor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--operations", action="store_true", help="list the operations, too")
    options = parser.parse_args()

    model = load_model(options.model, device="cpu", dtype=options.dtype)
    print(" ".join(("python", *sys.argv)))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}")
    print(f"{model.name}, {model.dtype}, {len(model.layers)} layers\n")
    passes: list[tuple[str, LookaheadEmbeddings | None, int]] = [("plain", None, 1), ("plain", None, options.rows)]
    passes += [(name, default_lookahead(model, prefer=name), options.rows) for name in ("embeddings", "best")]
    for name, lookahead, rows in passes:
        found = kernels(model, lookahead, rows)
        print(f"{name:12}{rows:4} {'row ' if rows == 1 else 'rows'} {found.total():6} kernels", flush=True)
        if options.operations:
            print("   ", ", ".join(f"{operation} {count}" for operation, count in found.most_common()))


if __name__ == "__main__":
    main()
