"""The losses against their definitions."""

from __future__ import annotations

import torch

from pass_core.training.chains import place_chains
from pass_core.training.objective import (
    Targets,
    Vocabulary,
    choose_vocabulary,
    divergence,
    expected_accepted,
    overlap,
)


def _case(size: int = 200, rows: int = 6) -> tuple[torch.Tensor, torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(0)
    teacher = 3 * torch.randn(rows, size, generator=generator)
    student = teacher + torch.randn(rows, size, generator=generator)
    best = teacher.log_softmax(-1).topk(64, -1)
    return teacher, student, Targets(best.indices, best.values)


def test_divergence_over_the_whole_vocabulary_is_kl() -> None:
    teacher, student, targets = _case(size=64)
    vocabulary = choose_vocabulary(targets, torch.arange(64), 64, torch.Generator().manual_seed(0))
    assert vocabulary.sampled == 0
    ours = divergence(student[:, vocabulary.ids], targets, vocabulary)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    torch.testing.assert_close(ours, (p.exp() * (p - q)).sum(-1))


def test_sampled_rest_estimates_the_normaliser_without_bias() -> None:
    _, student, targets = _case(size=2000)
    full = Vocabulary(torch.arange(2000), torch.zeros(2000), targets.ids, 0)
    exact = divergence(student, targets, full)
    generator = torch.Generator().manual_seed(1)
    guesses = []
    for _ in range(40):
        part = choose_vocabulary(targets, torch.arange(10), 2000, generator, sampled=400)
        guesses.append(divergence(student[:, part.ids], targets, part))
    torch.testing.assert_close(torch.stack(guesses).mean(0), exact, atol=0.02, rtol=0.02)


def test_overlap_is_one_minus_total_variation_of_the_processed_distributions() -> None:
    teacher, student, targets = _case()
    vocabulary = choose_vocabulary(targets, torch.arange(200), 200, torch.Generator().manual_seed(0))

    def processed(logits: torch.Tensor) -> torch.Tensor:
        scaled = logits / 0.8
        kept = torch.full_like(scaled, float("-inf")).scatter(1, scaled.topk(10, -1).indices, 0.0)
        return (scaled + kept).softmax(-1)

    expected = 1 - 0.5 * (processed(teacher) - processed(student)).abs().sum(-1)
    torch.testing.assert_close(overlap(student[:, vocabulary.ids], targets, vocabulary, 0.8, 10), expected)


def test_expected_accepted_is_the_sum_of_products_along_chains() -> None:
    overlaps = torch.tensor([0.5, 0.4, 0.2, 0.9, 0.6, 0.3])
    depth = torch.tensor([0, 1, 2, 0, 0, 1])
    valid = torch.tensor([True, True, True, True, True, False])
    # survival 1: no reweighting; the last row is padding
    expected = (0.5 + 0.5 * 0.4 + 0.5 * 0.4 * 0.2 + 0.9 + 0.6) / 3
    assert abs(float(expected_accepted(overlaps, depth, valid, 1.0)) - expected) < 1e-6


def test_chains_fill_their_rows_and_stay_inside_the_text() -> None:
    chains = place_chains([40, 9], 48, 5, 0.75, torch.Generator().manual_seed(4))
    for b, length in enumerate((40, 9)):
        valid = chains.valid[b]
        assert int(chains.teacher[b][valid].max()) < length
        assert int(chains.context[b].min()) >= 1
        starts = (chains.depth[b] == 0).sum()
        assert len(chains.chain[b].unique()) == int(starts)
    mask = chains.mask(40)
    assert mask.shape == (2, 1, 48, 88)
    assert torch.equal(mask[:, 0, :, :40].sum(-1), chains.context)
    assert torch.equal(mask[:, 0, :, 40:].sum(-1), chains.depth + 1)
