"""Rows of one forward pass: tokens and look-ahead steps, each below a parent row."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """What one forward pass computes.

    A row attends to everything committed in the cache, to its ancestors in this call and to itself.

    Attributes:
        tokens: [n] token ids, -1 for look-ahead rows.
        lookahead: [n] 0-based look-ahead step, -1 for token rows.
        parents: [n] index of the parent row, -1 for a row right after the committed tokens. Parents come first.
        depths: [n] 0 for rows without a parent, else the parent's depth + 1; position = committed + depth.
    """

    tokens: IntArray
    lookahead: IntArray
    parents: IntArray
    depths: IntArray

    @property
    def count(self) -> int:
        return int(self.tokens.size)

    @property
    def is_chain(self) -> bool:
        """Whether every row is below the one before it, as in plain causal text."""
        return bool(np.array_equal(self.parents, np.arange(-1, self.count - 1)))

    def ancestors(self) -> npt.NDArray[np.bool_]:
        """[n, n] bool: row i may attend to row j."""
        out = np.zeros((self.count, self.count), dtype=np.bool_)
        for i, parent in enumerate(self.parents):
            if parent >= 0:
                out[i] = out[parent]
            out[i, i] = True
        return out


@dataclass(slots=True)
class RowsBuilder:
    """Collects rows, parents first."""

    _tokens: list[int] = field(default_factory=list[int])
    _lookahead: list[int] = field(default_factory=list[int])
    _parents: list[int] = field(default_factory=list[int])
    _depths: list[int] = field(default_factory=list[int])

    def add_token(self, token: int, parent: int = -1) -> int:
        """Append a token row; returns its index."""
        return self._add(token, -1, parent)

    def add_lookahead(self, step: int, parent: int) -> int:
        """Append the row of look-ahead step `step` (0-based); returns its index."""
        return self._add(-1, step, parent)

    def add_lookahead_chain(self, count: int, parent: int) -> list[int]:
        """Append LA_1..LA_count below `parent`; returns their indices."""
        out: list[int] = []
        for step in range(count):
            parent = self.add_lookahead(step, parent)
            out.append(parent)
        return out

    def _add(self, token: int, step: int, parent: int) -> int:
        self._tokens.append(token)
        self._lookahead.append(step)
        self._parents.append(parent)
        self._depths.append(0 if parent < 0 else self._depths[parent] + 1)
        return len(self._tokens) - 1

    def __len__(self) -> int:
        return len(self._tokens)

    def build(self) -> Rows:
        return Rows(
            np.array(self._tokens, dtype=np.int64),
            np.array(self._lookahead, dtype=np.int64),
            np.array(self._parents, dtype=np.int64),
            np.array(self._depths, dtype=np.int64),
        )


def chain_rows(tokens: IntArray) -> Rows:
    """Plain causal rows, as for a prompt."""
    count = tokens.size
    return Rows(
        np.asarray(tokens, dtype=np.int64),
        np.full(count, -1, dtype=np.int64),
        np.arange(-1, count - 1, dtype=np.int64),
        np.arange(count, dtype=np.int64),
    )
