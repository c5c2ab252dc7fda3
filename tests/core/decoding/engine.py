"""Running the engine in tests: one call for a generation, random look-ahead files, and two runtimes that are fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pass_core.decoding.events import StepEvent, StopReason
from pass_core.decoding.summary import Summary, summarize
from pass_core.evaluation.baselines.transformers_generate import TransformersDecoder
from pass_core.lookahead.bigrams import Bigrams
from pass_core.lookahead.embeddings import AdapterWeights, LookaheadEmbeddings, SamplerWeights, StateHeadWeights
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Shortlist
from pass_core.runtime.rows import Rows, chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.settings import (
    Baseline,
    BaselineSettings,
    DecodingSettings,
    LookaheadPart,
    Method,
    SamplingSettings,
    StopConditions,
    Strategy,
)
from tests.engines import engine_of

ALL_PARTS = frozenset({LookaheadPart.DEEP, LookaheadPart.ADAPTER, LookaheadPart.SAMPLER})
EVERY_PART = ALL_PARTS | {LookaheadPart.STATE}
"""What a look-ahead file can hold besides its embeddings."""


@dataclass(frozen=True)
class Result:
    """A finished generation."""

    steps: list[StepEvent]

    @property
    def ids(self) -> list[int]:
        return [t.id for s in self.steps for t in s.tokens]

    @property
    def text(self) -> str:
        return "".join(t.text for s in self.steps for t in s.tokens)

    @property
    def provenance(self) -> list[str]:
        return [t.provenance.value for s in self.steps for t in s.tokens]

    @property
    def summary(self) -> Summary:
        return summarize(self.steps)

    @property
    def stop_reason(self) -> StopReason | None:
        return self.steps[-1].stop_reason


def run(
    model: LanguageModel,
    prompt: str | Sequence[int] = (1, 2, 3, 4),
    strategy: Method = Strategy.AUTOREGRESSIVE,
    *,
    count: int = 24,
    seed: int = 0,
    temperature: float = 0.8,
    top_k: int = 10,
    top_p: float = 1.0,
    min_p: float = 0.0,
    lookahead: LookaheadEmbeddings | None = None,
    stop: StopConditions | None = None,
    cancelled: Callable[[], bool] | None = None,
    rule: Any = None,
    auto: bool = False,
    **settings: Any,
) -> Result:
    """One generation with fixed settings, to its end."""
    sampling = SamplingSettings(temperature, top_k, top_p, min_p)
    if isinstance(strategy, Baseline):
        others = TransformersDecoder(engine_of(model), BaselineSettings(strategy, sampling=sampling, **settings))
        return Result(list(others.decode(prompt, stop=stop or StopConditions(count), seed=seed, cancelled=cancelled)))
    chosen = DecodingSettings(strategy, sampling=sampling, auto=auto, **settings)
    steps = engine_of(model).decode(
        prompt,
        chosen,
        lookahead=lookahead,
        stop=stop or StopConditions(count),
        seed=seed,
        cancelled=cancelled,
        rule=rule,
    )
    return Result(list(steps))


def random_lookahead(
    model: LanguageModel, count: int = 4, parts: frozenset[LookaheadPart] = frozenset(), seed: int = 0
) -> LookaheadEmbeddings:
    """Look-ahead embeddings of random weights, with random deep vectors, adapters and heads where asked."""
    generator = torch.Generator().manual_seed(seed)
    hidden = model.hidden_size

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    adapters: dict[str, AdapterWeights] = {}
    if LookaheadPart.ADAPTER in parts:
        for name, module in model.linears().items():
            inputs, outputs = module.weight.shape if type(module).__name__ == "Conv1D" else module.weight.T.shape
            adapters[name] = AdapterWeights(normal(3, inputs) * inputs**-0.5, normal(outputs, 3))
    sampler = None
    if LookaheadPart.SAMPLER in parts:
        sampler = SamplerWeights(normal(12, 2 * hidden) * hidden**-0.5, normal(count, 12), normal(hidden, 12))
    state = None
    if LookaheadPart.STATE in parts:
        guess, fit = (
            SamplerWeights(normal(inner, 2 * hidden) * hidden**-0.5, normal(count, inner), normal(hidden, inner))
            for inner in (16, 32)
        )
        state = StateHeadWeights(guess, fit, torch.arange(0, model.vocabulary_size, 2))
    return LookaheadEmbeddings(
        embeddings=normal(count, hidden),
        deep=normal(len(model.layers), count, hidden) if LookaheadPart.DEEP in parts else None,
        adapters=adapters,
        sampler=sampler,
        state=state,
    )


def random_bigrams(model: LanguageModel, known: int, seed: int = 0) -> Bigrams:
    """Random vectors for the first `known` tokens."""
    return Bigrams(torch.randn(known, model.hidden_size, generator=torch.Generator().manual_seed(seed)).bfloat16())


class TokenCache:
    """A cache that remembers token ids instead of keys and values."""

    def __init__(self, capacity: int, tokens: tuple[int, ...] = ()) -> None:
        self.capacity = capacity
        self.tokens = tokens
        self.pending: tuple[int, ...] = ()
        self.high_water = 0

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def nbytes(self) -> int:
        return 0

    def hold(self, rows: Rows) -> None:
        """Note a call's rows.

        Raises:
            AssertionError: they do not fit.
        """
        self.pending = tuple(rows.tokens.tolist())
        self.high_water = max(self.high_water, self.length + rows.count)
        assert self.high_water <= self.capacity, f"{rows.count} rows after {self.length} of {self.capacity}"

    def commit(self, rows: Sequence[int]) -> None:
        kept = tuple(self.pending[i] for i in rows)
        assert -1 not in kept, "a look-ahead row was committed"
        self.tokens += kept
        self.pending = ()

    def truncate(self, length: int) -> None:
        self.tokens = self.tokens[:length]


class MemoRuntime:
    """The real runtime, asked only once for each different call: thousands of short runs of a tiny model in seconds.

    Each new call is computed from an empty cache: committed tokens first, then the rows.

    Args:
        columns: of the logits; impossible tokens follow the model's own. The library's kernels want so many.
    """

    description = "memorised"

    def __init__(self, model: LanguageModel, columns: int) -> None:
        self._inner = TorchRuntime(model)
        self._more = (0, columns - model.vocabulary_size)
        self._known: dict[tuple[Any, ...], torch.Tensor] = {}
        self._logits: dict[bytes, torch.Tensor] = {}

    def new_cache(self, capacity: int) -> TokenCache:
        return TokenCache(capacity)

    def use_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        self._inner.use_lookahead(lookahead)

    def forward(self, cache: TokenCache, rows: Rows) -> torch.Tensor:
        cache.hold(rows)
        key = (cache.tokens, rows.tokens.tobytes(), rows.lookahead.tobytes(), rows.parents.tobytes())
        hidden = self._known.get(key)
        if hidden is None:
            real = self._inner.new_cache(cache.length + rows.count)
            if cache.tokens:
                self._inner.forward(real, chain_rows(np.array(cache.tokens)))
                real.commit(range(cache.length))
            hidden = self._known[key] = self._inner.forward(real, rows)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        key = hidden.contiguous().numpy().tobytes()
        if key not in self._logits:
            self._logits[key] = torch.nn.functional.pad(self._inner.logits(hidden), self._more, value=-1e30)
        return self._logits[key]

    def shortlist(self, ids: torch.Tensor) -> Shortlist:
        return lambda hidden: self.logits(hidden)[:, ids]

    def synchronize(self) -> None:
        return None


Target = Callable[[tuple[int, ...]], np.ndarray]
Guess = Callable[[tuple[int, ...], int], np.ndarray]


class TableRuntime:
    """A runtime without a model: what a row predicts is given by functions of its whole context.

    Args:
        target: context (prompt, text and the row's ancestors, its own token last) -> logits [vocabulary].
        guess: context above a chain of look-ahead rows, 0-based step -> logits [vocabulary].
    """

    description = "table"

    def __init__(self, vocabulary: int, target: Target, guess: Guess) -> None:
        self.vocabulary, self._target, self._guess = vocabulary, target, guess
        self.caches: list[TokenCache] = []
        self.positions: list[int] = []

    def new_cache(self, capacity: int) -> TokenCache:
        self.caches.append(TokenCache(capacity))
        return self.caches[-1]

    def use_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        return None

    def forward(self, cache: TokenCache, rows: Rows) -> torch.Tensor:
        cache.hold(rows)
        contexts: list[tuple[int, ...]] = []
        out = np.empty((rows.count, self.vocabulary), dtype=np.float32)
        for i in range(rows.count):
            parent, token, step = int(rows.parents[i]), int(rows.tokens[i]), int(rows.lookahead[i])
            above = contexts[parent] if parent >= 0 else cache.tokens
            contexts.append(above if step >= 0 else (*above, token))
            out[i] = self._guess(above, step) if step >= 0 else self._target(contexts[i])
            self.positions.append(cache.length + int(rows.depths[i]))
        return torch.from_numpy(out)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    def shortlist(self, ids: torch.Tensor) -> Shortlist:
        return lambda hidden: hidden[:, ids]

    def synchronize(self) -> None:
        return None


def sharp(vocabulary: int, token: int, margin: float = 50.0) -> np.ndarray:
    """Logits of a near certainty."""
    out = np.zeros(vocabulary, dtype=np.float32)
    out[token] = margin
    return out
