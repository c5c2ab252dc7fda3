"""The operations in torch, on any device: the readable specification, and what runs where there is no compiled library.

Shapes depend on settings alone, never on values; nothing is read back before an operation's one record. On a CPU, where
reading costs nothing, loops over levels end early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from pass_core.kernels.heads import KeptHeads, TorchBigramHead, TorchHead, TorchSamplerHead
from pass_core.kernels.interface import (
    ROOT,
    CallPlan,
    DraftHead,
    DraftRows,
    GrownTree,
    GrowRequest,
    Guesses,
    IntArray,
    PlanRequest,
    SampledPath,
    WalkRequest,
)
from pass_core.kernels.noise import gumbel
from pass_core.kernels.reference_plan import search
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Shortlist
from pass_core.sampling import nucleus, top

_SORTED = 1024  # more numbers are not sorted for the best few; with noise no two of them are equal
MISSING = -1.0  # the reach of a place in a level where no draft stands


class ReferenceKernels:
    """See `pass_core.kernels.interface.Kernels`.

    Args:
        model: whose embeddings draft heads read; None where there are no heads.
        operands: what heads round the factors of products to; the model's dtype by default.
    """

    def __init__(self, model: LanguageModel | None = None, operands: torch.dtype | None = None) -> None:
        self._model, self._operands = model, operands
        self._heads = KeptHeads[TorchSamplerHead]()

    @property
    def description(self) -> str:
        return "torch kernels"

    def sampler_head(self, weights: SamplerWeights) -> DraftHead:
        return self._heads.get(weights, lambda: TorchSamplerHead(weights, self._with_heads, self._operands))

    def guess_head(self, weights: SamplerWeights) -> DraftHead:
        return self.sampler_head(weights)

    @torch.inference_mode()
    def guess(self, head: DraftHead, state: torch.Tensor, token: int, depth: int, shortlist: Shortlist) -> Guesses:
        states = cast(TorchSamplerHead, head).guess(state, token, depth)
        found = states, shortlist(states)
        return lambda: found

    def bigram_head(self, bigrams: Bigrams) -> DraftHead:
        return TorchBigramHead(bigrams, self._with_heads, self._operands)

    @property
    def _with_heads(self) -> LanguageModel:
        if self._model is None:
            raise RuntimeError("draft heads need a model: there is none behind these kernels")
        return self._model

    @torch.inference_mode()
    def top_k(
        self, logits: torch.Tensor, count: int, rows: Sequence[int] | None = None
    ) -> tuple[IntArray, npt.NDArray[np.float32]]:
        logits = _workable(logits)
        if rows is not None:
            logits = logits.index_select(0, torch.tensor(list(rows), dtype=torch.int64, device=logits.device))
        ids, values = top.top_k(logits, min(count, logits.shape[1]))
        found = _Record(ids, values.double())
        return found.ints(), found.floats().astype(np.float32)

    @torch.inference_mode()
    def sample_path(
        self, logits: torch.Tensor, request: WalkRequest, tokens: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> SampledPath:
        logits = _workable(logits[: len(tokens) + 1])
        drafted = torch.tensor(list(tokens), dtype=torch.int64, device=logits.device)
        above = torch.tensor(list(parents), dtype=torch.int64, device=logits.device)
        levels = _levels(parents)
        top_k = request.top_k if request.top_k < logits.shape[1] or nucleus.is_on(request) else 0
        top_k = min(top_k, logits.shape[1])
        if logits.device.type == "cpu" or not top_k:
            return _walk_by_rows(logits, request, top_k, drafted, above, levels)
        # Every row is sampled: which ones the walk meets is known at the end only.
        ids, values = top.top_k(logits, top_k)
        depths = torch.zeros(logits.shape[0], dtype=torch.int64, device=logits.device)
        for _ in range(levels):
            depths[1:] = depths[above + 1] + 1
        scores, counts = _scores(values, ids, request, request.position + depths[:, None])
        best = scores.argmax(1, keepdim=True)
        samples = ids.gather(1, best)[:, 0]
        # The first draft of its token below a node is the one that can be accepted; its parent has to be.
        twin = (above[:, None] == above) & (drafted[:, None] == drafted)
        right = ~twin.tril(-1).any(1) & (drafted == samples[above + 1])
        met = torch.ones(logits.shape[0], dtype=torch.bool, device=logits.device)
        for _ in range(levels):
            met[1:] = right & met[above + 1]
        found = _Record(met.long(), samples, counts, ids, values.double())
        rows = np.flatnonzero(found.ints())
        sampled, left = found.ints()[rows].tolist(), found.ints()[rows].tolist()
        return SampledPath(rows.tolist(), sampled, found.ints()[rows], found.floats()[rows].astype(np.float32), left)

    @torch.inference_mode()
    def grow_tree(
        self, rows: DraftRows, request: GrowRequest, head: DraftHead | None = None, text: IntArray | None = None
    ) -> GrownTree:
        growth = _Growth(rows, request, cast(TorchHead | None, head), text)
        for level in range(len(rows.at)):
            growth.level(level)
            if growth.on_host and not bool(growth.alive):
                break
        return growth.best()

    def plan_call(self, request: PlanRequest) -> CallPlan:
        return search(request)


def _workable(tensor: torch.Tensor) -> torch.Tensor:
    """Where float64 exists: MPS has none, there the operations run on the CPU."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def _scores(
    values: torch.Tensor, ids: torch.Tensor, request: WalkRequest, positions: torch.Tensor | int
) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, K] float64: logit / temperature, less that of the largest, plus noise, -inf for what is left out; and how
    many are left [rows]."""
    below = values.double() - values.amax(-1, keepdim=True).double()
    scaled = below / request.temperature
    scores = scaled + gumbel(request.noise, positions, ids)
    if not nucleus.is_on(request):
        return scores, torch.full(scores.shape[:1], scores.shape[1], device=scores.device)
    counts = nucleus.kept(scaled, request)
    return scores.masked_fill(_beyond(scaled, counts), -torch.inf), counts


def _beyond(scaled: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Which places of rows [rows, K] stand behind the first `counts` [rows]."""
    return torch.arange(scaled.shape[1], device=scaled.device) >= counts[:, None]


def _levels(parents: Sequence[int]) -> int:
    """How deep a tree is."""
    depths = np.zeros(len(parents) + 1, dtype=np.int64)
    above = np.asarray(parents, dtype=np.int64) + 1
    while True:
        deeper = depths.copy()
        deeper[1:] = depths[above] + 1
        if (deeper == depths).all():
            return int(depths.max())
        depths = deeper


def _walk_by_rows(
    logits: torch.Tensor, request: WalkRequest, top_k: int, drafted: torch.Tensor, above: torch.Tensor, levels: int
) -> SampledPath:
    """The walk row by row: where the whole vocabulary can be sampled (`top_k` 0), which is too much to be done for rows
    that it may not meet, and where it can be seen on the way that it ends."""
    device = logits.device
    at = torch.zeros(1, dtype=torch.int64, device=device)
    alive = torch.ones(1, dtype=torch.bool, device=device)
    number = torch.arange(len(drafted), device=device)
    met: list[torch.Tensor] = []
    samples: list[torch.Tensor] = []
    tops: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    counts: list[torch.Tensor] = []
    everything = None if top_k else torch.arange(logits.shape[1], device=device)[None]
    for level in range(levels + 1):
        row = logits.index_select(0, at) if level else logits[:1]
        if everything is None:
            ids, row = top.top_k(row, top_k)
            tops.append(ids)
            values.append(row)
        else:
            ids = everything
        scores, left = _scores(row, ids, request, request.position + level)
        counts.append(left)
        sample = ids[0].gather(0, scores.argmax(1))
        met.append(torch.where(alive, at, -1))
        samples.append(sample)
        if level == levels:
            break
        # The first that fits: of all places, those that do not fit count as beyond the last.
        fits = (above + 1 == at) & (drafted == sample)
        first = torch.where(fits, number, len(drafted)).amin().reshape(1)
        alive = alive & (first < len(drafted))
        at = torch.where(alive, first + 1, 0)
        if device.type == "cpu" and not bool(alive):
            break
    empty = logits.new_empty((len(met), 0))
    found = _Record(
        torch.cat(met),
        torch.cat(samples),
        torch.cat(counts),
        torch.cat(tops) if top_k else empty.long(),
        torch.cat(values).double() if top_k else empty.double(),
    )
    rows, sampled, left = (found.ints().tolist() for _ in range(3))
    count = sum(row >= 0 for row in rows)
    ids, numbers = found.ints()[:count], found.floats()[:count].astype(np.float32)
    return SampledPath(rows[:count], sampled[:count], ids, numbers, left[:count])


class _Growth:
    """A tree that grows: places for `branches` drafts below each of `width` nodes, in every level.

    Attributes:
        on_host: whether its values can be looked at on the way.
        alive: whether the next level is worth growing.
    """

    def __init__(self, rows: DraftRows, request: GrowRequest, head: TorchHead | None, text: IntArray | None) -> None:
        self.request, self.head = request, head
        logits = _workable(rows.logits)
        self.device = logits.device
        self.on_host = self.device.type == "cpu"
        at = torch.tensor(list(rows.at), dtype=torch.int64, device=self.device)
        plain = logits.index_select(0, at)
        self.top_k = request.top_k or plain.shape[1]
        self.cut = nucleus.is_on(request)
        self.whole = self.top_k >= plain.shape[1] and not self.cut
        if self.whole and head is None:
            self.ids = torch.arange(plain.shape[1], device=self.device).expand(plain.shape[0], -1)
            self.values, self.top_k = plain, plain.shape[1]
        else:
            self.ids, self.values = top.top_k(plain, min(request.candidates, plain.shape[1]))
            self.top_k = min(self.top_k, self.ids.shape[1])
        if rows.tokens is not None:
            self.ids = torch.as_tensor(rows.tokens, device=self.device)[self.ids]
        self.branches = min(request.branches, self.top_k)
        if head is not None:
            self.ids, order = self.ids.sort(dim=1)  # candidates that a head scores alike go by id
            self.values = self.values.gather(1, order)
            self.plain = rows.plain
            self.states = rows.hidden.index_select(0, at.to(rows.hidden.device))
            steps = torch.tensor(list(rows.steps), dtype=torch.int64, device=self.device)
            self.prepared = head.prepare(self.states, steps)
        self.noise: torch.Tensor | None = None
        if request.noisy and not self.whole:  # of all levels at once
            depths = torch.arange(self.ids.shape[0], device=self.device)[:, None]
            self.noise = gumbel(request.noise, request.position + depths, self.ids)
        self.repeats = None if text is None or head is None else _Repeats(self.ids, text, request)
        self.shares = torch.tensor(request.shares, dtype=torch.float64, device=self.device).clamp_max(1.0)
        # The nodes of the level above: their numbers, tokens, the tokens above them, and reaches.
        self.nodes = torch.full((1,), ROOT, dtype=torch.int64, device=self.device)
        self.last = torch.full((1,), request.root, dtype=torch.int64, device=self.device)
        self.second = torch.full((1,), request.before, dtype=torch.int64, device=self.device)
        self.reach = torch.ones(1, dtype=torch.float64, device=self.device)
        self.alive = torch.ones((), dtype=torch.bool, device=self.device)
        self.count = 0
        # Of all levels: token, parent and reach of each place; how many places share a distribution; each distribution.
        self.tokens: list[torch.Tensor] = []
        self.parents: list[torch.Tensor] = []
        self.reaches: list[torch.Tensor] = []
        self.from_ids: list[torch.Tensor] = []
        self.from_log_p: list[torch.Tensor] = []

    def level(self, level: int) -> None:
        """The best candidates below each node of the level above, then the nodes to branch from next."""
        request, width, branches = self.request, self.nodes.shape[0], self.branches
        ids, log_p, noise = self._distributions(level)
        if noise is None and not self.whole:  # they stand in this order already
            scores, tokens = log_p[:, :branches], ids[:, :branches]
        else:
            drawn = log_p if noise is None else log_p + noise
            if drawn.shape[1] > _SORTED:
                scores, order = drawn.topk(branches, dim=1)
            else:
                scores, order = drawn.sort(dim=1, descending=True, stable=True)
                scores, order = scores[:, :branches], order[:, :branches]
            tokens = ids.gather(1, order)
        weights = torch.exp((scores - scores[:, :1]) / request.sibling_temperature)
        share = self.shares[level] / weights.sum(1) * self.reach
        reaches = share[:, None] * weights
        stands = (self.reach >= 0)[:, None] & (reaches >= request.min_reach) & self.alive
        if self.cut:
            stands = stands & (scores > -torch.inf)
        reaches = reaches.masked_fill_(~stands, MISSING).flatten()
        tokens = tokens.expand(width, -1).flatten()
        self.tokens.append(tokens)
        self.parents.append(self.nodes[:, None].expand(-1, branches).flatten())
        self.reaches.append(reaches)
        self.from_ids.append(ids)
        self.from_log_p.append(log_p)
        chosen = reaches.sort(descending=True, stable=True)
        slots = chosen.indices[: request.width]
        self.second = self.last.index_select(0, slots // branches)
        self.last, self.nodes = tokens.index_select(0, slots), slots + self.count
        self.reach = chosen.values[: request.width]
        together = self.reach.clamp_min(0.0).sum()
        self.alive = self.alive & (self.reach[0] >= 0) & (together >= request.min_level_reach)
        self.count += width * branches

    def _distributions(self, level: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Tokens, log probabilities and noise [width or 1, top_k] of the drafts below each node, likeliest first except
        where they are the whole vocabulary."""
        request, ids, scores = self.request, self.ids[level : level + 1], self.values[level : level + 1]
        noise = None if self.noise is None else self.noise[level : level + 1]
        if self.head is not None:
            if level < self.plain:
                scores = scores.expand(self.last.shape[0], -1)
            else:
                scores = self.head.scores(self.states[level], self.prepared[level], self.last, ids[0]).to(self.device)
            if self.repeats is not None:
                scores = scores + self.repeats.gain(level, self.last, self.second)
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            scores, order = scores[:, : self.top_k], order[:, : self.top_k]
            ids = ids[0][order]
            noise = None if noise is None else noise[0][order]
        if request.noisy and noise is None:
            noise = gumbel(request.noise, request.position + level, ids)
        below = scores.double()
        scaled = (below - below.amax(1, keepdim=True)) / request.temperature
        if self.cut:
            scaled = scaled.masked_fill(_beyond(scaled, nucleus.kept(scaled, request)), -torch.inf)
        return ids, torch.log_softmax(scaled, 1), noise

    def best(self) -> GrownTree:
        """The drafts by falling reach: equal ones by depth, then by their place in the level."""
        reaches = torch.cat(self.reaches)
        ranked = reaches.sort(descending=True, stable=True)
        place = torch.empty_like(ranked.indices)
        place[ranked.indices] = torch.arange(self.count, device=self.device)
        chosen = ranked.indices[: self.request.limit]
        tokens, parents, depths, source = torch.stack(
            (torch.cat(self.tokens), torch.cat(self.parents), *self._origins())
        )[:, chosen]
        parents = torch.where(parents < 0, ROOT, place[parents])
        found = _Record(
            tokens,
            parents,
            depths,
            source,
            ranked.values[: self.request.limit],
            torch.cat(self.from_ids),
            torch.cat(self.from_log_p),
        )
        lists = [found.ints() for _ in range(4)]
        reach = found.floats()
        count = int((reach >= 0).sum())
        tokens_, parents_, depths_, source_ = (numbers[:count].tolist() for numbers in lists)
        return GrownTree(tokens_, parents_, depths_, reach[:count].tolist(), source_, found.ints(), found.floats())

    def _origins(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The depth of each place and its distribution's row, which follow from the shapes alone."""
        depths: list[int] = []
        source: list[int] = []
        rows = 0
        for level, (reaches, ids) in enumerate(zip(self.reaches, self.from_ids)):
            places, below = reaches.shape[0], ids.shape[0]
            depths += [level + 1] * places
            source += [rows + slot * below // places for slot in range(places)]
            rows += below
        return torch.tensor(depths, device=self.device), torch.tensor(source, device=self.device)


class _Repeats:
    """Bonuses of candidates that occurred recently, after the same token, or after the same two.

    Args:
        ids: [levels, C] candidates of each level, rising.
        text: the tokens so far [n].
    """

    def __init__(self, ids: torch.Tensor, text: IntArray, request: GrowRequest) -> None:
        self.request = request
        self.text = torch.from_numpy(text.copy()).to(ids.device)
        levels, self.none = ids.shape
        # Each token's place among the candidates of each level, or one beyond the last.
        everywhere = self.text.expand(levels, -1).contiguous()
        place = torch.searchsorted(ids, everywhere)
        there = ids.gather(1, place.clamp_max(self.none - 1)) == everywhere
        self.place = place.masked_fill_(~there, self.none)
        self.seen = torch.zeros(levels, self.none + 1, device=ids.device)
        if request.recent:
            self.seen.scatter_(1, self.place[:, -request.recent :], request.seen)

    def gain(self, level: int, last: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """[nodes, C] what each candidate gains below nodes with these tokens and these above them [nodes]."""
        request, text, place = self.request, self.text, self.place[level]
        after_one = text[:-1] == last[:, None]
        after_two = after_one[:, 1:] & (text[:-2] == second[:, None])
        one, two = (torch.zeros(last.shape[0], self.none + 1, device=text.device) for _ in range(2))
        one.scatter_(1, torch.where(after_one, place[1:], self.none), request.after_one)
        two.scatter_(1, torch.where(after_two, place[2:], self.none), request.after_two)
        return (self.seen[level] + one + two)[:, : self.none]


class _Record:
    """Tensors of int64 and float64 as one, copied to the host together and taken out again in order."""

    def __init__(self, *parts: torch.Tensor) -> None:
        self._shapes = [part.shape for part in reversed(parts)]
        self._at = 0
        self._all: IntArray = torch.cat([part.contiguous().view(torch.int64).flatten() for part in parts]).cpu().numpy()

    def ints(self) -> IntArray:
        """The next part, of int64."""
        shape = self._shapes.pop()
        begin, self._at = self._at, self._at + shape.numel()
        return self._all[begin : self._at].reshape(shape)

    def floats(self) -> npt.NDArray[np.float64]:
        """The next part, of float64."""
        return self.ints().view(np.float64)
