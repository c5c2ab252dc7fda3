"""The look-ahead proposer: drafts from the states and logits of a chain of look-ahead rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pass_core.decoding.events import DraftSource
from pass_core.kernels.interface import DraftHead, DraftRows, IntArray, Kernels
from pass_core.lookahead.sampler import HEAD_CANDIDATES
from pass_core.runtime.base import Runtime


@dataclass(frozen=True, slots=True)
class LookaheadProposer:
    """Drafts of one chain of look-ahead rows, below the last committed token.

    Attributes:
        kernels: grow trees from it.
        rows: the chain's rows, and their logits.
        head: scores drafts by the token before them.
        text: the tokens so far [m]; tokens that it repeats get a bonus. None for no bonus.
        source: what its drafts are said to come from.
        candidates: likeliest tokens of a row that the head re-scores.
    """

    kernels: Kernels
    rows: DraftRows
    head: DraftHead | None = None
    text: IntArray | None = None
    source: DraftSource = DraftSource.LOOKAHEAD
    candidates: int = HEAD_CANDIDATES

    @classmethod
    def of_call(
        cls,
        kernels: Kernels,
        runtime: Runtime,
        hidden: torch.Tensor,
        at: Sequence[int],
        steps: Sequence[int],
        head: DraftHead | None = None,
        logits: torch.Tensor | None = None,
        text: IntArray | None = None,
    ) -> LookaheadProposer:
        """From rows of a forward pass.

        Args:
            hidden: [n, hidden] states of the pass's rows after the final norm.
            at: which of these rows are the chain's; at[d-1] drafts depth d.
            steps: 0-based look-ahead step of each row of the chain (not d-1 where an ancestor's chain is borrowed).
            logits: [n, vocabulary] of the same rows, where they are known already.
        """
        if logits is None:
            hidden = hidden.index_select(0, torch.tensor(list(at), device=hidden.device))
            logits, at = runtime.logits(hidden), range(len(at))
        return cls(kernels, DraftRows(hidden, logits, list(at), list(steps)), head, text)

    @property
    def depth(self) -> int:
        """How deep this chain can draft."""
        return len(self.rows.at)

    def first(self, depth: int) -> DraftRows:
        """The rows of the first depths."""
        rows = self.rows
        return DraftRows(rows.hidden, rows.logits, rows.at[:depth], rows.steps[:depth], rows.plain, rows.tokens)
