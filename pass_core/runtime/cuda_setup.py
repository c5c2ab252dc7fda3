"""Settings of torch that our forward passes need on a CUDA device."""

from __future__ import annotations

import torch


def set_up(device: torch.device) -> None:
    """Make `device` this thread's, and choose kernels that are right for few rows under any mask.

    - The current device belongs to the thread: without this a second GPU's work would start on the first.
    - cuDNN's attention plans each new shape for up to 0.4 s, and was wrong for few KV heads on some GPUs
      (pytorch issue 193893); the memory-efficient kernel takes any mask.
    - Products that reduce in bfloat16 or float16 round by their number of rows: plain decoding and PASS would write
      different texts more often than their dtype demands.
    """
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
