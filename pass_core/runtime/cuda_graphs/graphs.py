"""Forward passes of fixed shape that can be repeated: captured as CUDA graphs, or run again where there is no GPU."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import torch

Work = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Captured:
    """A forward pass ready to be repeated: `replay` computes it from what its static inputs hold now.

    Attributes:
        replay: returns the result, valid until the next replay of anything captured by the same `Graphs`.
        result: the tensor that replays write their result to; None where each replay returns a new one.
    """

    replay: Work
    result: torch.Tensor | None = None


class Graphs(Protocol):
    """Captures forward passes.

    Attributes:
        name: for the window and reports.
    """

    name: str

    def capture(self, work: Work) -> Captured:
        """Make `work` repeatable. It runs a few times, and may only read and write tensors that stay in place.

        Raises:
            RuntimeError: it cannot be captured.
        """
        ...


class CudaGraphs:
    """One CUDA graph for each forward pass; all share one memory pool, for they never run at the same time.

    They also share one stream of their own, for warming up and for capturing. torch would capture on one stream of the
    whole process: cuBLAS keeps a workspace for each stream, and destroying the graphs of one model would free the
    workspace that the graphs of the next one use (pytorch issue 193402); on a second GPU that stream belongs to the
    first one, and the graph would be empty.
    """

    name = "CUDA graphs"

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def capture(self, work: Work) -> Captured:
        # The outer stream context puts this thread's stream back where ending a failed capture raises, too.
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream(self._device)), _no_garbage():
            # Libraries choose algorithms and allocate at their first calls, which must not be captured.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(2):
                    work()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            # The window's threads may use the GPU meanwhile; only this thread's calls belong to the graph.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                result = work()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return Captured(replay, result)


class Rerun:
    """Runs the work again each time: the same buffers, padding and masks on any device, for tests and for debugging."""

    name = "static buffers"

    def capture(self, work: Work) -> Captured:
        return Captured(work)


@contextlib.contextmanager
def _no_garbage() -> Generator[None]:
    """No automatic collection inside: it could destroy another graph in the middle of a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
