"""The walk of the coupled rule over all rows at once, with fixed shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pass_core.kernels.interface import WalkRequest
from pass_core.kernels.noise import gumbel
from pass_core.sampling import nucleus, top

Number = float | torch.Tensor
"""A number, or a tensor without dimensions that holds it on the device."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the target is sampled; see `WalkRequest`.

    Attributes:
        noise: an int64 where it is a tensor.
        kept: how many of the selected logits can be sampled; None for all of them.
        cut: top-p and min-p, within these; None where they are off.
    """

    noise: int | torch.Tensor
    temperature: Number
    kept: torch.Tensor | None = None
    cut: nucleus.Cut | None = None

    @classmethod
    def of(cls, request: WalkRequest) -> Sampling:
        """Of a request, all of whose selected logits can be sampled but for top-p and min-p."""
        return cls(request.noise, request.temperature, cut=request if nucleus.is_on(request) else None)

    def scores(
        self, values: torch.Tensor, ids: torch.Tensor, positions: torch.Tensor | int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[n, ids] float64: logit / temperature, less that of the largest, plus noise, -inf for what is left out; and
        how many are left [n]."""
        below = values.double() - values.amax(-1, keepdim=True).double()
        scaled = below / self.temperature
        scores = scaled + gumbel(self.noise, positions, ids)
        if self.cut is not None:
            counts = nucleus.kept(scaled, self.cut)
        elif self.kept is not None:
            counts = self.kept.expand(scores.shape[0])
        else:
            return scores, torch.full(scores.shape[:1], scores.shape[1], device=scores.device)
        return scores.masked_fill(beyond(scaled, counts), float("-inf")), counts


def beyond(scaled: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Which places of rows [n, K] stand behind the first `counts` [n]."""
    return torch.arange(scaled.shape[1], device=scaled.device) >= counts[:, None]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a pass, as a walk sees them: row 0 is the root.

    Attributes:
        tokens, above, depths: [n] token, row above (the root's is 0), and depth below the root of each.
        drafted: [n] bool, which of them are drafts.
    """

    tokens: torch.Tensor
    above: torch.Tensor
    depths: torch.Tensor
    drafted: torch.Tensor


@dataclass(frozen=True, slots=True)
class Walked:
    """Every row's sample, and which rows the walk meets.

    Attributes:
        met: [n] bool.
        samples, kept: [n]; how many of a row's logits can be sampled.
        ids, values: [n, width] the largest logits of each row, largest first, ties by lower id.
    """

    met: torch.Tensor
    samples: torch.Tensor
    kept: torch.Tensor
    ids: torch.Tensor
    values: torch.Tensor


def walk(
    logits: torch.Tensor, rows: Rows, sampling: Sampling, position: int | torch.Tensor, width: int, levels: int
) -> Walked:
    """Sample every row of float32 `logits` [n, vocabulary]: which ones the walk meets is known at the end only.

    Args:
        position: absolute position of the root's sample.
        width: largest logits that are selected.
        levels: how deep drafts can be.
    """
    ids, values = top.top_k(logits, width)
    scores, kept = sampling.scores(values, ids, position + rows.depths[:, None])
    samples = ids.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    # The first draft of its token below a node is the one that can be accepted; its parent has to be.
    twin = (rows.above[:, None] == rows.above) & (rows.tokens[:, None] == rows.tokens) & rows.drafted
    right = rows.drafted & twin.tril(-1).any(1).logical_not() & (rows.tokens == samples.index_select(0, rows.above))
    root = torch.arange(logits.shape[0], device=logits.device) == 0
    met = root
    for _ in range(levels):
        met = root | (right & met.index_select(0, rows.above))
    return Walked(met, samples, kept, ids, values)
