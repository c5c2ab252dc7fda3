"""Forward passes of few sizes over static buffers, each captured once: without launch overhead on CUDA.

Small models are bound by the host on GPUs: launching a pass's kernels takes longer than running them. A pass is padded
to a row bucket over a KV bucket (`buckets`), described by one small tensor (`inputs`), and replayed as one graph.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.models.placement import is_spread
from pass_core.progress import CancelToken, Progress, ProgressCallback
from pass_core.runtime.base import Cache
from pass_core.runtime.cuda_graphs.buckets import ROW_BUCKETS, row_bucket
from pass_core.runtime.cuda_graphs.cache import SlotCache, StaticCache
from pass_core.runtime.cuda_graphs.graphs import Captured, Graphs, Work
from pass_core.runtime.cuda_graphs.inputs import StaticInputs
from pass_core.runtime.cuda_graphs.linears import JoinedLinears
from pass_core.runtime.cuda_graphs.norms import FusedNorms
from pass_core.runtime.cuda_graphs.staging import Receiver
from pass_core.runtime.cuda_graphs.storage import Storage, StoragePool
from pass_core.runtime.cuda_graphs.tail import Tail, compact
from pass_core.runtime.grouped_attention import shared_keys
from pass_core.runtime.lookahead_parts import AfterProduct, LookaheadParts
from pass_core.runtime.rows import IntArray, Rows, chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime

# Largest relative difference of a row's hidden state from the eager call's: rounding, in another order, of all layers.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.08, torch.float16: 0.02}
_CHANGING_ROPE = frozenset({"dynamic", "longrope"})
log = logging.getLogger(__name__)

_Key = tuple[int, Storage, LookaheadParts | None, Tail | None]
_STAND_IN = chain_rows(np.ones(1, dtype=np.int64))


def unsupported_reason(model: LanguageModel) -> str:
    """Why this model's passes cannot be captured, "" when they can."""
    if not model.capabilities.supports_pass:
        return model.capabilities.reason
    if is_spread(model.model):
        return "it is spread over several devices"
    if model.capabilities.sliding_window is not None:
        return f"its layers see a window of {model.capabilities.sliding_window} tokens"
    kinds: Any = getattr(getattr(model.base, "rotary_emb", None), "rope_type", "")
    for kind in kinds.values() if isinstance(kinds, dict) else (kinds,):
        if kind in _CHANGING_ROPE:
            return f"its rotary embedding ({kind}) changes with the length"
    return ""


class CudaGraphRuntime(TorchRuntime):
    """`TorchRuntime` with passes of up to 64 rows captured; larger ones (prompts) are eager.

    A captured pass is compared with an eager one before it is used. If it differs or cannot be made, the runtime logs
    a warning, and all its later passes are eager.

    Attributes:
        on_capture: gets a description of each capture before it is made.
    """

    def __init__(self, model: LanguageModel, graphs: Graphs) -> None:
        super().__init__(model)
        self._graphs = graphs
        self._norms = FusedNorms(model)
        self._linears = JoinedLinears(model)
        self._pool = StoragePool(len(self._layers))
        self._inputs: dict[tuple[int, Tail | None], StaticInputs] = {}
        self._states: dict[int, torch.Tensor] = {}
        self._receiver = Receiver()
        self._columns: dict[int, torch.Tensor] = {}
        self._captured: dict[_Key, Captured] = {}
        self._placed: dict[tuple[Any, ...], tuple[LookaheadParts, LookaheadEmbeddings]] = {}
        self._trouble = ""
        self.on_capture: Callable[[str], None] | None = None

    @property
    def description(self) -> str:
        if self._trouble:
            return f"{super().description}, {self._graphs.name} off"
        return f"{self._graphs.name}, {self._words}"

    @property
    def trouble(self) -> str:
        """Why passes are eager after all, "" while they are not."""
        return self._trouble

    def new_cache(self, capacity: int) -> StaticCache:
        return StaticCache(self._pool, len(self._layers), capacity)

    @property
    def row_buckets(self) -> tuple[int, ...]:
        return ROW_BUCKETS

    def warm_up(self, on_progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """Capture the passes of a short text without look-ahead rows, unless they are captured already."""
        most = self.model.capabilities.context_length
        cache = self.new_cache(most)
        self.on_capture = (
            None if on_progress is None else lambda what: on_progress(Progress(f"Capturing calls ({what})", 0))
        )
        try:
            for size in (1, *self.row_buckets):
                if cancel is not None:
                    cancel.raise_if_cancelled()
                if size <= most:
                    self.forward(cache, chain_rows(np.zeros(size, dtype=np.int64)))
        finally:
            self.on_capture = None

    def _place(self, lookahead: LookaheadEmbeddings) -> LookaheadParts:
        # Files of the same structure share tensors, and with them everything captured.
        structure = LookaheadParts.structure(lookahead)
        parts, loaded = self._placed.get(structure, (None, None))
        if parts is None:
            parts = super()._place(lookahead)
        elif loaded is not lookahead:
            parts.load(lookahead)
        self._placed[structure] = (parts, lookahead)
        return parts

    def forward(self, cache: Cache, rows: Rows) -> torch.Tensor:
        cache = cast(StaticCache, cache)
        cache.reserve(rows.count)
        size = row_bucket(rows.count)
        if self._trouble or size is None or cache.storage is None:
            return super().forward(cache, rows)
        parts = self._parts_for(rows)
        inputs = self._inputs_of(size, None)
        inputs.fill(rows, cache.length, cache.storage.scratch)
        captured = self._captured.get((size, cache.storage, parts, None))
        if captured is None:
            return self._first(cache, rows, inputs, parts)
        return self._replay(captured, rows.count)

    def forward_and(
        self, cache: Cache, rows: Rows, tail: Tail, numbers: IntArray
    ) -> tuple[torch.Tensor, IntArray] | None:
        """A pass, what follows it, and the cache's entries moved together, in one graph; the host waits once.

        The cache's length does not change: commit as many rows as stay, from the first on.

        Args:
            numbers: what the tail reads.

        Returns:
            Hidden states [n, hidden], valid until the next pass, and the record. None where such passes are eager;
            then nothing has happened.
        """
        cache = cast(StaticCache, cache)
        cache.reserve(rows.count)
        size = row_bucket(rows.count)
        if self._trouble or size is None or cache.storage is None:
            return None
        parts = self._parts_for(rows)
        inputs = self._inputs_of(size, tail)
        captured = self._captured.get((size, cache.storage, parts, tail))
        if captured is None:
            captured = self._first_followed(cache, rows, inputs, parts, tail, numbers)
            if captured is None:
                return None
        inputs.fill(rows, cache.length, cache.storage.scratch, numbers)
        record = self._receiver.receive(captured.replay())
        return self._states[size][: rows.count], record

    def _inputs_of(self, size: int, tail: Tail | None) -> StaticInputs:
        if (size, tail) not in self._inputs:
            more = 0 if tail is None else tail.numbers(size)
            self._inputs[size, tail] = StaticInputs(size, self._device, more)
        return self._inputs[size, tail]

    @torch.inference_mode()
    def _replay(self, captured: Captured, count: int) -> torch.Tensor:
        # A copy: the next replay of any graph may write over the result.
        return captured.replay()[:count].clone()

    def _first(
        self, cache: StaticCache, rows: Rows, inputs: StaticInputs, parts: LookaheadParts | None
    ) -> torch.Tensor:
        """Capture this kind of pass, compare it with an eager one, and return the eager result."""
        storage = cache.storage
        assert storage is not None
        what = self._announced(inputs, storage, parts)
        got: torch.Tensor | None = None
        try:
            with torch.inference_mode():
                # Captured with other inputs than those compared, into a result that holds no numbers: a value that the
                # capture froze or left out shows.
                inputs.fill(_STAND_IN, cache.length, storage.scratch)
                captured = self._graphs.capture(self._work(inputs, storage, parts))
                inputs.fill(rows, cache.length, storage.scratch)
                if captured.result is not None:
                    captured.result.fill_(torch.nan)
            got = self._replay(captured, rows.count)
            self._captured[inputs.size, storage, parts, None] = captured
        except Exception as error:  # of a driver, torch or a model's code: eager passes need none of it
            self._give_up(f"{what}: {type(error).__name__}: {error}")
        expected = super().forward(cache, rows)
        if got is not None:
            difference = _difference(got, expected)
            if not difference <= _TOLERANCE.get(self._dtype, 1e-3):
                self._give_up(f"{what}: differs from an eager call by {difference:.2g} of a hidden state")
        return expected

    def _first_followed(
        self,
        cache: StaticCache,
        rows: Rows,
        inputs: StaticInputs,
        parts: LookaheadParts | None,
        tail: Tail,
        numbers: IntArray,
    ) -> Captured | None:
        """Capture a pass with what follows it, once a replay gave the states of an eager pass, and the record that the
        tail gives outside of a graph; None where it did not."""
        storage = cache.storage
        assert storage is not None
        what = f"{self._announced(inputs, storage, parts)}, whole step"
        size, count = inputs.size, rows.count
        if size not in self._states:
            self._states[size] = torch.zeros(size, self.model.hidden_size, dtype=self._dtype, device=self._device)
        states = self._states[size]
        expected = super().forward(cache, rows)
        try:
            with torch.inference_mode():
                inputs.fill(_STAND_IN, cache.length, storage.scratch, np.zeros_like(numbers))
                captured = self._graphs.capture(self._followed_work(inputs, storage, parts, tail, states))
                inputs.fill(rows, cache.length, storage.scratch, numbers)
                states.fill_(torch.nan)
                if captured.result is not None:
                    captured.result.fill_(-1)
                record = captured.replay().clone()
                difference = _difference(states[:count], expected)
                same = torch.equal(record, tail.follow(states, inputs).record)
        except Exception as error:  # as above
            self._give_up(f"{what}: {type(error).__name__}: {error}")
            return None
        if not difference <= _TOLERANCE.get(self._dtype, 1e-3):
            self._give_up(f"{what}: differs from an eager call by {difference:.2g} of a hidden state")
        elif not same:
            self._give_up(f"{what}: differs from what follows an eager call")
        else:
            self._captured[size, storage, parts, tail] = captured
            return captured
        return None

    def _announced(self, inputs: StaticInputs, storage: Storage, parts: LookaheadParts | None) -> str:
        """What is captured now, in words; whoever wants to know is told."""
        rows = "1 row" if inputs.size == 1 else f"{inputs.size} rows"
        what = f"{rows}{' with look-ahead' if parts else ''}, {storage.slots} slots"
        if self.on_capture is not None:
            self.on_capture(what)
        return what

    def _give_up(self, reason: str) -> None:
        log.warning("%s are off, calls are eager from now on (%s)", self._graphs.name, reason)
        self._trouble = reason
        self._captured.clear()

    def _work(self, inputs: StaticInputs, storage: Storage, parts: LookaheadParts | None) -> Work:
        """The pass as operations on tensors that stay in place; returns hidden states [size, hidden]."""
        if storage.slots not in self._columns:
            self._columns[storage.slots] = torch.arange(storage.slots, device=self._device)
        columns = self._columns[storage.slots]
        slots = SlotCache(storage, inputs.slots)

        def work() -> torch.Tensor:
            with torch.inference_mode(), contextlib.ExitStack() as inside:
                states = self.model.input_embedding(inputs.tokens)
                after: dict[int, AfterProduct] = {}
                if parts is not None:
                    steps, is_lookahead = inputs.lookahead()
                    states = torch.where(is_lookahead, parts.embeddings.index_select(0, steps), states)
                    if parts.any_inside:
                        after = inside.enter_context(parts.masked(steps, is_lookahead, self._linears))
                inside.enter_context(self._linears.active(after))
                inside.enter_context(shared_keys(self.model))
                inside.enter_context(self._norms.active())
                out = self._base(
                    inputs_embeds=states[None],
                    attention_mask=inputs.mask(columns, self._dtype),
                    position_ids=inputs.positions[None],
                    **{self._cache_name: slots},
                    use_cache=True,
                )
                return out.last_hidden_state[0]

        return work

    def _followed_work(
        self,
        inputs: StaticInputs,
        storage: Storage,
        parts: LookaheadParts | None,
        tail: Tail,
        states: torch.Tensor,
    ) -> Work:
        """The pass and all that follows it; returns the record."""
        forward = self._work(inputs, storage, parts)

        def work() -> torch.Tensor:
            with torch.inference_mode():
                states.copy_(forward())
                followed = tail.follow(states, inputs)
                compact(storage.tensor, followed, inputs.committed, storage.scratch)
            return followed.record

        return work


def _difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest over rows of |got - expected| / |expected|; NaN where anything is not finite."""
    got, expected = got.float(), expected.float()
    return float(((got - expected).norm(dim=1) / expected.norm(dim=1)).max())
