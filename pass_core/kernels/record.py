"""Results of several shapes as one record of int64: one copy from the device carries them all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]


def pack(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """[numbers] int64 on the device: tensors of int64 and float64, one behind the other."""
    return torch.cat([part.contiguous().view(torch.int64).flatten() for part in parts])


class Reader:
    """Takes the parts of a record out again, in their order."""

    def __init__(self, numbers: IntArray) -> None:
        self._numbers, self._at = numbers, 0

    def ints(self, *shape: int) -> IntArray:
        """The next part, of int64."""
        begin, self._at = self._at, self._at + math.prod(shape)
        return self._numbers[begin : self._at].reshape(shape)

    def floats(self, *shape: int) -> npt.NDArray[np.float64]:
        """The next part, of float64."""
        return self.ints(*shape).view(np.float64)
