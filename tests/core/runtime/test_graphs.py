"""The order of a capture's steps, with torch.cuda played by a recorder: no GPU takes part."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from pass_core.runtime.cuda_graphs.graphs import CudaGraphs

DEVICE = torch.device("cuda", 0)


class FakeCuda:
    """What CudaGraphs uses of torch.cuda. `stream` is the current one."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.current = "main"
        self.log: list[str] = []
        self.streams = 0
        self.collecting: list[bool] = []

    @contextmanager
    def stream(self, stream: Any) -> Generator[None]:
        before, self.current = self.current, str(stream)
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def device(self, device: torch.device) -> Generator[None]:
        yield

    @contextmanager
    def graph(self, graph: Any, pool: Any, stream: Any, capture_error_mode: str) -> Generator[None]:
        assert (pool, capture_error_mode) == ("pool", "thread_local")
        before, self.current = self.current, f"capture on {stream}"
        self.collecting.append(gc.isenabled())
        self.log.append("begin")
        yield
        if self.fails:
            raise RuntimeError("capture invalidated")  # as torch does: the stream is not put back
        self.log.append("end")
        self.current = before

    def current_stream(self, device: Any = None) -> Any:
        return _Stream(self.current)

    def Stream(self, device: Any) -> Any:
        self.streams += 1
        return _Stream(f"stream {self.streams} of {device}")

    def CUDAGraph(self) -> Any:
        return self

    def replay(self) -> None:
        self.log.append("replay")

    def graph_pool_handle(self) -> str:
        return "pool"


class _Stream(str):
    def wait_stream(self, other: Any) -> None:
        return None


@pytest.fixture(params=[False, True], ids=["works", "fails"])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda(request.param)
    for name in ("stream", "device", "graph", "current_stream", "Stream", "CUDAGraph", "graph_pool_handle"):
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    return fake


def test_a_call_warms_up_aside_is_captured_once_and_leaves_the_stream_as_it_was(cuda: FakeCuda) -> None:
    ran: list[str] = []

    def work() -> torch.Tensor:
        ran.append(cuda.current)
        return torch.ones(1)

    graphs = CudaGraphs(DEVICE)
    if cuda.fails:
        with pytest.raises(RuntimeError, match="invalidated"):
            graphs.capture(work)
    else:
        captured = graphs.capture(work)
        assert captured.replay() is captured.replay()
        assert cuda.log == ["begin", "end", "replay", "replay"]
    own = f"stream 1 of {DEVICE}"
    assert ran == [own, own, f"capture on {own}"]
    assert cuda.current == "main"
    assert cuda.collecting == [False]
    assert gc.isenabled()


def test_each_set_of_graphs_has_one_stream_of_its_own(cuda: FakeCuda) -> None:
    """cuBLAS keeps a workspace for each stream: one model's graphs must not share it with another's."""
    cuda.fails = False
    ran: list[str] = []

    def work() -> torch.Tensor:
        ran.append(cuda.current)
        return torch.ones(1)

    first, second = CudaGraphs(DEVICE), CudaGraphs(torch.device("cuda", 1))
    for graphs in (first, first, second):
        graphs.capture(work)
    assert cuda.streams == 2
    assert ran[2] == ran[5] == "capture on stream 1 of cuda:0"
    assert ran[8] == "capture on stream 2 of cuda:1"


def test_torch_takes_what_it_is_given() -> None:
    assert {"cuda_graph", "pool", "stream", "capture_error_mode"} <= set(
        inspect.signature(torch.cuda.graph.__init__).parameters
    )
