"""The shared Gumbel noise in torch; `pass_core.sampling.noise` says what it is."""

from __future__ import annotations

import torch

from pass_core.sampling.noise import MIX_1, MIX_2, POSITION, TOKEN, mix_one


def gumbel(noise: int | torch.Tensor, positions: torch.Tensor | int, tokens: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise in float64; int64 `positions` and `tokens` broadcast.

    Args:
        noise: hash of seed and stream (`pass_core.sampling.noise.stream_hash`); as a tensor the int64 of its bits.
    """
    if isinstance(positions, int):
        if isinstance(noise, torch.Tensor):
            raise TypeError("noise on the device needs positions there")
        above = signed(mix_one(positions * POSITION % 2**64 ^ noise))
    else:
        above = _mix(positions * signed(POSITION) ^ (signed(noise) if isinstance(noise, int) else noise))
    h = _mix((tokens * signed(TOKEN)) ^ above)
    # 52 bits: with 53 the largest number would round to 1, whose noise is infinite.
    uniform = (_shifted(h, 12).double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(uniform))


def _mix(h: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser; int64 wraps as uint64 does."""
    h = (h ^ _shifted(h, 30)) * signed(MIX_1)
    h = (h ^ _shifted(h, 27)) * signed(MIX_2)
    return h ^ _shifted(h, 31)


def _shifted(h: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical shift to the right."""
    return (h >> bits) & ((1 << (64 - bits)) - 1)


def signed(number: int) -> int:
    """The int64 with the bits of a uint64."""
    return number - 2**64 if number >= 2**63 else number
