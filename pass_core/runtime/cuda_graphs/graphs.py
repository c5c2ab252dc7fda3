"""Calls of fixed shape that can be repeated: captured as CUDA graphs, or run again where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

Work = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Captured:
    """A call ready to be repeated: `replay` computes it from what its static inputs hold now.

    Attributes:
        replay: returns the call's result, valid until the next replay of any call.
    """

    replay: Work


class Graphs(Protocol):
    """Captures calls.

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
    """One CUDA graph a call; all share one memory pool, for they never run at the same time."""

    name = "CUDA graphs"

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, work: Work) -> Captured:
        # The outer stream context puts this thread's stream back where ending a failed capture raises, too.
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream(self._device)):
            # Libraries choose algorithms and allocate at their first calls, which must not be captured.
            aside = torch.cuda.Stream(self._device)
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(2):
                    work()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # The window's threads may use the GPU meanwhile; only this thread's calls belong to the graph.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                result = work()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return Captured(replay)


class Rerun:
    """Runs the call again each time: the same buffers, padding and masks on any device, for tests and for debugging."""

    name = "static buffers"

    def capture(self, work: Work) -> Captured:
        return Captured(work)
