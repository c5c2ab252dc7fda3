"""What may follow a pass inside its graph, besides the pass itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from pass_core.runtime.cuda_graphs.inputs import StaticInputs


@dataclass(frozen=True, slots=True)
class Followed:
    """What a tail computed.

    Attributes:
        record: [n] int64, for the host.
        sources: [levels] rows of the pass whose entries stay in the KV cache, in their order.
        kept: [levels] bool, which of these there are; the others stand behind them.
    """

    record: torch.Tensor
    sources: torch.Tensor
    kept: torch.Tensor


class Tail(Protocol):
    """Operations behind a pass; one object for each set of operations, for its graphs are kept by it."""

    def numbers(self, size: int) -> int:
        """How many numbers it reads beside those of a pass of `size` rows (`StaticInputs.more`)."""
        ...

    def follow(self, hidden: torch.Tensor, inputs: StaticInputs) -> Followed:
        """The operations, given the states [size, hidden] of the pass after the final norm."""
        ...


def compact(entries: torch.Tensor, followed: Followed, committed: torch.Tensor, scratch: int) -> None:
    """Move the entries of the rows that stay together, in place.

    Args:
        entries: [layers, 2, kv_heads, slots, head_dim]; the rows of the pass lie behind the committed entries.
        committed: [1] how many these are.
        scratch: the slot that takes what there is not.
    """
    places = torch.arange(followed.kept.shape[0], device=entries.device)
    source = torch.where(followed.kept, committed + followed.sources, scratch)
    target = torch.where(followed.kept, committed + places, scratch)
    entries.index_copy_(3, target, entries.index_select(3, source))
