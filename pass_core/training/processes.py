"""One process or several (`accelerate launch`): who am I, and sums over all."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch


class Processes:
    """The processes that train together.

    Attributes:
        rank, world: this one's number, and how many there are. Only rank 0 writes files and reports.
    """

    def __init__(self, *, cpu: bool = False) -> None:
        self.rank, self.world = 0, 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            state: Any = PartialState(cpu=cpu)
            self.rank, self.world = int(state.process_index), int(state.num_processes)

    @property
    def main(self) -> bool:
        return self.rank == 0

    @contextmanager
    def main_first(self) -> Generator[None, None, None]:
        """Rank 0 runs the body before the others do (to fill caches that they then find)."""
        if self.world > 1 and not self.main:
            torch.distributed.barrier()
        yield
        if self.world > 1 and self.main:
            torch.distributed.barrier()

    def share(self, numbers: list[int]) -> list[tuple[int, int]]:
        """This process's (place in the batch, sequence number) pairs."""
        return [(i, n) for i, n in enumerate(numbers) if i % self.world == self.rank]

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes (a missing one counts as zero)."""
        if self.world == 1:
            return
        held = list(parameters)
        for p in held:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([p.grad.flatten() for p in held if p.grad is not None])
        torch.distributed.all_reduce(flat)
        at = 0
        for p in held:
            assert p.grad is not None
            p.grad.copy_(flat[at : at + p.numel()].view_as(p))
            at += p.numel()

    def sum(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """Sum each value over all processes."""
        if self.world == 1:
            return values
        # MPS has no float64; gloo and NCCL both sum float32.
        flat = torch.tensor(list(values.values()), dtype=torch.float32, device=device)
        torch.distributed.all_reduce(flat)
        return dict(zip(values, flat.tolist(), strict=True))

    def gather(self, rows: dict[int, list[int]], count: int, width: int, device: torch.device) -> torch.Tensor:
        """[count, width] whole numbers, of which each process has some rows."""
        flat = torch.zeros(count, width, dtype=torch.float32, device=device)
        for place, row in rows.items():
            flat[place] = torch.tensor(row, dtype=torch.float32)
        if self.world > 1:
            torch.distributed.all_reduce(flat)
        return flat.round().long().cpu()

    def agree(self, value: float, device: torch.device) -> float:
        """Rank 0's value, in every process."""
        if self.world == 1:
            return value
        flat = torch.tensor([value if self.main else 0.0], dtype=torch.float32, device=device)
        torch.distributed.all_reduce(flat)
        return float(flat)
