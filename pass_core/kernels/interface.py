"""The operations of a step besides forward passes: their inputs, their results, and the order of their sums.

Both implementations choose the same tokens. They compare float64 numbers: a logit's difference from the largest of its
row, divided by the temperature, plus Gumbel noise made from 52 bits. Of equal numbers the one with the lower token id
comes first; of equal reaches the one of lower depth, then the one that is earlier in its level. The logarithms
of two libraries may differ in the last bit, so reaches and log probabilities agree to 1e-12, not in every bit. Draft
heads take factors in the model's dtype and add in float32. Each implementation adds in an order of its own: two scores
closer than that rounding may change places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.runtime.base import Shortlist

IntArray = npt.NDArray[np.int64]
ROOT = -1  # the parent of drafts that stand directly below the last committed token


def _c(kind: str, default: Any = MISSING) -> Any:
    """A field of a parameter block, with its type in C."""
    return field(default=default, metadata={"c": kind})


@dataclass(frozen=True, slots=True)
class WalkRequest:
    """How the target is sampled.

    Attributes:
        noise: hash of seed and stream (`pass_core.sampling.noise.stream_hash`).
        position: absolute position of the first sample, in tokens.
        temperature: what logits are divided by, above 0.
        top_k: how many of the largest logits can be sampled; 1 is greedy at any temperature; 0 keeps the whole
            vocabulary.
        top_p, log_min_p: what of the top k is left (`pass_core.sampling.nucleus`); off where there is no top_k.
    """

    noise: int = _c("uint64_t")
    position: int = _c("int64_t")
    temperature: float = _c("double")
    top_k: int = _c("int32_t")
    top_p: float = _c("double", 1.0)
    log_min_p: float = _c("double", -math.inf)


@dataclass(frozen=True, slots=True)
class SampledPath:
    """What the walk met, level by level.

    Attributes:
        rows: rows of the logits: 0 for the root, i + 1 for draft i.
        samples: the token sampled at each of them; all but the last are the drafts of the next row.
        ids, values: [levels, top_k] the tokens that could be sampled and their logits, largest first, ties by lower id;
            without columns where the whole vocabulary could.
        kept: how many of them top-p and min-p left, at each level.
    """

    rows: list[int]
    samples: list[int]
    ids: IntArray
    values: npt.NDArray[np.float32]
    kept: list[int]


@dataclass(frozen=True, slots=True)
class GrowRequest:
    """How a tree of drafts grows: level by level, the best candidates below the best nodes of the level above.

    Attributes:
        noise: hash of seed and stream (`pass_core.sampling.noise.stream_hash`).
        position: absolute position of depth 1, in tokens.
        before, root: the last two tokens before depth 1 (before: -1 for none).
        temperature: of the draft distributions, above 0.
        sibling_temperature: temperature that turns perturbed scores into weights of siblings.
        min_reach: a draft reached less often (a probability) is left out.
        min_level_reach: a level whose nodes together are reached less often is the last.
        seen, after_one, after_two, recent: logit bonuses (`pass_core.decoding.repetition_bonus`) of tokens that are
            among the last `recent` tokens, that followed the same token, and that followed the same two tokens.
        top_k: candidates of a draft distribution that have a probability; 0 for the whole vocabulary.
        candidates: likeliest plain look-ahead tokens that the draft head re-scores (`top_k` without a head).
        branches, width: drafts below a node, and nodes of a level that are branched from.
        limit: drafts at most.
        noisy: whether noise takes part in ranking drafts (1) or not (0: temperature 0 with siblings).
        top_p, log_min_p: what of the top k has a probability (`pass_core.sampling.nucleus`); off where there is no
            top_k.
        shares: by depth, the probability that the true token is among the branches.
    """

    noise: int = _c("uint64_t")
    position: int = _c("int64_t")
    before: int = _c("int64_t")
    root: int = _c("int64_t")
    temperature: float = _c("double")
    sibling_temperature: float = _c("double")
    min_reach: float = _c("double")
    min_level_reach: float = _c("double")
    seen: float = _c("float")
    after_one: float = _c("float")
    after_two: float = _c("float")
    recent: int = _c("int32_t")
    top_k: int = _c("int32_t")
    candidates: int = _c("int32_t")
    branches: int = _c("int32_t")
    width: int = _c("int32_t")
    limit: int = _c("int32_t")
    noisy: int = _c("int32_t")
    top_p: float = _c("double", 1.0)
    log_min_p: float = _c("double", -math.inf)
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftRows:
    """Rows of one forward pass that a tree grows from.

    Attributes:
        hidden: [n, hidden] states after the final norm.
        logits: [n, vocabulary] float32, plain look-ahead logits of the same rows; of `tokens` alone, if given.
        at: which of these rows draft depth 1, 2, ..
        steps: 0-based look-ahead step of each of them.
        plain: how many of the first depths a draft head leaves as their logits have them.
        tokens: the token of each column of `logits`, contiguous and rising; None where they are the whole vocabulary.
    """

    hidden: torch.Tensor
    logits: torch.Tensor
    at: Sequence[int]
    steps: Sequence[int]
    plain: int = 0
    tokens: IntArray | None = None


@dataclass(frozen=True, slots=True)
class GrownTree:
    """The best drafts by falling reach, parents (-1: the root) first.

    Attributes:
        tokens, parents, depths: [drafts] of each.
        reaches: estimated probability of each that verification reaches and accepts it.
        source: the distribution that each was drawn from, a row of `ids` and `log_p`.
        ids, log_p: [distributions, top_k] tokens, likeliest first (the whole vocabulary in rising order), and log
            probabilities, -inf for those that top-p and min-p leave out.
    """

    tokens: list[int]
    parents: list[int]
    depths: list[int]
    reaches: list[float]
    source: list[int]
    ids: IntArray
    log_p: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What `plan_call` chooses the shape of a forward pass by.

    A shape is worth 1 + the reach of its drafts, less what its rows cost, plus `future` times what its look-ahead rows
    promise: the drafts that the next step is expected to get accepted from them.

    Attributes:
        future: weight of tokens of the next step.
        patience: counts in a row without a better shape, after which the search ends.
        rows_limit: the most rows that the pass may carry.
        reaches: acceptance probability of each draft, best first (a parent always before its children).
        parents: index of each draft's parent, -1 for the root.
        hits: probability that a draft made from look-ahead row LA_1, LA_2, .. is accepted once the walk gets to it; as
            many as a chain can have.
        counts: numbers of drafts to try, rising, each at most rows_limit - 1.
        seconds: [rows_limit + 1] the cost of a pass by its rows, in tokens.
    """

    future: float = _c("double")
    patience: int = _c("int32_t")
    rows_limit: int = _c("int32_t")
    reaches: Sequence[float] = ()
    parents: Sequence[int] = ()
    hits: Sequence[float] = ()
    counts: Sequence[int] = ()
    seconds: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True)
class CallPlan:
    """The shape of one forward pass.

    Attributes:
        drafts: how many of the best drafts are verified.
        chains: look-ahead rows below the root and below each of these drafts (length drafts + 1).
        value: what the shape is worth, in tokens (see `PlanRequest`).
    """

    drafts: int
    chains: tuple[int, ...]
    value: float = field(default=0.0, compare=False)

    @property
    def rows(self) -> int:
        return 1 + self.drafts + sum(self.chains)


Guesses = Callable[[], tuple[torch.Tensor, torch.Tensor]]
"""Waits for guesses: states [depth, hidden], and their logits [depth, n] for the tokens of the shortlist."""


class DraftHead(Protocol):
    """Scores drafts by the token before them; only the `Kernels` that made it can use it."""


class Kernels(Protocol):
    """The operations, for one model on its device. Not thread-safe: one generation at a time."""

    @property
    def description(self) -> str:
        """What computes, in a few words."""
        ...

    def top_k(
        self, logits: torch.Tensor, count: int, rows: Sequence[int] | None = None
    ) -> tuple[IntArray, npt.NDArray[np.float32]]:
        """The `count` largest of rows of float32 `logits` [n, vocabulary], largest first, ties by lower id.

        Args:
            rows: which rows, in this order; all of them by default.

        Returns:
            Ids and logits, [rows, count] each (fewer columns for a smaller vocabulary).

        Raises:
            IndexError: a row that `logits` has not.
        """
        ...

    def sample_path(
        self, logits: torch.Tensor, request: WalkRequest, tokens: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> SampledPath:
        """The target's samples from row 0 of `logits` [drafts + 1 or more, vocabulary] on, float32, for as long as a
        draft is the sample before: at least one.

        The sample of a row is the argmax of logit / temperature + noise over the tokens that are left of the top k, an
        exact one (Gumbel-max trick), and the coupled rule's (Daliri, Musco & Suresh 2024).

        Args:
            tokens, parents: of the drafts, parents (-1: the root) before children; row i + 1 follows draft i.
        """
        ...

    def grow_tree(
        self, rows: DraftRows, request: GrowRequest, head: DraftHead | None = None, text: IntArray | None = None
    ) -> GrownTree:
        """Grow a tree of drafts below the last committed token.

        Args:
            head: re-scores candidates by the token before them.
            text: the tokens so far [n]; tokens that it repeats get a bonus. None for no bonus.

        Raises:
            MemoryError: there is not enough memory; a plain sentence.
        """
        ...

    def guess(self, head: DraftHead, state: torch.Tensor, token: int, depth: int, shortlist: Shortlist) -> Guesses:
        """Begin the states that drafts 1..depth are read from (`pass_core.lookahead.state_head`), and their logits.

        Args:
            head: of `guess_head`.
            state: [hidden], after the final norm, of the row that predicted `token`.
            shortlist: the model's runtime's, of the draft vocabulary.

        Raises:
            MemoryError: there is not enough memory; a plain sentence.
        """
        ...

    def plan_call(self, request: PlanRequest) -> CallPlan:
        """The shape with the best expected gain: how many drafts are verified, where look-ahead rows stand."""
        ...

    def sampler_head(self, weights: SamplerWeights) -> DraftHead:
        """The sampler head of a look-ahead file (`pass_core.lookahead.sampler`)."""
        ...

    def guess_head(self, weights: SamplerWeights) -> DraftHead:
        """The first layer of a state head, for `guess`."""
        ...

    def bigram_head(self, bigrams: Bigrams) -> DraftHead:
        """The model's own bigrams as a draft head (`pass_core.lookahead.bigrams`)."""
        ...
