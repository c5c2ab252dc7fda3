"""How near a forward pass comes to the machine's limit: its cost by rows against bytes over bandwidth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.runtime.cost import measure
from pass_core.runtime.native.runtime import NativeRuntime

ROWS = (1, 2, 4, 8, 16, 24, 32, 48)
BUFFER_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Roofline:
    """Cost of a forward pass by its rows, and the floor that memory sets.

    Attributes:
        rows: numbers of rows.
        seconds: measured time of a call of as many rows, over a cache of `context` tokens.
        weight_bytes: bytes of weights that one forward pass has to read.
        bandwidth: measured bytes a second of the memory that holds them.
        context: tokens in the cache while measuring.
        runtime: what ran the calls.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]
    weight_bytes: int
    bandwidth: float
    context: int
    runtime: str

    @property
    def floor_seconds(self) -> float:
        """No pass can be faster: every weight must be read once."""
        return self.weight_bytes / self.bandwidth

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the floor that the call of each number of rows reaches (1 = at the limit)."""
        return tuple(self.floor_seconds / s for s in self.seconds)


def call_bytes(model: LanguageModel) -> int:
    """Bytes of weights that one pass reads: all of them, but not an embedding table of which it takes single rows."""
    table, head = model.input_embedding.weight, model.lm_head.weight
    tied = table.data_ptr() == head.data_ptr()
    return model.weight_bytes() - (0 if tied else table.numel() * table.element_size())


def memory_bandwidth(
    device: torch.device,
    repeats: int = 7,
    size: int = BUFFER_BYTES,
    read: Callable[[torch.Tensor], object] | None = None,
) -> float:
    """Bytes per second that this device reads: the best of a large sum, dot product, maximum and copy, on all threads.

    The copy counts its reads and its writes.

    Args:
        read: another way to read a buffer once, where there is one that may be faster.
    """
    buffer = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(buffer)
    integers = buffer.view(torch.int32)

    def wait() -> None:
        if device.type != "cpu":
            torch.get_device_module(device).synchronize(device)

    def sum_all() -> None:
        buffer.sum()

    def dot() -> None:
        torch.dot(buffer, buffer)

    def maximum() -> None:
        integers.amax()

    def copy() -> None:
        target.copy_(buffer)

    trials: list[tuple[Callable[[], object], int]] = [(sum_all, 1), (dot, 1), (maximum, 1), (copy, 2)]
    if read is not None:
        trials.append((lambda: read(buffer), 1))
    best = 0.0
    for operation, passes in trials:
        operation()
        wait()
        for _ in range(repeats):
            started = time.perf_counter()
            operation()
            wait()
            best = max(best, passes * buffer.numel() * 4 / (time.perf_counter() - started))
    return best


def measure_roofline(
    engine: Engine, *, rows: Sequence[int] = ROWS, repeats: int = 5, cancel: CancelToken | None = None
) -> Roofline:
    """Measure bandwidth and the cost of calls (a few seconds; the model must not be in use).

    Raises:
        Cancelled: between the two parts.
    """
    model, runtime = engine.model, engine.runtime
    packed = runtime if isinstance(runtime, NativeRuntime) else None
    read = None if packed is None else packed.read
    bandwidth = memory_bandwidth(model.device, read=read)
    if cancel is not None:
        cancel.raise_if_cancelled()
    context = max(1, min(256, model.capabilities.context_length // 2))
    cost = measure(runtime, rows=rows, context=context, repeats=repeats, vocabulary=min(256, model.vocabulary_size))
    # Once more: what other programs leave of a shared machine's memory changes, and the floor is what it can give.
    bandwidth = max(bandwidth, memory_bandwidth(model.device, read=read))
    return Roofline(
        rows=tuple(rows),
        seconds=tuple(cost(n) for n in rows),
        weight_bytes=call_bytes(model) if packed is None else packed.weight_bytes,
        bandwidth=bandwidth,
        context=context,
        runtime=runtime.description,
    )
