"""The operations in torch, on any device: the readable specification, and what runs where there is no compiled library.

Shapes depend on settings alone, never on values; nothing is read back before an operation's one record. On a CPU, where
reading costs nothing, loops over levels end early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from pass_core.kernels.device_steps import DeviceSteps
from pass_core.kernels.growth import Bonus, Candidates, Growing, Growth, Repeats, Size
from pass_core.kernels.heads import KeptHeads, TorchBigramHead, TorchHead, TorchSamplerHead
from pass_core.kernels.interface import (
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
from pass_core.kernels.record import Reader, pack
from pass_core.kernels.reference_plan import search
from pass_core.kernels.walk import Rows, Sampling, walk
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import SamplerWeights
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Shortlist
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.sampling import nucleus, top

Plan = Callable[[PlanRequest], CallPlan]


class ReferenceKernels:
    """See `pass_core.kernels.interface.Kernels`.

    Args:
        model: whose embeddings draft heads read; None where there are no heads.
        operands: what heads round the factors of products to; the model's dtype by default.
        plan: searches shapes of passes; by default Python does.
    """

    def __init__(
        self, model: LanguageModel | None = None, operands: torch.dtype | None = None, plan: Plan = search
    ) -> None:
        self._plan = plan
        self._model, self._operands = model, operands
        self._heads = KeptHeads[TorchSamplerHead]()
        self._bigrams = KeptHeads[TorchBigramHead]()
        self._device_steps: DeviceSteps | None = None

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
        return self._bigrams.get(bigrams, lambda: TorchBigramHead(bigrams, self._with_heads, self._operands))

    def device_steps(self, runtime: CudaGraphRuntime) -> DeviceSteps:
        """Whole steps in the graphs of a runtime."""
        if self._device_steps is None or self._device_steps.runtime is not runtime:
            self._device_steps = DeviceSteps(self._with_heads, runtime)
        return self._device_steps

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
        found = _read(ids, values.double())
        return found.ints(*ids.shape), found.floats(*ids.shape).astype(np.float32)

    @torch.inference_mode()
    def sample_path(
        self, logits: torch.Tensor, request: WalkRequest, tokens: Sequence[int] = (), parents: Sequence[int] = ()
    ) -> SampledPath:
        logits = _workable(logits[: len(tokens) + 1])
        top_k = request.top_k if request.top_k < logits.shape[1] or nucleus.is_on(request) else 0
        top_k = min(top_k, logits.shape[1])
        if logits.device.type == "cpu" or not top_k:
            return _walk_by_rows(logits, request, top_k, tokens, parents)
        depths = _depths(parents)
        host = np.array([[0, *tokens], [0, *(parent + 1 for parent in parents)], depths], dtype=np.int64)
        drafted, above, below = torch.from_numpy(host).to(logits.device)
        rows = Rows(drafted, above, below, torch.arange(len(depths), device=logits.device) > 0)
        found = walk(logits, rows, Sampling.of(request), request.position, top_k, int(depths.max()))
        record = _read(found.met.long(), found.samples, found.kept, found.ids, found.values.double())
        count, width = found.ids.shape
        met = np.flatnonzero(record.ints(count))
        samples, kept = record.ints(count)[met].tolist(), record.ints(count)[met].tolist()
        largest, logit = record.ints(count, width)[met], record.floats(count, width)[met]
        return SampledPath(met.tolist(), samples, largest, logit.astype(np.float32), kept)

    @torch.inference_mode()
    def grow_tree(
        self, rows: DraftRows, request: GrowRequest, head: DraftHead | None = None, text: IntArray | None = None
    ) -> GrownTree:
        fitted = cast(TorchHead | None, head)
        logits = _workable(rows.logits)
        device = logits.device
        at = torch.tensor(list(rows.at), dtype=torch.int64, device=device)
        plain = logits.index_select(0, at)
        vocabulary = plain.shape[1]
        whole = fitted is None and not 0 < request.top_k < vocabulary and not nucleus.is_on(request)
        if whole:
            ids = torch.arange(vocabulary, device=device).expand(plain.shape[0], -1)
            candidates = Candidates(ids, plain, whole=True)
        else:
            candidates = Candidates(*top.top_k(plain, min(request.candidates, vocabulary)))
        if rows.tokens is not None:
            candidates = candidates.among(torch.as_tensor(rows.tokens, device=device))
        if fitted is not None:
            states = rows.hidden.index_select(0, at.to(rows.hidden.device))
            steps = torch.tensor(list(rows.steps), dtype=torch.int64, device=device)
            candidates = Candidates.fitted(candidates.ids, candidates.values, states, steps, fitted, rows.plain)
        top_k = min(request.top_k or vocabulary, candidates.ids.shape[1])
        repeats = None
        if text is not None and fitted is not None:
            repeats = Repeats(candidates.ids, torch.from_numpy(text.copy()).to(device), Bonus.of(request))
        size = Size(top_k, min(request.branches, top_k), request.width, request.limit)
        growth = Growth(Growing.of(request, device), size, candidates, fitted, repeats, on_host=device.type == "cpu")
        growth.grow()
        return growth.layout.read(_read(*growth.best()), top_k)

    def plan_call(self, request: PlanRequest) -> CallPlan:
        return self._plan(request)


def _workable(tensor: torch.Tensor) -> torch.Tensor:
    """Where float64 exists: MPS has none, there the operations run on the CPU."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def _read(*parts: torch.Tensor) -> Reader:
    """The parts on the host, in one copy."""
    return Reader(pack(parts).cpu().numpy())


def _depths(parents: Sequence[int]) -> IntArray:
    """[drafts + 1] of the root and of each draft, whose parents come first."""
    depths = [0]
    for parent in parents:
        depths.append(depths[parent + 1] + 1)
    return np.array(depths, dtype=np.int64)


def _walk_by_rows(
    logits: torch.Tensor, request: WalkRequest, top_k: int, tokens: Sequence[int], parents: Sequence[int]
) -> SampledPath:
    """The walk row by row: where the whole vocabulary can be sampled (`top_k` 0), which is too much to be done for rows
    that it may not meet, and where it can be seen on the way that it ends."""
    device, levels, sampling = logits.device, int(_depths(parents).max()), Sampling.of(request)
    drafted = torch.tensor(list(tokens), dtype=torch.int64, device=device)
    above = torch.tensor(list(parents), dtype=torch.int64, device=device)
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
        scores, left = sampling.scores(row, ids, request.position + level)
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
    count, width = len(met), top_k
    empty = logits.new_empty((count, 0))
    found = _read(
        torch.cat(met),
        torch.cat(samples),
        torch.cat(counts),
        torch.cat(tops) if top_k else empty.long(),
        torch.cat(values).double() if top_k else empty.double(),
    )
    rows, sampled, left = (found.ints(count).tolist() for _ in range(3))
    kept = sum(row >= 0 for row in rows)
    ids, logit = found.ints(count, width)[:kept], found.floats(count, width)[:kept].astype(np.float32)
    return SampledPath(rows[:kept], sampled[:kept], ids, logit, left[:kept])
