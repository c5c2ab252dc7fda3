"""The trained head is the one that decoding uses, and its loss is what its definition says."""

from __future__ import annotations

import pytest
import torch

from pass_core.lookahead.state_head import guess
from pass_core.training.coupled import among_best, on_drafts
from pass_core.training.objective import Targets
from pass_core.training.state_data import Rows
from pass_core.training.state_parts import StateHead, acceptance_share, draftable, state_loss
from pass_core.training.step import frozen, step_generator
from tests import tiny
from tests.core.training.state_runs import shaken_head, state_config


def test_guesses_of_many_places_are_those_of_decoding() -> None:
    model = tiny.tiny_llama()
    head = shaken_head(model)
    generator = torch.Generator().manual_seed(0)
    states, tokens = torch.randn(2, 5, 32, generator=generator).unbind()
    weights = head.weights(torch.float32).guess
    with torch.no_grad():
        ours = head.guesses(states, tokens, 2)
        for n in range(5):
            theirs = guess(states[n], tokens[n], 2, weights.w_in, weights.step, weights.w_out)
            torch.testing.assert_close(ours[n], theirs)


def test_a_file_s_head_comes_back() -> None:
    head = shaken_head(tiny.tiny_llama())
    again = StateHead.of(head.weights(torch.float32))
    for (name, a), (_, b) in zip(head.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert again.depth == 3


def test_what_cannot_be_drafted_has_no_share_but_is_not_forgotten() -> None:
    targets = Targets(torch.tensor([[5, 90, 7]]), torch.tensor([[0.5, 0.3, 0.2]]).log())
    to_learn, to_match, mass = draftable(targets, torch.tensor([0, 5, 7, 64]))
    assert to_learn.ids.tolist() == [[1, 0, 2]]
    torch.testing.assert_close(to_learn.log_probs.exp(), torch.tensor([[0.5, 0.0, 0.2]]))
    torch.testing.assert_close(mass, torch.tensor([0.7]))
    ids, p = to_match.processed(1.0, 3)
    torch.testing.assert_close(on_drafts(ids, p, torch.tensor([[2, 1, 0]])), torch.tensor([[0.2, 0.5, 0.0]]))


def test_the_acceptance_leads_late() -> None:
    assert acceptance_share(0.0) == pytest.approx(0.2)
    assert acceptance_share(0.25) == pytest.approx(0.5)
    assert acceptance_share(1.0) == pytest.approx(0.85)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma"])
def test_the_loss_over_a_whole_vocabulary_is_its_definition(family: str) -> None:
    """With fewer tokens than the loss looks at, nothing is sampled: the sums over all tokens, place by place."""
    model = tiny.FAMILIES[family](vocabulary=24)
    config = state_config(top_k=6, few_weight=0.25)
    head = shaken_head(model, config)
    generator = torch.Generator().manual_seed(1)
    places, depth = 6, 3
    hidden = torch.randn(places, 32, generator=generator)
    before = torch.randint(0, 24, (places, depth), generator=generator)
    teacher = torch.randn(places, depth, 24, generator=generator).mul(2).log_softmax(-1).sort(-1, descending=True)
    rows = Rows(hidden, before, Targets(teacher.indices, teacher.values))
    share = 0.4
    with frozen(model):
        loss = state_loss(model, head, rows, torch.arange(8), [step_generator(0, 0, 0)], config, share)
        total = guessed = 0.0
        e = model.input_embedding(before)
        w = head.weights(torch.float32)
        for n in range(places):
            reach = 1.0
            states = guess(hidden[n], e[n, 0], depth, w.guess.w_in, w.guess.step, w.guess.w_out)
            for d in range(depth):
                fitted = states[:1] if d == 0 else head.fit(states[d : d + 1], e[n, d : d + 1], torch.tensor([d]))
                p = torch.zeros(24).scatter(0, teacher.indices[n, d], teacher.values[n, d].exp())
                kl = [
                    float((p * (p.log() - model.logits(s)[0].log_softmax(-1))).sum())
                    for s in (fitted, states[d : d + 1])
                ]
                q = (model.logits(fitted)[0] / config.temperature).topk(6)
                kept = teacher.values[n, d, :6].div(config.temperature).softmax(-1)
                on = on_drafts(teacher.indices[n, d, :6][None], kept[None], q.indices[None])
                one, few = (float(among_best(on, q.values.softmax(-1)[None], s)) for s in (1, 3 if d == 0 else 2))
                missed = 1 - 0.75 * one - 0.25 * few
                total += reach * ((0.6 * 0.3 + 0.05) * kl[0] + 0.4 * 2.4 * missed) / (places * depth)
                guessed += 0.1 * reach * kl[1] / (places * depth)
                reach *= 0.3 + 0.7 * one
    assert float(loss.total) == pytest.approx(total + guessed, rel=1e-4)
