"""Drafts from look-ahead rows: distributions per depth, made coherent by a draft head where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pass_core.decoding.repetition_bonus import bonus
from pass_core.runtime.base import Runtime
from pass_core.runtime.draft_heads import DraftHead
from pass_core.runtime.rows import IntArray
from pass_core.sampling.distribution import Distribution, candidate_distributions, distributions, top_candidates
from pass_core.settings import SamplingSettings

HEAD_CANDIDATES = 128


class LookaheadDrafts:
    """What one chain of look-ahead rows drafts below the last committed token.

    Args:
        hidden: [n, hidden] states of a call's rows after the final norm.
        at: which of these rows are the chain's; at[d-1] drafts depth d.
        steps: 0-based look-ahead step of each row of the chain (not d-1 where an ancestor's chain is borrowed).
        logits: [n, vocabulary] of the same rows, where they are known already.
        text: the tokens so far [m], which a head's scores are to repeat; None for no such bonus.
    """

    def __init__(
        self,
        runtime: Runtime,
        hidden: torch.Tensor,
        at: Sequence[int],
        steps: Sequence[int],
        head: DraftHead | None = None,
        logits: torch.Tensor | None = None,
        text: IntArray | None = None,
    ) -> None:
        self.runtime = runtime
        self.head = head
        self.steps = list(steps)
        self.at = list(at)
        self.hidden = hidden
        self.text = text
        self._logits = logits
        self._plain: dict[SamplingSettings, list[Distribution]] = {}
        self._candidates: dict[int, np.ndarray] = {}
        self._chain: torch.Tensor | None = None
        self._prepared: torch.Tensor | None = None

    @property
    def depth(self) -> int:
        """How deep this chain can draft."""
        return len(self.at)

    @property
    def coherent(self) -> bool:
        """Whether a draft's distribution depends on the token before it."""
        return self.head is not None

    @property
    def logits(self) -> torch.Tensor:
        """Plain look-ahead logits; row at[d-1] is that of depth d."""
        if self._logits is None:
            self.hidden, self.at = self._states(), list(range(self.depth))
            self._logits = self.runtime.logits(self.hidden)
        return self._logits

    def distributions(
        self, depth: int, before: Sequence[tuple[int, int]], sampling: SamplingSettings
    ) -> list[Distribution]:
        """The draft distributions at `depth` (1-based), one for each two tokens in `before` that could precede it."""
        logits = self.logits
        if self.head is None:
            plain = self._plain.get(sampling)
            if plain is None:
                plain = self._plain[sampling] = distributions(logits, sampling, self.at)
            return [plain[depth - 1]] * len(before)
        # Only the depths that are asked for: most trees end long before the chain does.
        ids = self._candidates.get(depth)
        if ids is None:
            ids = np.sort(top_candidates(logits, HEAD_CANDIDATES, self.at[depth - 1 : depth])[0][0])
            self._candidates[depth] = ids
        states = self._states()
        if self._prepared is None:
            self._prepared = self.head.prepare(states, self.steps)
        tokens = np.array([last for _, last in before], dtype=np.int64)
        scores = self.head.scores(states[depth - 1], self._prepared[depth - 1], tokens, ids)
        if self.text is not None:
            scores = scores + bonus(self.text, before, ids)
        return candidate_distributions(ids, scores, sampling)

    def _states(self) -> torch.Tensor:
        """[depth, hidden] of the chain's rows."""
        if self._chain is None:
            self._chain = self.hidden.index_select(0, torch.tensor(self.at, device=self.hidden.device))
        return self._chain
