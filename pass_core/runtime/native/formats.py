"""Formats of weights in the compiled library (csrc/products.h has the same numbers)."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, get_args

Weights = Literal["float32", "bfloat16", "int8", "gguf"]
"""What a runtime computes with: the module's weights in float32 or bfloat16, those rounded to 8-bit blocks (Q8_0), or
the blocks of a GGUF file as they are."""
WEIGHTS: tuple[Weights, ...] = get_args(Weights)


class Format(IntEnum):
    """How the library holds a matrix. Q8_0, Q4_0 and Q4_1 are GGUF's blocks of 32 inputs."""

    F32 = 0
    BF16 = 1
    Q8_0 = 2
    Q4_0 = 3
    Q4_1 = 4


BLOCK = 32
"""Inputs that share a scale."""
BLOCK_BYTES = {Format.Q8_0: 34, Format.Q4_0: 18, Format.Q4_1: 20}
EXACT = {"F32": Format.F32, "BF16": Format.BF16, "Q8_0": Format.Q8_0, "Q4_0": Format.Q4_0, "Q4_1": Format.Q4_1}
"""GGUF's tensor types that are taken as they are; any other becomes float32, which holds its numbers exactly."""
ACTIVATION_BITS = 16
"""Of rows where weights are integers."""
