"""The sampler head (arXiv 2507.11851, "sampler module"), for training and decoding alike.

h is a look-ahead row's state after the final norm, e the input embedding of the token before the drafted one:
z = silu(W_in [rms(h); rms(e)] + step_j), h' = h + W_out z. The lm_head reads h'. The part of h alone
is computed once for each row, the rest for each token that may be the one before.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

RMS_EPSILON = 1e-6
HEAD_CANDIDATES = 128  # likeliest plain look-ahead tokens that a draft head re-scores


def rms(x: torch.Tensor) -> torch.Tensor:
    """x / sqrt(mean(x²) + RMS_EPSILON) over the last axis, in float32."""
    wide = x.float()
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + RMS_EPSILON)


def from_state(
    hidden: torch.Tensor, w_in: torch.Tensor, step: torch.Tensor, operands: torch.dtype | None = None
) -> torch.Tensor:
    """[rows, inner] of states [rows, hidden], w_in [inner, 2·hidden] and step vectors [rows, inner].

    Args:
        operands: what factors of products are rounded to, if not to the weights' dtype; sums keep the weights' dtype.
    """
    return rounded(rms(hidden), w_in, operands) @ w_in[:, : hidden.shape[-1]].T + step


def corrected(
    hidden: torch.Tensor,
    prepared: torch.Tensor,
    before: torch.Tensor,
    w_in: torch.Tensor,
    w_out: torch.Tensor,
    operands: torch.dtype | None = None,
) -> torch.Tensor:
    """h' [rows, hidden] of states, what `from_state` made of them, and the tokens' embeddings before [rows, hidden]."""
    inner = F.silu(prepared + rounded(rms(before), w_in, operands) @ w_in[:, hidden.shape[-1] :].T)
    return hidden + rounded(inner, w_out, operands) @ w_out.T


def rounded(x: torch.Tensor, weight: torch.Tensor, operands: torch.dtype | None = None) -> torch.Tensor:
    """A factor of a product with `weight`: rounded to `operands`, in the dtype that the product is summed in."""
    return (x if operands is None else x.to(operands)).to(weight.dtype)
