"""Draft heads in torch: the documented formulas, on every family's head."""

from __future__ import annotations

import pytest
import torch

from pass_core.kernels.heads import TorchBigramHead, TorchSamplerHead
from pass_core.kernels.reference import ReferenceKernels
from pass_core.models.language_model import LanguageModel
from pass_core.settings import LookaheadPart
from tests import tiny
from tests.core.decoding.engine import random_bigrams, random_lookahead

STEPS, BEFORE, CANDIDATES = torch.tensor([0, 2]), torch.tensor([4, 7]), torch.tensor([1, 3, 8])


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.FAMILIES[request.param]()


def states(model: LanguageModel) -> torch.Tensor:
    return torch.randn(2, model.hidden_size, generator=torch.Generator().manual_seed(5))


@torch.inference_mode()
def test_the_sampler_head_scores_candidates_by_the_documented_formula(model: LanguageModel) -> None:
    weights = random_lookahead(model, 4, frozenset({LookaheadPart.SAMPLER})).sampler
    assert weights is not None
    head, rows = TorchSamplerHead(weights, model), states(model)
    prepared = head.prepare(rows, STEPS)

    def rms(x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean() + 1e-6).sqrt()

    for row, step in enumerate(STEPS):
        got = head.scores(rows[row], prepared[row], BEFORE, CANDIDATES)
        for token, scores in zip(BEFORE, got, strict=True):
            e = model.input_embedding.weight[int(token)]
            z = weights.w_in @ torch.cat((rms(rows[row]), rms(e))) + weights.step[step]
            corrected = rows[row] + weights.w_out @ torch.nn.functional.silu(z)
            assert torch.allclose(scores, model.logits(corrected[None])[0, CANDIDATES], atol=1e-3)


@torch.inference_mode()
def test_the_state_head_guesses_by_the_documented_formula(model: LanguageModel) -> None:
    state_head = random_lookahead(model, 4, frozenset({LookaheadPart.STATE})).state
    assert state_head is not None
    weights, state = state_head.guess, states(model)[0]
    kernels = ReferenceKernels(model)
    some = torch.arange(0, model.vocabulary_size, 3)
    got, logits = kernels.guess(kernels.guess_head(weights), state, 7, 3, model.shortlist(some))()
    assert torch.allclose(logits, model.logits(got)[:, some], atol=1e-4)

    def rms(x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean() + 1e-6).sqrt()

    assert got.shape == (3, model.hidden_size)
    for depth in range(3):
        z = weights.w_in @ torch.cat((rms(state), rms(model.input_embedding.weight[7]))) + weights.step[depth]
        assert torch.allclose(got[depth], state + weights.w_out @ torch.nn.functional.silu(z), atol=1e-3)


@torch.inference_mode()
def test_the_bigram_head_adds_a_vector_where_it_has_one(model: LanguageModel) -> None:
    bigrams = random_bigrams(model, 5)
    head, rows = TorchBigramHead(bigrams, model), states(model)
    after_4, after_7 = head.scores(rows[1], head.prepare(rows, STEPS)[1], BEFORE, CANDIDATES)
    assert torch.allclose(after_4, model.logits(rows[1:] + bigrams.shifts[4].float())[0, CANDIDATES], atol=1e-3)
    assert torch.allclose(after_7, model.logits(rows[1:])[0, CANDIDATES], atol=1e-3)
