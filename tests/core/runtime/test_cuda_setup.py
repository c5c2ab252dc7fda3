"""The settings of torch that forward passes on a CUDA device rely on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pass_core.runtime.cuda_setup import set_up


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.device]]:
    """The devices that were made current; torch's own settings are put back."""
    devices: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    matmul = torch.backends.cuda.matmul
    before = (
        torch.backends.cuda.cudnn_sdp_enabled(),
        matmul.allow_bf16_reduced_precision_reduction,
        matmul.allow_fp16_reduced_precision_reduction,
    )
    torch.backends.cuda.enable_cudnn_sdp(True)
    matmul.allow_bf16_reduced_precision_reduction = matmul.allow_fp16_reduced_precision_reduction = True
    yield devices
    torch.backends.cuda.enable_cudnn_sdp(before[0])
    matmul.allow_bf16_reduced_precision_reduction, matmul.allow_fp16_reduced_precision_reduction = before[1:]


def test_a_second_gpu_is_made_current_and_products_do_not_reduce_in_low_precision(chosen: list[torch.device]) -> None:
    set_up(torch.device("cuda", 1))
    assert chosen == [torch.device("cuda", 1)]
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    assert not torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction


def test_a_cpu_changes_nothing(chosen: list[torch.device]) -> None:
    set_up(torch.device("cpu"))
    assert chosen == []
    assert torch.backends.cuda.cudnn_sdp_enabled()
