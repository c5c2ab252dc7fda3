"""The closed forms of the coupled rule against drawing the noise, and their gradients against finite differences."""

from __future__ import annotations

import itertools

import pytest
import torch

from pass_core.training.coupled import among_best, on_drafts

P_IDS = torch.tensor([[0, 1, 2, 3, 4]])
Q_IDS = torch.tensor([[1, 0, 7, 3, 8, 9]])  # two of p's tokens are missing, three are not p's


def _case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p = (2 * torch.randn(1, 5, generator=generator, dtype=torch.float64)).softmax(-1)
    q = (2 * torch.randn(1, 6, generator=generator, dtype=torch.float64)).softmax(-1)
    return p, q


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("siblings", [1, 2, 3])
def test_chance_equals_drawn_noise(seed: int, siblings: int) -> None:
    p, q = _case(seed)
    draws = 200_000
    clocks = torch.empty(draws, 10, dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(9))
    target = P_IDS[0][(clocks[:, P_IDS[0]] / p).argmin(1)]
    order = (clocks[:, Q_IDS[0]] / q).argsort(1)
    best = Q_IDS[0][order[:, :siblings]]
    drawn = float((best == target[:, None]).any(1).double().mean())
    ours = float(among_best(on_drafts(P_IDS, p, Q_IDS), q, siblings))
    assert abs(ours - drawn) < 4.5 * (drawn * (1 - drawn) / draws) ** 0.5


def test_one_draft_is_the_published_formula_and_a_perfect_guess_always_matches() -> None:
    p, q = _case(4)
    ours = float(among_best(on_drafts(P_IDS, p, Q_IDS), q, 1))
    full_p, full_q = torch.zeros(10, dtype=torch.float64), torch.zeros(10, dtype=torch.float64)
    full_p[P_IDS[0]], full_q[Q_IDS[0]] = p[0], q[0]
    both = [x for x in range(10) if full_p[x] > 0 and full_q[x] > 0]
    expected = sum(1 / float(torch.maximum(full_p / full_p[x], full_q / full_q[x]).sum()) for x in both)
    assert ours == pytest.approx(expected, rel=1e-9)
    assert float(among_best(p, p, 1)) == pytest.approx(1.0)
    distance = 0.5 * float((full_p - full_q).abs().sum())
    assert (1 - distance) / (1 + distance) - 1e-9 <= ours <= 1 - distance + 1e-9


@pytest.mark.parametrize("siblings", [1, 2, 3])
def test_gradient_is_that_of_the_chance(siblings: int) -> None:
    p, _ = _case(5)
    on = on_drafts(P_IDS, p, Q_IDS)
    logits = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: among_best(on, z.softmax(-1), siblings), (logits,))


def test_drafts_far_from_certain_give_finite_gradients() -> None:
    """Tokens that p or q all but excludes divide nothing by zero."""
    logits = torch.tensor([[60.0, 0.0, -60.0, 1.0]], requires_grad=True)
    p = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    for siblings in (1, 2, 3):
        chance = among_best(p, logits.softmax(-1), siblings)
        (gradient,) = torch.autograd.grad(chance.sum(), logits)
        assert torch.isfinite(gradient).all()
        assert float(chance.detach()) == pytest.approx(1.0)


def test_more_than_three_siblings_are_refused() -> None:
    p, q = _case(0)
    with pytest.raises(ValueError, match="1 to 3"):
        among_best(on_drafts(P_IDS, p, Q_IDS), q, 4)


def test_two_and_three_siblings_of_a_draft_that_is_nearly_certain_stay_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 40 * torch.randn(2000, 10, generator=generator)
    q = torch.softmax(logits, -1).requires_grad_()
    p = torch.softmax(torch.randn(2000, 10, generator=generator), -1)
    chances = [among_best(p, q, n) for n in (1, 2, 3)]
    for fewer, more in itertools.pairwise(chances):
        assert float((fewer - more).max()) <= 1e-5
    assert 0 <= float(torch.stack(chances).min()) <= float(torch.stack(chances).max()) <= 1 + 1e-5
    torch.stack(chances).sum().backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()
