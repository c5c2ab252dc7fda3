"""Numbers to the device and back: one copy each, whatever memory the host has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pass_core.runtime.cuda_graphs.staging import Receiver, Sender, _pinned

CPU = torch.device("cpu")


def test_what_is_sent_arrives_and_stays_until_it_is_sent_again() -> None:
    sender = Sender(3, CPU)
    sender.edit()[:] = (1, -2, 2**62)
    assert sender.numbers.tolist() == [0, 0, 0]
    sender.send()
    sender.edit()[:] = 7
    assert sender.numbers.tolist() == [1, -2, 2**62]


def test_what_was_received_stays_when_more_arrives() -> None:
    receiver = Receiver()
    first = receiver.receive(torch.arange(4))
    second = receiver.receive(torch.full((9,), 5))
    third = receiver.receive(torch.full((2,), 6))
    assert first.tolist() == [0, 1, 2, 3]
    assert second.tolist() == [5] * 9
    assert third.tolist() == [6, 6]
    assert first.dtype == np.int64


@pytest.mark.skipif(torch.cuda.is_available(), reason="here memory can be pinned")
def test_memory_that_cannot_be_pinned_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _pinned(4, torch.device("cuda")) is None
    assert _pinned(4, CPU) is None
