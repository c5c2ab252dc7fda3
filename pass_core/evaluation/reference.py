"""What the model itself says, from transformers' own forward: the yardstick that shares no code with our engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pass_core.engine import Engine
from pass_core.models.cache_argument import cache_argument
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.rows import chain_rows
from pass_core.sampling.distribution import Distribution, distributions
from pass_core.sampling.noise import gumbel
from pass_core.settings import SamplingSettings


def logits_after(model: LanguageModel, contexts: Sequence[Sequence[int]], batch: int = 16) -> torch.Tensor:
    """Next-token logits [n, vocabulary], float32 on the CPU, of n contexts of one length."""
    out: list[torch.Tensor] = []
    with torch.inference_mode():
        for begin in range(0, len(contexts), batch):
            ids = torch.tensor([list(c) for c in contexts[begin : begin + batch]], device=model.device)
            result: Any = model.model(ids, use_cache=False, logits_to_keep=1)
            out.append(result.logits[:, -1].float().cpu())
    return torch.cat(out)


def is_exact(model: LanguageModel) -> bool:
    """Whether transformers has the same weights, precise enough for two correct computations to agree (float32)."""
    return not is_rounded(model) and torch.finfo(model.dtype).eps < 1e-6


def is_rounded(model: LanguageModel) -> bool:
    """Whether the compiled library rounded the weights that transformers' module still has as they were."""
    return model.weights == "int8"


def distributions_along(
    engine: Engine, prompt: Sequence[int], text: Sequence[int], sampling: SamplingSettings
) -> list[Distribution]:
    """The exact distribution of every token of `text`, each given the prompt and the text before it.

    In low precision transformers rounds differently from our runtime, by a tenth of a probability here and there; the
    yardstick is then a plain forward of our runtime, without drafts.
    """
    model = engine.model
    ids = [*prompt, *text[:-1]]
    if not is_exact(model):
        return distributions(_runtime_logits(engine, ids, len(text)), sampling)
    with torch.inference_mode():
        result: Any = model.model(torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=len(text))
        return distributions(result.logits[0].float(), sampling)


def _runtime_logits(engine: Engine, ids: Sequence[int], count: int, chunk: int = 128) -> torch.Tensor:
    """Logits [count, vocabulary] of the last `count` rows of a plain forward of our runtime."""
    runtime = engine.runtime
    cache = runtime.new_cache(len(ids) + chunk)
    hidden: list[torch.Tensor] = []
    for begin in range(0, len(ids), chunk):
        rows = np.asarray(ids[begin : begin + chunk], dtype=np.int64)
        # The runtime may use its buffers again in the next call.
        hidden.append(runtime.forward(cache, chain_rows(rows)).clone())
        cache.commit(range(rows.size))
    return runtime.logits(torch.cat(hidden)[-count:]).float().cpu()


def exact_tree(
    engine: Engine, prompt: Sequence[int], depth: int, sampling: SamplingSettings
) -> dict[tuple[int, ...], Distribution]:
    """The exact next-token distribution after the prompt and after every possible continuation shorter than `depth`.

    Nothing follows an end-of-sequence token. For low precision see `distributions_along`.
    """
    model = engine.model
    tree: dict[tuple[int, ...], Distribution] = {}
    paths: list[tuple[int, ...]] = [()]
    for _ in range(depth):
        contexts = [[*prompt, *path] for path in paths]
        if is_exact(model):
            rows = logits_after(model, contexts)
        else:
            rows = torch.cat([_runtime_logits(engine, context, 1) for context in contexts])
        level = distributions(rows, sampling)
        tree.update(zip(paths, level, strict=True))
        paths = [(*path, int(token)) for path, d in zip(paths, level, strict=True) for token in d.ids]
        paths = [path for path in paths if path[-1] not in model.eos_token_ids]
    return tree


@dataclass(frozen=True, slots=True)
class Tie:
    """Two tokens between which two correct computations disagreed.

    Attributes:
        gap: how far apart the model itself puts them (in logits, noise of the sampling included); for a token outside
            of what top-k, top-p and min-p keep, how far it is from the boundary.
        rounding: how far rounding moves a logit here, measured as two orders of computation within transformers.
        near: whether rounding can close the gap.
    """

    gap: float
    rounding: float
    near: bool


SAFETY = 4.0
"""Only two of all possible computations are compared; others may differ by a few times as much."""


def examine_tie(
    model: LanguageModel,
    context: Sequence[int],
    tokens: tuple[int, int],
    sampling: SamplingSettings,
    seed: int,
) -> Tie:
    """Whether rounding explains that one computation chose tokens[0] after `context`, and another tokens[1].

    Rounding is measured, not assumed: the same logits by transformers in one piece, and with a cache row by row.
    """
    whole = logits_after(model, [context])[0]
    stepwise = _with_cache(model, context)
    top = torch.topk(whole, min(64, whole.numel())).indices
    watched = torch.cat((top, torch.tensor(tokens)))
    epsilon = torch.finfo(model.dtype).eps
    rounding = max(
        float((whole[watched] - stepwise[watched]).abs().max()), epsilon * float(whole[watched].abs().max()) / 2
    )
    allowed = SAFETY * rounding
    gap = _gap(whole.numpy(), tokens, sampling, seed, len(context))
    return Tie(gap, rounding, gap <= allowed)


def _with_cache(model: LanguageModel, context: Sequence[int], tail: int = 4) -> torch.Tensor:
    """Logits of the last row, the last few tokens one by one over a cache of the others."""
    from transformers import DynamicCache

    ids = torch.tensor([list(context)], device=model.device)
    split = max(1, len(context) - tail)
    cache: Any = DynamicCache()
    name = cache_argument(model.model.forward)
    with torch.inference_mode():
        result: Any = model.model(ids[:, :split], **{name: cache}, use_cache=True, logits_to_keep=1)
        for at in range(split, len(context)):
            result = model.model(ids[:, at : at + 1], **{name: cache}, use_cache=True, logits_to_keep=1)
    return result.logits[0, -1].float().cpu()


def _gap(logits: np.ndarray, tokens: tuple[int, int], sampling: SamplingSettings, seed: int, position: int) -> float:
    """The logits that would have to move for the two tokens to change places."""
    a, b = tokens
    if sampling.temperature == 0:
        return abs(float(logits[a] - logits[b]))
    margins = [_margin(logits, t, sampling) for t in tokens]
    if min(margins) < 0:
        return -min(margins)
    noise = gumbel(seed, position, np.asarray(tokens))
    scores = logits[list(tokens)] / sampling.temperature + noise
    swap = abs(float(scores[0] - scores[1])) * sampling.temperature
    # Either the two changed places, or one fell out of what one computation keeps.
    return min(swap, *margins)


def _margin(logits: np.ndarray, token: int, sampling: SamplingSettings) -> float:
    """By how much logits would have to move for a token to fall out of what is kept; negative: to come in."""
    wide = logits.astype(np.float64)
    own, margins = float(wide[token]), [np.inf]
    order = np.lexsort((np.arange(wide.size), -wide))[: sampling.top_k or None]
    if sampling.top_k:
        margins.append(own - float(wide[order[-1]]))
    if sampling.min_p:
        margins.append(own - float(wide.max()) - sampling.temperature * sampling.log_min_p)
    place = np.flatnonzero(order == token)
    if sampling.top_p < 1.0 and place.size and place[0]:
        p = np.exp((wide[order] - wide[order[0]]) / sampling.temperature)
        likelier = (np.cumsum(p) - p) / p.sum()
        kept = int((likelier < sampling.top_p).sum())
        # Logits that all move by x, the likelier ones up and the others down, move the odds of a mass by 2x / T.
        mass = sampling.temperature / 2 * (_odds(sampling.top_p) - _odds(float(likelier[place[0]])))
        if place[0] < kept:
            margins.append(min(mass, own - float(wide[order[kept]]) if kept < order.size else np.inf))
        else:
            margins.append(max(mass, own - float(wide[order[kept - 1]])))
    return min(margins)


def _odds(p: float) -> float:
    """The logarithm of p / (1 - p)."""
    return float(np.log(p) - np.log1p(-p)) if p < 1.0 else np.inf
