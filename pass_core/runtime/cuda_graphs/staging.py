"""Numbers that go to the device and come back in one copy each, through pinned memory where there is CUDA.

A copy from pinned memory does not stop the host; one from other memory does, and waits for all work before it.
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import torch

log = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]


class Sender:
    """Numbers that the host writes and the device reads.

    Attributes:
        numbers: [count] int64 on the device; what was sent last.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.numbers = torch.zeros(count, dtype=torch.int64, device=device)
        self._pinned = _pinned(count, device)
        self._host: IntArray = np.zeros(count, dtype=np.int64) if self._pinned is None else self._pinned.numpy()
        self._sent: torch.cuda.Event | None = None

    def edit(self) -> IntArray:
        """[count] the host's copy, to be written to; it waits until what was sent last has left it."""
        if self._sent is not None:
            self._sent.synchronize()
        return self._host

    @torch.inference_mode()
    def send(self) -> None:
        """Copy what the host wrote; operations that are launched later read it."""
        if self._pinned is None:
            self.numbers.copy_(torch.from_numpy(self._host))
            return
        self.numbers.copy_(self._pinned, non_blocking=True)
        self._sent = self._sent or torch.cuda.Event()
        self._sent.record()


class Receiver:
    """Takes records of int64 from the device; the largest so far decides its size."""

    def __init__(self) -> None:
        self._host = torch.zeros(0, dtype=torch.int64)
        self._done: torch.cuda.Event | None = None

    @torch.inference_mode()
    def receive(self, record: torch.Tensor) -> IntArray:
        """The numbers of a record [n], once the device has computed them: the one wait of a step."""
        count = record.shape[0]
        if self._host.shape[0] < count:
            pinned = _pinned(count, record.device)
            self._host = torch.zeros(count, dtype=torch.int64) if pinned is None else pinned
        host = self._host[:count]
        host.copy_(record, non_blocking=True)
        if record.device.type == "cuda":
            self._done = self._done or torch.cuda.Event()
            self._done.record()
            self._done.synchronize()
        return host.numpy().copy()


def _pinned(count: int, device: torch.device) -> torch.Tensor | None:
    """Pinned memory of the host; None where the device needs none, or the system gives none."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    try:
        return torch.zeros(count, dtype=torch.int64, pin_memory=True)
    except RuntimeError as error:
        log.info("copies to and from %s wait, for memory cannot be pinned: %s", device, error)
        return None
