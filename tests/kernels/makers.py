"""Kernels and inputs of the parity tests."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pass_core.kernels.interface import DraftRows, GrowRequest, Kernels
from pass_core.kernels.native import NativeKernels
from pass_core.kernels.reference import ReferenceKernels
from pass_core.lookahead.sampler import HEAD_CANDIDATES
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.sampling.noise import Stream, stream_hash
from tests import tiny

VOCABULARY = 128 * 128  # the library selects 128 candidates from no fewer
NAMES = ("torch", "compiled")
compiled = pytest.mark.skipif(library() is None, reason="no C++ compiler on this machine")


def bfloat16_model(**sizes: int) -> LanguageModel:
    made = tiny.tiny_llama(
        **{
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "vocab_size": VOCABULARY,
            "initializer_range": 0.3,
            **sizes,
        }
    )
    made.model.to(torch.bfloat16)
    return made


def kernels_named(name: str, model: LanguageModel | None = None, runtime: NativeRuntime | None = None) -> Kernels:
    """One implementation; the compiled one where it can be had."""
    if name == "torch":
        return ReferenceKernels(model)
    found = library()
    if found is None:
        pytest.skip("no C++ compiler on this machine")
    return NativeKernels(found, model, None if runtime is None else runtime.handle)


CHAIN = GrowRequest(
    noise=stream_hash(11, Stream.TARGET),
    position=20,
    before=60,
    root=77,
    temperature=0.8,
    sibling_temperature=1.5,
    min_reach=0.0,
    min_level_reach=0.0,
    seen=0.3,
    after_one=0.5,
    after_two=1.5,
    recent=256,
    top_k=10,
    candidates=HEAD_CANDIDATES,
    branches=1,
    width=1,
    limit=40,
    noisy=1,
    shares=(0.8, 0.6, 0.5, 0.45),
)
BUDGET = replace(CHAIN, branches=10, width=4)
AUTO = replace(BUDGET, min_reach=0.01, min_level_reach=0.05)
REQUESTS = {
    "chain": CHAIN,
    "budget": BUDGET,
    "auto": AUTO,
    "one draft": replace(AUTO, limit=1),
    "few drafts": replace(AUTO, limit=7),
    "greedy": replace(AUTO, noisy=0, temperature=1.0, sibling_temperature=1.0),
    "greedy chain": replace(CHAIN, top_k=1, temperature=1e-30),
    "hot": replace(AUTO, temperature=1.7, top_k=3),
    "top-k 1": replace(AUTO, top_k=1),
    "top-k 120": replace(BUDGET, top_k=120),
    "top-k off": replace(BUDGET, top_k=0),
    "certain": replace(BUDGET, top_k=1, shares=(1.0, 1.2, 1.0, 1.0)),  # every reach is 1: depth decides
    "drafts of another stream": replace(CHAIN, noise=stream_hash(11, Stream.DRAFT)),
    "top-p": replace(AUTO, top_p=0.7),
    "min-p": replace(BUDGET, log_min_p=math.log(0.2)),
    "a wide nucleus": replace(BUDGET, top_k=120, top_p=0.95, log_min_p=math.log(0.01)),
    "one token left": replace(BUDGET, top_p=1e-9),
    "top-p of a chain": replace(CHAIN, top_p=0.5, noise=stream_hash(11, Stream.DRAFT)),
    "nothing likely": replace(AUTO, shares=(0.009, 0.009, 0.009, 0.009)),
}


def request_for(name: str, seed: int, *, head: bool) -> GrowRequest:
    """A request of the table as the proposer would make it, with or without a draft head."""
    made = REQUESTS[name]
    top_k = made.top_k
    if head and top_k == 0:
        top_k = HEAD_CANDIDATES
    return replace(
        made,
        noise=stream_hash(seed, Stream.DRAFT if "another" in name else Stream.TARGET),
        top_k=top_k,
        candidates=HEAD_CANDIDATES if head else top_k,
    )


def repetitive(vocabulary: int = VOCABULARY) -> np.ndarray:
    """A text with most of its pairs twice, 77 after 60 among them."""
    half = np.random.default_rng(4).integers(0, vocabulary, 300)
    half[-2:] = 60, 77
    return np.concatenate((half, half))


def whole_numbers(vocabulary: int, seed: int) -> tuple[DraftRows, torch.Tensor]:
    """States and output embeddings of small whole numbers, whose products and sums are exact in any order."""
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randint(-3, 4, (7, 64), generator=g).float()
    head = torch.randint(-2, 3, (vocabulary, 64), generator=g).float() / 8
    return DraftRows(hidden, hidden @ head.T, [5, 2, 3, 0], [0, 1, 3, 2]), head
