"""The inputs of a captured pass: one small tensor on the device, filled by one copy from the host."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from pass_core.runtime.cuda_graphs.staging import Sender
from pass_core.runtime.rows import IntArray, Rows

_WINDOW = 64  # rows whose ancestry fits into the bits of an int64
_FIELDS = 6
_TOKENS, _STEPS, _POSITIONS, _SLOTS, _ANCESTORS, _COMMITTED = range(_FIELDS)


class StaticInputs:
    """Rows of a pass, padded to a fixed number; the device computes the mask from them.

    Args:
        size: rows of the call, at most 64.
        more: numbers that follow them.
    """

    def __init__(self, size: int, device: torch.device, more: int = 0) -> None:
        if not 0 < size <= _WINDOW:
            raise ValueError(f"a captured call has 1 to {_WINDOW} rows, not {size}")
        self.size = size
        self._sender = Sender(_FIELDS * size + more, device)
        self._packed = self._sender.numbers[: _FIELDS * size].view(_FIELDS, size)

    @property
    def more(self) -> torch.Tensor:
        """[more] int64, the numbers that follow the rows."""
        return self._sender.numbers[_FIELDS * self.size :]

    def fill(self, rows: Rows, committed: int, scratch: int, more: IntArray | None = None) -> None:
        """Describe a call behind `committed` entries; rows that pad it write to slot `scratch`."""
        numbers = self._sender.edit()
        host = numbers[: _FIELDS * self.size].reshape(_FIELDS, self.size)
        host[:] = 0
        if more is not None:
            numbers[_FIELDS * self.size :] = more
        count = rows.count
        host[_TOKENS, :count] = np.maximum(rows.tokens, 0)
        host[_STEPS] = -1
        host[_STEPS, :count] = rows.lookahead
        host[_POSITIONS, :count] = rows.depths + committed
        host[_SLOTS] = scratch
        host[_SLOTS, :count] = np.arange(committed, committed + count)
        host[_ANCESTORS] = 1  # padding rows see the first row, for a row that sees nothing is NaN
        host[_ANCESTORS, :count] = _ancestor_bits(rows)
        host[_COMMITTED] = committed
        self._sender.send()

    @property
    def tokens(self) -> torch.Tensor:
        """[size] token ids; 0 in look-ahead and padding rows."""
        return self._packed[_TOKENS]

    @property
    def positions(self) -> torch.Tensor:
        """[size] absolute positions; 0 in padding rows."""
        return self._packed[_POSITIONS]

    @property
    def slots(self) -> torch.Tensor:
        """[size] where keys and values go."""
        return self._packed[_SLOTS]

    @property
    def committed(self) -> torch.Tensor:
        """[1] how many entries are committed."""
        return self._packed[_COMMITTED, :1]

    def lookahead(self) -> tuple[torch.Tensor, torch.Tensor]:
        """[size] look-ahead steps (0 where there is none) and [size, 1] whether there is one."""
        steps = self._packed[_STEPS]
        return steps.clamp(min=0), (steps >= 0)[:, None]

    def mask(self, columns: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """[1, 1, size, slots] additive mask, given columns = 0..slots-1: committed entries and ancestors."""
        offset = columns - self.committed
        bits = (self._packed[_ANCESTORS][:, None] >> offset.clamp(0, _WINDOW - 1)) & 1
        seen = (offset < 0) | ((offset < _WINDOW) & (bits == 1))
        return torch.zeros_like(seen, dtype=dtype).masked_fill_(seen.logical_not(), torch.finfo(dtype).min)[None, None]


def _ancestor_bits(rows: Rows) -> npt.NDArray[np.int64]:
    """[n] integers whose bit j says that the row attends to row j."""
    out: list[int] = []
    for row, parent in enumerate(rows.parents.tolist()):
        out.append((out[parent] if parent >= 0 else 0) | 1 << row)
    return np.array(out, dtype=np.uint64).view(np.int64)
