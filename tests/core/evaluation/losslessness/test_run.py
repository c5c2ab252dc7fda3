"""The lab on a tiny model: it passes when all is right, and notices what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pass_core.engine import Engine
from pass_core.evaluation.losslessness.plan import Proof, VerificationPlan
from pass_core.evaluation.losslessness.report import Check, VerificationEnded
from pass_core.evaluation.losslessness.run import LosslessnessLab
from pass_core.evaluation.reference import distributions_along, exact_tree, examine_tie, logits_after
from pass_core.lookahead.embeddings import LookaheadEmbeddings, mean_embedding
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, Progress
from pass_core.runtime.native.build import library
from pass_core.settings import SamplingSettings
from tests.engines import engine_of
from tests.tiny import tiny_llama

PLAN = VerificationPlan(prompts=3, tokens=16, seeds=1, temperatures=(0.8,), draws=40, texts=3)


@pytest.fixture
def lookahead(tiny_model: LanguageModel) -> LookaheadEmbeddings:
    """Random embeddings: drafts that are sometimes right."""
    generator = torch.Generator().manual_seed(5)
    table = tiny_model.input_embedding.weight
    return LookaheadEmbeddings(torch.randn(4, table.shape[1], generator=generator) * table.std(), origin="random")


def outcome(lab: LosslessnessLab) -> tuple[list[Check], VerificationEnded]:
    events = list(lab.run())
    assert isinstance(events[-1], VerificationEnded)
    return [e for e in events if isinstance(e, Check)], events[-1]


def test_a_right_engine_passes_all_three_proofs(tiny_model: LanguageModel, lookahead: LookaheadEmbeddings) -> None:
    checks, end = outcome(LosslessnessLab(engine_of(tiny_model), lookahead, PLAN))
    assert end.passed, end.verdict
    assert {c.proof for c in checks} == set(Proof)
    assert any(c.accepted for c in checks if c.proof is Proof.DISTRIBUTION)
    for check in checks:
        if check.proof is not Proof.DISTRIBUTION:
            assert check.identical == check.compared == 3


def test_a_right_engine_passes_with_top_p_and_min_p(tiny_model: LanguageModel, lookahead: LookaheadEmbeddings) -> None:
    plan = replace(PLAN, top_p=0.9, min_p=0.02, proofs=(Proof.COUPLED, Proof.DISTRIBUTION), prompts=1, draws=15)
    checks, end = outcome(LosslessnessLab(engine_of(tiny_model), lookahead, plan))
    assert end.passed, end.verdict
    assert any(c.accepted for c in checks if c.proof is Proof.DISTRIBUTION)
    assert all(c.identical == c.compared == 1 for c in checks if c.proof is Proof.COUPLED)


@pytest.mark.skipif(library() is None, reason="no compiled library on this machine")
def test_rounded_weights_are_their_own_yardstick() -> None:
    model = tiny_llama(tokenizer=True, hidden=64, intermediate=96, heads=4)
    model.weights = "int8"
    lookahead = LookaheadEmbeddings(torch.randn(3, 64, generator=torch.Generator().manual_seed(5)), origin="random")
    engine = Engine(model)
    assert "int8" in engine.runtime.description
    checks, end = outcome(LosslessnessLab(engine, lookahead, replace(PLAN, prompts=1, draws=10, texts=1)))
    assert end.passed, end.verdict
    assert {c.proof for c in checks} == set(Proof)
    assert all("plain decoding's" in c.verdict for c in checks if c.proof is not Proof.DISTRIBUTION)


@pytest.fixture
def like_minded() -> LanguageModel:
    """A model whose positions have much in common, so that untrained drafts overlap with its own distributions."""
    model = tiny_llama(tokenizer=True)
    table = model.input_embedding.weight
    with torch.no_grad():
        table += table.std() * torch.randn(table.shape[1], generator=torch.Generator().manual_seed(3))
    return model


def test_a_wrong_rule_is_noticed_where_it_counts(like_minded: LanguageModel) -> None:
    plan = replace(PLAN, proofs=(Proof.DISTRIBUTION,), wrong_rule=True, draws=10, texts=24, tokens=40)
    checks, end = outcome(
        LosslessnessLab(engine_of(like_minded), mean_embedding(like_minded.input_embedding.weight, 3), plan)
    )
    assert not end.passed
    assert "Not lossless" in end.verdict
    assert all("wrong" in c.subject for c in checks if not c.passed)


def test_other_texts_than_transformers_fail(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from pass_core.evaluation.losslessness import run

    real = run.generate_ids

    def tampered(*args: object, **kwargs: object) -> object:
        ids = real(*args, **kwargs)  # type: ignore[arg-type]
        return [(ids[0] + 1) % 200, *ids[1:]]

    monkeypatch.setattr(run, "generate_ids", tampered)
    checks, end = outcome(
        LosslessnessLab(engine_of(tiny_model), None, replace(PLAN, proofs=(Proof.GREEDY,), prompts=1))
    )
    assert not end.passed
    assert checks[0].divergences[0].at == 0
    assert "without such a reason" in checks[0].verdict


def test_cancelling_keeps_the_checks_made(tiny_model: LanguageModel) -> None:
    cancel = CancelToken()
    events: list[object] = []
    for event in LosslessnessLab(engine_of(tiny_model), None, PLAN).run(cancel):
        events.append(event)
        if isinstance(event, Check):
            cancel.cancel()
    assert sum(isinstance(e, Check) for e in events) == 1
    assert isinstance(events[-1], VerificationEnded)
    assert not events[-1].complete


def test_progress_ends_at_its_total(tiny_model: LanguageModel, lookahead: LookaheadEmbeddings) -> None:
    plan = replace(PLAN, prompts=1, draws=10, texts=1)
    reports = [e for e in LosslessnessLab(engine_of(tiny_model), lookahead, plan).run() if isinstance(e, Progress)]
    assert reports[-1].total is not None
    assert reports[-1].done == pytest.approx(reports[-1].total, rel=0.1)


def test_exact_probabilities_are_those_of_one_forward_each(tiny_model: LanguageModel) -> None:
    sampling = SamplingSettings(0.8, 4)
    tree = exact_tree(engine_of(tiny_model), [65, 66], 2, sampling)
    text = [int(tree[()].ids[0]), int(tree[(int(tree[()].ids[0]),)].ids[1])]
    along = distributions_along(engine_of(tiny_model), [65, 66], text, sampling)
    assert along[0].ids.tolist() == tree[()].ids.tolist()
    assert along[1].log_p == pytest.approx(tree[(text[0],)].log_p, abs=1e-5)


def test_a_tie_is_near_only_within_rounding() -> None:
    model = tiny_llama(vocabulary=64, tie=False)
    context = [1, 2, 3, 4, 5]
    order = torch.argsort(-logits_after(model, [context])[0]).tolist()
    far = examine_tie(model, context, (order[0], order[20]), SamplingSettings(0.0, 0), 0)
    assert not far.near
    with torch.no_grad():
        model.lm_head.weight[order[1]] = model.lm_head.weight[order[0]]
    assert examine_tie(model, context, (order[0], order[1]), SamplingSettings(0.0, 0), 0).near


def test_a_tie_at_the_edge_of_top_p_or_min_p_is_near_only_within_rounding() -> None:
    model = tiny_llama(vocabulary=64, tie=False)
    context = [1, 2, 3, 4, 5]
    p = torch.softmax(logits_after(model, [context])[0].double(), 0)
    ids, order = torch.sort(p, descending=True, stable=True).indices.tolist(), torch.sort(p, descending=True).values
    edge = float(order[:3].sum())  # the fourth token is the first outside
    for inside in (2, 0):
        tokens = (ids[inside], ids[3])
        assert examine_tie(model, context, tokens, SamplingSettings(1.0, 0, edge - 1e-9), 0).near
        assert not examine_tie(model, context, tokens, SamplingSettings(1.0, 0, edge - 0.01), 0).near
        share = float(order[3] / order[0])
        assert examine_tie(model, context, tokens, SamplingSettings(1.0, 0, 1.0, share + 1e-9), 0).near
        assert not examine_tie(model, context, tokens, SamplingSettings(1.0, 0, 1.0, share + 0.01), 0).near


def test_low_precision_is_measured_against_a_plain_forward_of_our_own() -> None:
    model = tiny_llama(tokenizer=True, dtype=torch.bfloat16)
    sampling = SamplingSettings(0.8, 4)
    tree = exact_tree(engine_of(model), [65, 66], 2, sampling)
    first = int(tree[()].ids[0])
    along = distributions_along(engine_of(model), [65, 66], [first, 70], sampling)
    assert along[1].ids.tolist() == tree[(first,)].ids.tolist()
    assert along[1].log_p == pytest.approx(tree[(first,)].log_p, abs=0.05)
