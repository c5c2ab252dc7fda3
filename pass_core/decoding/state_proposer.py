"""The state proposer: drafts from the state that predicted the last token, without look-ahead rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pass_core.decoding.events import DraftSource
from pass_core.decoding.lookahead_proposer import LookaheadProposer
from pass_core.kernels.interface import DraftHead, DraftRows, Guesses, IntArray, Kernels
from pass_core.lookahead.embeddings import StateHeadWeights
from pass_core.lookahead.state_head import STATE_CANDIDATES
from pass_core.runtime.base import Runtime, Shortlist

PLAIN_LEVELS = 1  # depths whose guess knows the token before already


@dataclass(frozen=True, slots=True)
class StateGuesses:
    """Guesses of `depth` drafts, made from a state, that may still be in the making."""

    state: torch.Tensor
    depth: int
    guesses: Guesses


@dataclass(frozen=True, slots=True)
class StateProposer:
    """A file's state head (`pass_core.lookahead.state_head`) on a model.

    Attributes:
        guess, fit: its two layers, as the kernels have them.
        depth: how deep it drafts.
        vocabulary: the tokens that it drafts, and what reads their logits.
    """

    kernels: Kernels
    guess: DraftHead
    fit: DraftHead
    depth: int
    vocabulary: IntArray
    shortlist: Shortlist

    @classmethod
    def of(cls, weights: StateHeadWeights, kernels: Kernels, runtime: Runtime) -> StateProposer:
        """The proposer of a file's weights."""
        guess, fit = kernels.guess_head(weights.guess), kernels.sampler_head(weights.fit)
        vocabulary = weights.vocabulary
        return cls(kernels, guess, fit, weights.depth, vocabulary.numpy(), runtime.shortlist(vocabulary))

    @property
    def candidates(self) -> int:
        """Likeliest tokens of a guess that drafts are chosen from."""
        return min(STATE_CANDIDATES, self.vocabulary.size)

    def begin(self, state: torch.Tensor, token: int, depth: int) -> StateGuesses:
        """Begin what `propose` drafts from; the compiled kernels' other threads do it meanwhile.

        Args:
            state: [hidden], after the final norm, of the row that predicted the token.
        """
        depth = min(depth, self.depth)
        return StateGuesses(state, depth, self.kernels.guess(self.guess, state, token, depth, self.shortlist))

    def propose(
        self, state: torch.Tensor, token: int, depth: int, text: IntArray | None, begun: StateGuesses | None = None
    ) -> LookaheadProposer:
        """Drafts of depths 1..depth after `token`.

        Args:
            state: [hidden], after the final norm, of the row that predicted the token.
            text: the tokens so far [m]; tokens that it repeats get a bonus. None for no bonus.
            begun: guesses that were begun before; of another state, or less deep, they are begun anew.
        """
        depth = min(depth, self.depth)
        if begun is None or begun.state is not state or begun.depth < depth:
            begun = self.begin(state, token, depth)
        hidden, logits = begun.guesses()
        rows = DraftRows(hidden, logits, range(depth), range(depth), PLAIN_LEVELS, self.vocabulary)
        return LookaheadProposer(self.kernels, rows, self.fit, text, DraftSource.STATE_HEAD, self.candidates)
