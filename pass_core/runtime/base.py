"""The runtime protocol: a forward pass over rows, the lm_head on the rows that need it, and a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.progress import CancelToken, ProgressCallback
from pass_core.runtime.rows import Rows

Shortlist = Callable[[torch.Tensor], torch.Tensor]
"""[m, hidden] hidden states to float32 logits [m, n] of n tokens: the numbers that `Runtime.logits` has for them."""


class Cache(Protocol):
    """Keys and values of the committed tokens."""

    length: int
    capacity: int

    def commit(self, rows: Sequence[int]) -> None:
        """Keep these rows of the last pass, in order; forget its other rows."""
        ...

    def truncate(self, length: int) -> None:
        """Forget everything after `length` entries."""
        ...

    @property
    def nbytes(self) -> int: ...


class Runtime(Protocol):
    """Runs one model on its device. Not thread-safe: one generation at a time."""

    @property
    def description(self) -> str:
        """What makes the passes fast here, for the window and reports ("native bf16, 2 threads")."""
        ...

    @property
    def row_buckets(self) -> tuple[int, ...]:
        """The numbers of rows that passes are padded to; () where a pass has just its own rows."""
        ...

    def warm_up(self, on_progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """Do now what first passes would wait for (capturing graphs), unless it is done.

        Raises:
            Cancelled: between two passes.
        """
        ...

    def new_cache(self, capacity: int) -> Cache:
        """An empty cache for `capacity` entries, rows in flight included."""
        ...

    def use_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        """Make these embeddings (and their deep and adapter parts) those of the look-ahead rows."""
        ...

    def forward(self, cache: Cache, rows: Rows) -> torch.Tensor:
        """Hidden states after the final norm, [n, hidden], of all rows; their keys and values wait in the cache."""
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Vocabulary logits, float32 [m, vocabulary], of [m, hidden] hidden states."""
        ...

    def shortlist(self, ids: torch.Tensor) -> Shortlist:
        """Rows of the lm_head alone: of tokens `ids` [n], int64, rising. That of the ids asked for last is kept.

        Raises:
            MemoryError: there is not enough memory; a plain sentence.
        """
        ...

    def synchronize(self) -> None:
        """Wait for the device, so that clocks tell the truth."""
        ...
