"""Growing a tree of drafts in torch: shapes depend on settings alone, so that a CUDA graph can hold it.

What changes from tree to tree may be Python's numbers, or tensors that a captured graph reads anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from pass_core.kernels.heads import TorchHead
from pass_core.kernels.interface import ROOT, GrownTree, GrowRequest
from pass_core.kernels.noise import gumbel
from pass_core.kernels.record import Reader
from pass_core.kernels.walk import Number, beyond
from pass_core.sampling import nucleus

_SORTED = 1024  # more numbers are not sorted for the best few; with noise no two of them are equal
MISSING = -1.0  # the reach of a place in a level where no draft stands


@dataclass(frozen=True, slots=True)
class Growing:
    """What changes from tree to tree; see `GrowRequest`.

    Attributes:
        root, before: [1] the last two tokens before depth 1.
        noise: an int64 where it is a tensor.
        noisy: whether noise ranks drafts; where it is a tensor, noise is computed in any case.
        shares: [levels] float64.
        kept: how many of a distribution's tokens have a probability; None for all of them.
        levels: [levels] bool, which levels grow; None for all of them. None grows below one that does not.
        cut: top-p and min-p, within a distribution's tokens; None where they are off.
    """

    root: torch.Tensor
    before: torch.Tensor
    noise: int | torch.Tensor
    position: int | torch.Tensor
    temperature: Number
    sibling_temperature: Number
    min_reach: Number
    min_level_reach: Number
    noisy: bool | torch.Tensor
    shares: torch.Tensor
    kept: torch.Tensor | None = None
    levels: torch.Tensor | None = None
    cut: nucleus.Cut | None = None

    @classmethod
    def of(cls, request: GrowRequest, device: torch.device) -> Growing:
        """The numbers of a request."""
        before, root = torch.tensor([[request.before], [request.root]], dtype=torch.int64, device=device)
        return cls(
            root,
            before,
            request.noise,
            request.position,
            request.temperature,
            request.sibling_temperature,
            request.min_reach,
            request.min_level_reach,
            bool(request.noisy),
            torch.tensor(request.shares, dtype=torch.float64, device=device),
            cut=request if nucleus.is_on(request) else None,
        )


@dataclass(frozen=True, slots=True)
class Size:
    """What decides the shapes of a tree; see `GrowRequest`.

    Attributes:
        top_k: tokens of a draft distribution.
        branches, width, limit: of the request.
    """

    top_k: int
    branches: int
    width: int
    limit: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tokens that the drafts of each depth are chosen from.

    Attributes:
        ids, values: [levels, C] tokens and their scores: likeliest first, with a head by rising id.
        whole: whether they are the whole vocabulary, by rising id.
        states: [levels, hidden], what a head reads; None without one.
        prepared: [levels, inner], of the head.
        plain: how many of the first depths a head leaves as they are.
    """

    ids: torch.Tensor
    values: torch.Tensor
    whole: bool = False
    states: torch.Tensor | None = None
    prepared: torch.Tensor | None = None
    plain: int = 0

    def among(self, tokens: torch.Tensor) -> Candidates:
        """Columns as the tokens that they stand for: tokens [n] rising, one for each."""
        return replace(self, ids=tokens.index_select(0, self.ids.reshape(-1)).view(self.ids.shape))

    @classmethod
    def fitted(
        cls,
        ids: torch.Tensor,
        values: torch.Tensor,
        states: torch.Tensor,
        steps: torch.Tensor,
        head: TorchHead,
        plain: int,
    ) -> Candidates:
        """Candidates [levels, C] for a head, and the steps [levels] of their states [levels, hidden]."""
        ids, order = ids.sort(dim=1)  # candidates that a head scores alike go by id
        return cls(ids, values.gather(1, order), False, states, head.prepare(states, steps), plain)


class Growth:
    """A tree that grows: places for `branches` drafts below each of `width` nodes, in every level.

    Attributes:
        on_host: whether its values can be looked at on the way.
        alive: whether the next level is worth growing.
    """

    def __init__(
        self,
        growing: Growing,
        size: Size,
        candidates: Candidates,
        head: TorchHead | None = None,
        repeats: Repeats | None = None,
        *,
        on_host: bool,
    ) -> None:
        self.growing, self.size, self.candidates, self.head, self.repeats = growing, size, candidates, head, repeats
        self.device = candidates.ids.device
        self.on_host = on_host
        self.noise: torch.Tensor | None = None
        if not candidates.whole and growing.noisy is not False:  # of all levels at once
            depths = torch.arange(candidates.ids.shape[0], device=self.device)[:, None]
            self.noise = self._noise(growing.position + depths, candidates.ids)
        self.shares = growing.shares.clamp_max(1.0)
        # The nodes of the level above: their numbers, tokens, the tokens above them, and reaches.
        self.nodes = torch.full((1,), ROOT, dtype=torch.int64, device=self.device)
        self.last, self.second = growing.root, growing.before
        self.reach = torch.ones(1, dtype=torch.float64, device=self.device)
        self.alive = torch.ones((), dtype=torch.bool, device=self.device)
        self.layout = Layout(size.limit)
        # Of all levels: token, parent and reach of each place; how many places share a distribution; each distribution.
        self.tokens: list[torch.Tensor] = []
        self.parents: list[torch.Tensor] = []
        self.reaches: list[torch.Tensor] = []
        self.from_ids: list[torch.Tensor] = []
        self.from_log_p: list[torch.Tensor] = []

    def grow(self) -> None:
        """All levels; on a host those that are worth it."""
        for level in range(self.candidates.ids.shape[0]):
            self.level(level)
            if self.on_host and not bool(self.alive):
                break

    def level(self, level: int) -> None:
        """The best candidates below each node of the level above, then the nodes to branch from next."""
        growing, width, branches = self.growing, self.nodes.shape[0], self.size.branches
        ids, log_p, noise = self._distributions(level)
        if noise is None and not self.candidates.whole:  # they stand in this order already
            scores, tokens = log_p[:, :branches], ids[:, :branches]
        else:
            drawn = log_p if noise is None else log_p + noise
            if drawn.shape[1] > _SORTED:
                scores, order = drawn.topk(branches, dim=1)
            else:
                scores, order = drawn.sort(dim=1, descending=True, stable=True)
                scores, order = scores[:, :branches], order[:, :branches]
            tokens = ids.gather(1, order)
        weights = torch.exp((scores - scores[:, :1]) / growing.sibling_temperature)
        share = self.shares[level] / weights.sum(1) * self.reach
        reaches = share[:, None] * weights
        stands = (self.reach >= 0)[:, None] & (reaches >= growing.min_reach) & self.alive
        if growing.kept is not None:
            stands = stands & (torch.arange(branches, device=self.device) < growing.kept)
        if growing.cut is not None:
            stands = stands & (scores > -torch.inf)
        if growing.levels is not None:
            stands = stands & growing.levels[level]
        reaches = reaches.masked_fill(stands.logical_not(), MISSING).flatten()
        tokens = tokens.expand(width, -1).flatten()
        self.tokens.append(tokens)
        self.parents.append(self.nodes[:, None].expand(-1, branches).flatten())
        self.reaches.append(reaches)
        self.from_ids.append(ids)
        self.from_log_p.append(log_p)
        chosen = reaches.sort(descending=True, stable=True)
        slots = chosen.indices[: self.size.width]
        self.second = self.last.index_select(0, slots // branches)
        self.last, self.nodes = tokens.index_select(0, slots), slots + self.layout.places
        self.reach = chosen.values[: self.size.width]
        together = self.reach.clamp_min(0.0).sum()
        self.alive = self.alive & (self.reach[0] >= 0) & (together >= growing.min_level_reach)
        self.layout.add(width * branches, ids.shape[0])

    def _distributions(self, level: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Tokens, log probabilities and noise [width or 1, top_k] of the drafts below each node, likeliest first except
        where they are the whole vocabulary."""
        growing, given = self.growing, self.candidates
        ids, scores = given.ids[level : level + 1], given.values[level : level + 1]
        noise = None if self.noise is None else self.noise[level : level + 1]
        if self.head is not None:
            assert given.states is not None
            assert given.prepared is not None
            if level < given.plain:
                scores = scores.expand(self.last.shape[0], -1)
            else:
                state, prepared = given.states[level], given.prepared[level]
                scores = self.head.scores(state, prepared, self.last, ids[0]).to(self.device)
            if self.repeats is not None:
                scores = scores + self.repeats.gain(level, self.last, self.second)
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            scores, order = scores[:, : self.size.top_k], order[:, : self.size.top_k]
            ids = ids.expand(order.shape[0], -1).gather(1, order)
            noise = None if noise is None else noise.expand(order.shape[0], -1).gather(1, order)
        if growing.noisy is not False and noise is None:
            noise = self._noise(growing.position + level, ids)
        below = scores.double()
        scaled = (below - below.amax(1, keepdim=True)) / growing.temperature
        if growing.kept is not None:
            scaled = scaled.masked_fill(torch.arange(ids.shape[1], device=self.device) >= growing.kept, float("-inf"))
        if growing.cut is not None:
            scaled = scaled.masked_fill(beyond(scaled, nucleus.kept(scaled, growing.cut)), -torch.inf)
        return ids, torch.log_softmax(scaled, 1), noise

    def _noise(self, positions: torch.Tensor | int, ids: torch.Tensor) -> torch.Tensor:
        noise = gumbel(self.growing.noise, positions, ids)
        noisy = self.growing.noisy
        return noise if isinstance(noisy, bool) else torch.where(noisy, noise, 0.0)

    def best(self) -> list[torch.Tensor]:
        """The drafts by falling reach: equal ones by depth, then by their place in the level. See `Layout.read`."""
        ranked = torch.cat(self.reaches).sort(descending=True, stable=True)
        chosen = ranked.indices[: self.size.limit]
        return [
            chosen,
            torch.cat(self.tokens).index_select(0, chosen),
            torch.cat(self.parents).index_select(0, chosen),
            ranked.values[: self.size.limit],
            torch.cat(self.from_ids),
            torch.cat(self.from_log_p),
        ]


class Layout:
    """Which places a tree has: their depths and distributions follow from the shapes alone.

    Attributes:
        places: how many there are.
    """

    def __init__(self, limit: int) -> None:
        self.places, self._limit, self._distributions = 0, limit, 0
        self._depths: list[int] = []
        self._source: list[int] = []
        self._levels = 0
        self._table: npt.NDArray[np.int64] | None = None

    def add(self, places: int, distributions: int) -> None:
        """One level more, whose places share distributions evenly."""
        self._levels += 1
        self._depths += [self._levels] * places
        self._source += [self._distributions + slot * distributions // places for slot in range(places)]
        self.places += places
        self._distributions += distributions
        self._table = None

    def numbers(self, top_k: int) -> int:
        """Numbers of a record of `best`, for distributions of `top_k` tokens."""
        return 4 * min(self._limit, self.places) + 2 * self._distributions * top_k

    def read(self, record: Reader, top_k: int) -> GrownTree:
        """The tree of a record of `Growth.best`."""
        limit = min(self._limit, self.places)
        places, tokens, parents = (record.ints(limit) for _ in range(3))
        reaches = record.floats(limit)
        count = int(np.count_nonzero(reaches >= 0))
        places = places[:count]
        rank = np.empty(self.places + 1, dtype=np.int64)
        rank[ROOT] = ROOT  # the last one, which is no place
        rank[places] = np.arange(count)
        if self._table is None:
            self._table = np.array((self._depths, self._source), dtype=np.int64)
        depths, source = self._table[:, places].tolist()
        return GrownTree(
            tokens[:count].tolist(),
            rank[parents[:count]].tolist(),
            depths,
            reaches[:count].tolist(),
            source,
            record.ints(self._distributions, top_k),
            record.floats(self._distributions, top_k),
        )


@dataclass(frozen=True, slots=True)
class Bonus:
    """Logit bonuses of tokens that the text repeats; see `GrowRequest`."""

    seen: float
    after_one: float
    after_two: float
    recent: int

    @classmethod
    def of(cls, request: GrowRequest) -> Bonus:
        """Those of a request."""
        return cls(request.seen, request.after_one, request.after_two, request.recent)


class Repeats:
    """Bonuses of candidates that occurred recently, after the same token, or after the same two.

    Args:
        ids: [levels, C] candidates of each level, rising.
        text: the tokens so far [n], on the candidates' device; -1 where there was no text yet.
    """

    def __init__(self, ids: torch.Tensor, text: torch.Tensor, bonus: Bonus) -> None:
        self.bonus, self.text = bonus, text
        levels, self.none = ids.shape
        # Each token's place among the candidates of each level, or one beyond the last.
        everywhere = text.expand(levels, -1).contiguous()
        place = torch.searchsorted(ids, everywhere)
        there = ids.gather(1, place.clamp_max(self.none - 1)) == everywhere
        self.place = place.masked_fill_(there.logical_not(), self.none)
        self.seen = torch.zeros(levels, self.none + 1, device=ids.device)
        if bonus.recent:
            self.seen.scatter_(1, self.place[:, -bonus.recent :], bonus.seen)

    def gain(self, level: int, last: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """[nodes, C] what each candidate gains below nodes with these tokens and these above them [nodes]."""
        bonus, text, place = self.bonus, self.text, self.place[level]
        after_one = text[:-1] == last[:, None]
        after_two = after_one[:, 1:] & (text[:-2] == second[:, None])
        one, two = (torch.zeros(last.shape[0], self.none + 1, device=text.device) for _ in range(2))
        one.scatter_(1, torch.where(after_one, place[1:], self.none), bonus.after_one)
        two.scatter_(1, torch.where(after_two, place[2:], self.none), bonus.after_two)
        return (self.seen[level] + one + two)[:, : self.none]
