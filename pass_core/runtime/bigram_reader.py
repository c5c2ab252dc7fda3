"""Reads a model's own bigrams from it, once for each model, and keeps them in the user's cache."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from pass_core.lookahead.bigrams import Bigrams
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter
from pass_core.runtime.base import Runtime
from pass_core.runtime.rows import Rows, chain_rows

MOST_BYTES = 32 * 1024 * 1024
ROWS = 240  # of one pass
_FORMAT = "1"  # of kept files, in which the weights of `pass_core.lookahead.bigrams` are contained


def kept_bigrams(model: LanguageModel, cache: Path) -> Bigrams | None:
    """The model's bigrams if they were read before and kept in the folder `cache`."""
    return Bigrams.load(_path(model, cache), hidden_size=model.hidden_size, vocabulary_size=model.vocabulary_size)


def read_bigrams(
    model: LanguageModel,
    runtime: Runtime,
    cache: Path,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> Bigrams:
    """Read the model's bigrams from the model now (some seconds for a small one) and keep them in the folder `cache`.

    The lowest token ids, as many as `MOST_BYTES` holds. Nothing else may use the model meanwhile.

    Raises:
        Cancelled: between two passes; nothing is kept.
    """
    read = Bigrams.of_states(_states(model, runtime, progress, cancel))
    read.save(_path(model, cache))
    return kept_bigrams(model, cache) or read


def reading_seconds(model: LanguageModel, runtime: Runtime) -> float:
    """How long `read_bigrams` would take, from one forward pass that is timed now."""
    count = _count(model)
    rows = min(ROWS, count)
    cache = runtime.new_cache(1 + rows)
    tokens, none = np.arange(rows), np.full(rows, -1)
    seconds = 0.0
    for _ in range(2):  # the first warms up
        started = time.perf_counter()
        runtime.forward(cache, Rows(tokens, none, none, np.zeros_like(tokens)))
        runtime.synchronize()
        seconds = time.perf_counter() - started
    return seconds * -(-count // rows)


def _count(model: LanguageModel) -> int:
    return min(model.vocabulary_size, max(1, MOST_BYTES // (2 * model.hidden_size)))


def _states(
    model: LanguageModel, runtime: Runtime, progress: ProgressCallback | None, cancel: CancelToken | None
) -> torch.Tensor:
    """The model's final states [tokens, hidden] bfloat16 after the start token and each token."""
    count = _count(model)
    cache = runtime.new_cache(1 + ROWS)
    start = _start(model)
    if start is not None:
        runtime.forward(cache, chain_rows(np.array([start])))
        cache.commit([0])
    reporter = ProgressReporter("Reading the model’s own bigrams", count, "tokens", progress, cancel)
    states = torch.empty(count, model.hidden_size, dtype=torch.bfloat16)
    for first in range(0, count, ROWS):
        reporter.update(first)
        tokens = np.arange(first, min(first + ROWS, count))
        none = np.full(tokens.size, -1)
        hidden = runtime.forward(cache, Rows(tokens, none, none, np.zeros_like(tokens)))
        states[first : first + tokens.size] = hidden
    reporter.update(count)
    return states


def _start(model: LanguageModel) -> int | None:
    """The token that texts begin with, where the tokenizer has one: a model reads its first token unlike any other."""
    for name in ("bos_token_id", "eos_token_id"):
        token = getattr(model.tokenizer, name, None)
        if token is not None and 0 <= int(token) < model.vocabulary_size:
            return int(token)
    return None


def _path(model: LanguageModel, cache: Path) -> Path:
    return cache / "bigrams" / f"{_FORMAT}-{model.fingerprint}.safetensors"
