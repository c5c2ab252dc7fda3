"""The losses against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from pass_core.training.chains import join, place_chains
from pass_core.training.objective import (
    Targets,
    Vocabulary,
    choose_vocabulary,
    divergence,
    expected_accepted,
    match,
)


def _case(size: int = 200, rows: int = 6, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(0)
    teacher = 3 * torch.randn(batch, rows, size, generator=generator)
    student = teacher + torch.randn(batch, rows, size, generator=generator)
    best = teacher.log_softmax(-1).topk(min(64, size), -1)
    return teacher, student, Targets(best.indices, best.values)


def _generators(batch: int = 2) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(b) for b in range(batch)]


def _of_part(student: torch.Tensor, vocabulary: Vocabulary) -> torch.Tensor:
    return student.gather(2, vocabulary.ids[:, None].expand(-1, student.shape[1], -1))


def test_divergence_over_the_whole_vocabulary_is_kl() -> None:
    teacher, student, targets = _case(size=64)
    vocabulary = choose_vocabulary(targets, torch.arange(64), 64, _generators())
    assert not vocabulary.sampled.any()
    ours = divergence(_of_part(student, vocabulary), targets, vocabulary)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    torch.testing.assert_close(ours, (p.exp() * (p - q)).sum(-1))


def test_sampled_rest_estimates_the_normaliser_without_bias() -> None:
    teacher, student, _ = _case(size=4000)
    best = teacher.log_softmax(-1).topk(32, -1)
    targets = Targets(best.indices, best.values)
    whole = choose_vocabulary(targets, torch.arange(4000), 4000, _generators())
    exact = divergence(_of_part(student, whole), targets, whole)
    generators = _generators()
    guesses = []
    for _ in range(60):
        part = choose_vocabulary(targets, torch.arange(10), 4000, generators, sampled=400)
        assert part.ids.shape == (2, 6 * 32 + 10 + 400)
        assert int(part.sampled.sum(1).min()) >= 400
        guesses.append(divergence(_of_part(student, part), targets, part))
    torch.testing.assert_close(torch.stack(guesses).mean(0), exact, atol=0.02, rtol=0.02)


def test_a_sequences_vocabulary_is_its_own_and_holds_what_is_compared() -> None:
    """Alone or in a batch a sequence gets the same tokens, so that several processes compute what one does."""
    teacher, _, _ = _case(size=3000)
    best = teacher.log_softmax(-1).topk(16, -1)
    targets = Targets(best.indices, best.values)
    frequent = torch.tensor([5, 7, 2999])
    both = choose_vocabulary(targets, frequent, 3000, _generators(), sampled=50)
    for b, generator in enumerate(_generators()):
        own = Targets(targets.ids[b : b + 1], targets.log_probs[b : b + 1])
        alone = choose_vocabulary(own, frequent, 3000, [generator], sampled=50)
        assert torch.equal(alone.ids[0].sort().values, both.ids[b].sort().values)
        assert len(both.ids[b].unique()) == both.ids.shape[1]
        assert torch.equal(both.ids[b][both.places[b]], targets.ids[b])
        assert set(frequent.tolist()) <= set(both.ids[b][~both.sampled[b]].tolist())


def test_match_is_what_shared_noise_accepts_of_the_processed_distributions() -> None:
    """Chances in closed form against drawing noise and counting, at temperature 0.8 and top-k 10."""
    teacher, student, targets = _case(size=60, rows=2, batch=1)
    vocabulary = choose_vocabulary(targets, torch.arange(60), 60, _generators(1))
    depth = torch.tensor([[0, 1]])
    got = match(_of_part(student, vocabulary), targets, vocabulary, depth, 0.8, 10)

    def processed(logits: torch.Tensor) -> torch.Tensor:
        scaled = logits / 0.8
        kept = torch.full_like(scaled, float("-inf")).scatter(-1, scaled.topk(10, -1).indices, 0.0)
        return (scaled + kept).log_softmax(-1)

    p, q = processed(teacher)[0], processed(student)[0]
    uniform = torch.rand(40_000, 2, 60, generator=torch.Generator().manual_seed(3)).clamp_min(1e-30)
    noise = -torch.log(-torch.log(uniform))
    target = (p + noise).argmax(-1, keepdim=True)
    scores = q + noise
    ahead = (scores > scores.gather(-1, target)).sum(-1)
    inside = torch.isfinite(scores.gather(-1, target)).squeeze(-1)
    for row, siblings in ((0, 3), (1, 2)):
        drawn = ((ahead[:, row] == 0) & inside[:, row]).float().mean()
        few = ((ahead[:, row] < siblings) & inside[:, row]).float().mean()
        assert abs(float(drawn) - float(got.draft[0, row])) < 0.01
        assert abs(float(few) - float(got.few[0, row])) < 0.01


def test_expected_accepted_is_the_sum_of_products_along_chains() -> None:
    chances = torch.tensor([[0.5, 0.4, 0.2, 0.9, 0.6, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    depth = torch.tensor([[0, 1, 2, 0, 0, 1], [0, 0, 1, 0, 1, 2]])
    valid = torch.tensor([[True, True, True, True, True, False], [True] * 6])
    # survival 1: no reweighting; the last row of the first is padding
    first = (0.5 + 0.5 * 0.4 + 0.5 * 0.4 * 0.2 + 0.9 + 0.6) / 3
    second = (0.1 + 0.2 + 0.2 * 0.3 + 0.4 + 0.4 * 0.5 + 0.4 * 0.5 * 0.6) / 3
    torch.testing.assert_close(expected_accepted(chances, depth, valid, 1.0, 3), torch.tensor([first, second]))


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


def test_given_contexts_start_the_first_chains() -> None:
    given = [[3, 17, 8], [5]]
    single = [
        place_chains([40], 12, 4, 0.7, torch.Generator().manual_seed(b), given=[one]) for b, one in enumerate(given)
    ]
    chains = join(single)
    for b, one in enumerate(given):
        starts = chains.context[b][chains.depth[b] == 0].tolist()
        assert starts[: len(one)] == one[: len(starts)]


def test_losses_ask_nothing_of_the_device() -> None:
    """Tensors without values: whatever had to read one (a count, an index, a branch) would raise here, and wait on a
    GPU."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        ids = torch.zeros(3, 20, 64, dtype=torch.long)
        targets = Targets(ids, torch.zeros(3, 20, 64))
        listed = targets.at(torch.zeros(3, 24, dtype=torch.long)).first(32)
        vocabulary = choose_vocabulary(listed, torch.arange(100), 5000, _generators(3))
        logits = torch.zeros(3, 24, vocabulary.ids.shape[1], requires_grad=True)
        depth = torch.zeros(3, 24, dtype=torch.long)
        valid = torch.ones(3, 24, dtype=torch.bool)
        matched = match(logits, listed, vocabulary, depth, 0.8, 10)
        gained = expected_accepted(matched.few, depth, valid, 0.75, 6)
        (divergence(logits, listed, vocabulary).sum() - gained.sum()).backward()
        assert logits.grad is not None
        with pytest.raises(DataDependentOutputException):
            float(gained.detach().sum())  # that this test can fail
