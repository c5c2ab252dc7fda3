"""A whole step on the device: the walk through the drafts of a pass, and the tree that the next pass verifies.

A captured graph holds it behind the pass (`pass_core.runtime.cuda_graphs.tail`). All that changes from step to step
(tokens, tree, settings, seed, text) comes with the pass's inputs, in one copy, and one record goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch

from pass_core.kernels.growth import Bonus, Candidates, Growing, Growth, Layout, Repeats, Size
from pass_core.kernels.heads import TorchHead, TorchSamplerHead
from pass_core.kernels.interface import DraftHead, GrownTree, GrowRequest, IntArray, SampledPath, WalkRequest
from pass_core.kernels.noise import signed
from pass_core.kernels.record import Reader, pack
from pass_core.kernels.walk import Rows, Sampling, walk
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Shortlist
from pass_core.runtime.cuda_graphs.inputs import StaticInputs
from pass_core.runtime.cuda_graphs.tail import Followed
from pass_core.sampling import top

WIDTHS = (16, 64, 200)
"""How many of the largest logits a graph selects: the smallest that holds top-k."""

_NOISE, _TOP_K, _REMAINING, _DEPTH, _DRAFT_TOP_K, _NOISY, _TEMPERATURE, _DRAFT_TEMPERATURE = range(8)
_SIBLING_TEMPERATURE, _MIN_REACH, _MIN_LEVEL_REACH, _DRAFT_NOISE = range(8, 12)
_SCALARS = 12


@dataclass(frozen=True, slots=True)
class Source:
    """What the next tree is drafted from: look-ahead rows of the pass, or a state head.

    Attributes:
        depth: levels of a tree.
        candidates: tokens of a level that are chosen from; None for as many as can be sampled.
        head: scores drafts by the token before them.
        guess: of a state head, its first layer; None for look-ahead rows.
        shortlist: of a state head, what reads the logits of the tokens that it drafts; None for look-ahead rows.
        plain: how many of the first depths the head leaves as they are.
        bonus: of tokens that the text repeats; None without it.
        text: tokens of the text that the bonus looks at.
        branches, width, limit: of the request.
        tokens: [n] that `shortlist` reads the logits of, rising.
    """

    depth: int
    candidates: int | None
    head: DraftHead | None
    guess: DraftHead | None
    shortlist: Shortlist | None
    plain: int
    bonus: Bonus | None
    text: int
    branches: int
    width: int
    limit: int
    tokens: IntArray | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NextTree:
    """How the next tree grows.

    Attributes:
        request: its position, root and the token before are not read: the walk decides them.
        depth: levels at most.
        remaining: tokens that may still be emitted, those of this step among them.
        text: the tokens so far, the root last; None where there is no bonus.
    """

    request: GrowRequest
    depth: int
    remaining: int
    text: IntArray | None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a step on the device gave.

    Attributes:
        path: of the walk; its rows are rows of the pass.
        tree: the next tree, None where none was grown.
        steps: 0-based step of its drafts of depth 1, 2, .. in their head.
    """

    path: SampledPath
    tree: GrownTree | None
    steps: list[int]


class DeviceStep:
    """The operations of one kind of step; `Tail` of a captured pass.

    Args:
        levels: how deep the drafts of the pass can be.
        width: largest logits of each row that are selected.
        source: of the next tree; None grows none.
    """

    def __init__(self, model: LanguageModel, levels: int, width: int, source: Source | None) -> None:
        self._model, self._levels, self._source = model, levels, source
        self._width = min(width, model.vocabulary_size)
        self._tokens: torch.Tensor | None = None
        if source is not None and source.tokens is not None:
            self._tokens = torch.as_tensor(source.tokens, device=model.device)
        self._layout: Layout | None = None
        self._top_k = 0
        self._shares = _SCALARS
        self._text = self._shares + (0 if source is None else source.depth)
        self._rows = self._text + (0 if source is None or source.bonus is None else source.text)

    def numbers(self, size: int) -> int:
        return self._rows + 4 * size

    def fill(
        self, size: int, parents: IntArray, drafts: int, chains: IntArray, walked: WalkRequest, grown: NextTree | None
    ) -> IntArray:
        """The numbers of a step on a pass that is padded to `size` rows.

        Args:
            parents: [n] row above each row of the pass, -1 for the root; the drafts follow the root.
            drafts: how many there are.
            chains: [drafts + 1] look-ahead rows below the root and each draft; they follow the drafts in this order.
            walked: its position is not read: it is that of the pass.
        """
        numbers = np.zeros(self.numbers(size), dtype=np.int64)
        real = numbers.view(np.float64)
        numbers[_NOISE], numbers[_TOP_K], real[_TEMPERATURE] = signed(walked.noise), walked.top_k, walked.temperature
        if grown is not None:
            request = grown.request
            numbers[_REMAINING], numbers[_DEPTH] = grown.remaining, grown.depth
            numbers[_DRAFT_NOISE], numbers[_DRAFT_TOP_K], numbers[_NOISY] = (
                signed(request.noise),
                request.top_k,
                request.noisy,
            )
            real[_DRAFT_TEMPERATURE], real[_SIBLING_TEMPERATURE] = request.temperature, request.sibling_temperature
            real[_MIN_REACH], real[_MIN_LEVEL_REACH] = request.min_reach, request.min_level_reach
            real[self._shares : self._shares + len(request.shares)] = request.shares
            if grown.text is not None:
                text = numbers[self._text : self._rows]
                text[:] = -1
                text[text.size - grown.text.size :] = grown.text
        above, drafted, start, length = numbers[self._rows :].reshape(4, size)
        above[: parents.size] = np.maximum(parents, 0)
        drafted[1 : 1 + drafts] = 1
        length[: chains.size] = chains
        start[: chains.size] = 1 + drafts + np.cumsum(chains) - chains
        return numbers

    def follow(self, hidden: torch.Tensor, inputs: StaticInputs) -> Followed:
        numbers = inputs.more
        real = numbers.view(torch.float64)
        above, drafted, start, length = numbers[self._rows :].view(4, inputs.size)
        depths = (inputs.positions - inputs.committed).clamp_min(0)
        rows = Rows(inputs.tokens, above, depths, drafted == 1)
        logits = self._model.logits(hidden)
        sampling = Sampling(numbers[_NOISE], real[_TEMPERATURE], numbers[_TOP_K])
        position = inputs.committed + 1
        found = walk(logits, rows, sampling, position, self._width, self._levels)
        # The rows that the walk met, by their depth.
        levels = torch.arange(self._levels + 1, device=hidden.device)
        there = found.met & (depths == levels[:, None])
        kept, path = there.any(1), there.long().argmax(1)
        samples = found.samples.index_select(0, path)
        parts = [
            torch.where(kept, path, -1),
            samples,
            found.ids.index_select(0, path),
            found.values.index_select(0, path).double(),
        ]
        if self._source is not None:
            walked = _Walked(kept.sum().reshape(1), path, samples)
            parts += self._grow(self._source, walked, hidden, logits, inputs, start, length)
        return Followed(pack(parts), path, kept)

    def _grow(
        self,
        source: Source,
        walked: _Walked,
        hidden: torch.Tensor,
        logits: torch.Tensor,
        inputs: StaticInputs,
        start: torch.Tensor,
        length: torch.Tensor,
    ) -> list[torch.Tensor]:
        """The parts of the record that hold the next tree: the steps of its depths (-1: none), then `Growth.best`."""
        numbers = inputs.more
        real = numbers.view(torch.float64)
        last = walked.count - 1  # how many drafts are accepted
        stop, root = walked.path.gather(0, last), walked.samples.gather(0, last)
        levels = torch.arange(source.depth, device=hidden.device)
        most = torch.minimum(numbers[_DEPTH], numbers[_REMAINING] - walked.count - 1)
        if source.guess is not None and source.shortlist is not None:
            guess = cast(TorchSamplerHead, source.guess)
            states = guess.guess(hidden.index_select(0, stop)[0], root, source.depth)
            plain = source.shortlist(states)
            steps, grows = levels, levels < most
        else:
            at, steps, found = chain_below(walked.path, last, start, length, source.depth)
            states, plain = hidden.index_select(0, at), logits.index_select(0, at)
            grows = found & (levels < most)
        width = min(self._width if source.candidates is None else source.candidates, plain.shape[1])
        candidates = Candidates(*top.top_k(plain, width))
        if self._tokens is not None:
            candidates = candidates.among(self._tokens)
        head = cast(TorchHead | None, source.head)
        if head is not None:
            candidates = Candidates.fitted(candidates.ids, candidates.values, states, steps, head, source.plain)
        repeats = None
        if source.bonus is not None and head is not None:
            repeats = Repeats(candidates.ids, self._continued(walked, inputs), source.bonus)
        growing = Growing(
            root,
            inputs.tokens.gather(0, stop),
            numbers[_DRAFT_NOISE],
            inputs.committed + 1 + walked.count,
            real[_DRAFT_TEMPERATURE],
            real[_SIBLING_TEMPERATURE],
            real[_MIN_REACH],
            real[_MIN_LEVEL_REACH],
            numbers[_NOISY] == 1,
            real[self._shares : self._text],
            numbers[_DRAFT_TOP_K],
            grows,
        )
        top_k = min(self._width, candidates.ids.shape[1])
        size = Size(top_k, min(source.branches, top_k), source.width, source.limit)
        growth = Growth(growing, size, candidates, head, repeats, on_host=False)
        growth.grow()
        self._layout, self._top_k = growth.layout, top_k
        return [torch.where(grows, steps, -1), *growth.best()]

    def _continued(self, walked: _Walked, inputs: StaticInputs) -> torch.Tensor:
        """The text with the tokens of this step at its end, as many tokens of it as before."""
        text = inputs.more[self._text : self._rows]
        places = torch.arange(text.shape[0], device=text.device) + walked.count
        return torch.cat((text, walked.samples)).index_select(0, places)

    def read(self, record: IntArray, walked: WalkRequest, grown: NextTree | None) -> StepRecord:
        """What a record says, given what it was made for."""
        reader = Reader(record)
        count = self._levels + 1
        rows, samples = reader.ints(count), reader.ints(count)
        ids, values = reader.ints(count, self._width), reader.floats(count, self._width)
        kept = int((rows >= 0).sum())
        ids, values = ids[:kept, : walked.top_k], values[:kept, : walked.top_k]
        left = [min(walked.top_k, self._width)] * kept
        path = SampledPath(rows[:kept].tolist(), samples[:kept].tolist(), ids, values.astype(np.float32), left)
        if self._source is None or grown is None or self._layout is None:
            return StepRecord(path, None, [])
        steps = reader.ints(self._source.depth)
        tree = self._layout.read(reader, self._top_k)
        top_k = min(grown.request.top_k, self._top_k)
        tree = replace(tree, ids=tree.ids[:, :top_k], log_p=tree.log_p[:, :top_k])
        return StepRecord(path, tree, steps[steps >= 0].tolist())


@dataclass(frozen=True, slots=True)
class _Walked:
    """Where the walk went: [1] how many rows it met, the rows [levels], and the token sampled at each [levels]."""

    count: torch.Tensor
    path: torch.Tensor
    samples: torch.Tensor


def chain_below(
    path: torch.Tensor, last: torch.Tensor, start: torch.Tensor, length: torch.Tensor, depth: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The look-ahead rows that draft depth 1, 2, .. below the row where the walk stopped: its own chain's, and where
    that is too short, LA_{d+1} of the row above guesses the same token as LA_d of it, and so on.

    Args:
        path: [levels] rows that the walk met, up to place `last` [1].
        start, length: [n] first row and length of each row's chain.

    Returns:
        [depth] each: the row, its 0-based step, and whether there is one (0 and 0 where not).
    """
    up = last - torch.arange(path.shape[0], device=path.device)  # how far above the last row
    step = torch.arange(depth, device=path.device)[:, None] + up
    fits = (up >= 0) & (step < length.index_select(0, path))
    # The nearest one: the last that fits.
    nearest = (fits.long() * (1 + torch.arange(path.shape[0], device=path.device))).argmax(1)
    found = fits.any(1).long().cumprod(0).bool()
    steps = torch.where(found, step.gather(1, nearest[:, None])[:, 0], 0)
    at = torch.where(found, start.index_select(0, path.index_select(0, nearest)) + steps, 0)
    return at, steps, found
