"""transformers' generate as transformers made it: its options, its distributions, nothing of ours in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import torch

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.packed import plain_linears
from pass_core.sampling import nucleus
from pass_core.sampling.distribution import Distribution
from pass_core.settings import SamplingSettings


@contextlib.contextmanager
def as_transformers_made_it(model: LanguageModel) -> Generator[None]:
    """transformers without our packed layers, and without the model's generation_config.json, which would fill in what
    a GenerationConfig leaves open (end tokens, penalties, top-p)."""
    from transformers import GenerationConfig

    habits = model.model.generation_config
    model.model.generation_config = GenerationConfig()
    try:
        with torch.inference_mode(), plain_linears(model), _candidates_within(model):
            yield
    finally:
        model.model.generation_config = habits


@contextlib.contextmanager
def _candidates_within(model: LanguageModel) -> Generator[None]:
    """Prompt lookup copies no token to a place beyond the context.

    transformers cuts copied tokens at the length asked for only where one token is left, and then calls the model with
    positions that it does not have (an IndexError where positions are learned).
    """
    inner: Any = model.model
    limit = model.capabilities.context_length
    make = getattr(inner, "_get_candidate_generator", None)
    if make is None:
        yield
        return

    def bounded(*args: Any, **kwargs: Any) -> Any:
        generator = make(*args, **kwargs)
        propose = generator.get_candidates

        def within(input_ids: torch.Tensor, *more: Any, **named: Any) -> Any:
            candidates, logits = propose(input_ids, *more, **named)
            return candidates[:, :limit], logits

        generator.get_candidates = within
        return generator

    inner._get_candidate_generator = bounded
    try:
        yield
    finally:
        del inner._get_candidate_generator


def generation_config(
    sampling: SamplingSettings, *, new_tokens: int, eos: Sequence[int], lookup: int
) -> Any:  # a transformers.GenerationConfig
    """Sampling settings, length, end tokens and copied tokens (0: none) as transformers takes them."""
    from transformers import GenerationConfig

    options: dict[str, Any] = {
        "max_new_tokens": new_tokens,
        "eos_token_id": list(eos) or None,
        "pad_token_id": eos[0] if eos else 0,
        "repetition_penalty": 1.0,
        "use_cache": True,
        "do_sample": sampling.temperature > 0,
    }
    if sampling.temperature > 0:
        options |= {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
        if sampling.min_p:
            options["min_p"] = sampling.min_p
    if lookup:
        options["prompt_lookup_num_tokens"] = lookup
    return GenerationConfig(**options)


def as_sampled(logits: torch.Tensor, sampling: SamplingSettings) -> list[Distribution]:
    """The distributions that transformers samples from: its own warpers, which keep every tie at the edge of top-k.

    Args:
        logits: float32 [n, vocabulary].
    """
    from transformers.generation.logits_process import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    if sampling.temperature == 0:
        return [Distribution(np.array([i]), np.zeros(1)) for i in logits.argmax(-1).tolist()]
    ids: Any = None
    scores: Any = TemperatureLogitsWarper(sampling.temperature)(ids, logits)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(ids, scores)
    if sampling.top_p < 1.0:
        scores = TopPLogitsWarper(sampling.top_p)(ids, scores)
    if sampling.min_p:
        scores = MinPLogitsWarper(sampling.min_p)(ids, scores)
    out: list[Distribution] = []
    for row in torch.log_softmax(scores, dim=-1).cpu().numpy().astype(np.float64):
        kept = np.flatnonzero(np.isfinite(row))
        if sampling.top_k or nucleus.is_on(sampling):
            kept = kept[np.argsort(-row[kept], kind="stable")]
        out.append(Distribution(kept, row[kept]))
    return out


def generate_ids(
    model: LanguageModel,
    ids: Sequence[int],
    sampling: SamplingSettings,
    *,
    new_tokens: int,
    seed: int = 0,
    lookup: int = 0,
    ignore_eos: bool = False,
    cancelled: Callable[[], bool] | None = None,
) -> list[int]:
    """The new tokens of one generation without hooks: what transformers writes when nobody looks.

    Args:
        lookup: tokens that prompt lookup copies at a time; 0 for plain decoding.
    """
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Stop(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
            stop = cancelled is not None and cancelled()
            return torch.full((input_ids.shape[0],), stop, dtype=torch.bool, device=input_ids.device)

    eos = [] if ignore_eos else sorted(model.eos_token_ids)
    prompt = torch.tensor([list(ids)], device=model.device)
    torch.manual_seed(seed % 2**64)
    with as_transformers_made_it(model):
        output: Any = model.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=generation_config(sampling, new_tokens=new_tokens, eos=eos, lookup=lookup),
            stopping_criteria=StoppingCriteriaList([Stop()]),
        )
    return [int(i) for i in output[0, len(ids) :].tolist()]
