"""The Losslessness page on the tiny model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytestqt.qtbot import QtBot

from app.losslessness.page import LosslessnessPage
from app.state.context import AppContext
from pass_core.engine import Engine
from pass_core.evaluation.losslessness.plan import Proof, VerificationPlan
from pass_core.evaluation.losslessness.report import Check
from tests import tiny

PLAN = VerificationPlan(prompts=1, tokens=8, seeds=1, temperatures=(0.8,), draws=6, texts=1)


@pytest.fixture
def page(ready: AppContext, qtbot: QtBot) -> LosslessnessPage:
    page = LosslessnessPage(ready)
    qtbot.addWidget(page)
    return page


def test_three_proofs_with_a_verdict(page: LosslessnessPage, ready: AppContext, qtbot: QtBot) -> None:
    assert "float32" in page.precision.text()
    page.start(PLAN)
    assert page.bar.stop.isVisibleTo(page)
    assert not page.bar.run.isVisibleTo(page)
    assert ready.busy_with == "the losslessness proofs"
    with qtbot.waitSignal(page.job.ended, timeout=60_000):
        pass
    assert all(card.checks for card in page.cards.values())
    assert page.cards[Proof.GREEDY].state.text() == f"{len(page.cards[Proof.GREEDY].checks)} hold"
    assert page.verdict.text().startswith("Lossless")
    assert page.verdict.property("tone") == "good"
    page.cards[Proof.GREEDY].clear()
    assert page.cards[Proof.GREEDY].state.text() == "not yet checked"


def test_failures_are_counted(page: LosslessnessPage) -> None:
    page.cards[Proof.DISTRIBUTION].add(Check(Proof.DISTRIBUTION, "pass", False, "Does not agree."))
    assert page.cards[Proof.DISTRIBUTION].state.text() == "1 of 1 fail"
    assert page.cards[Proof.DISTRIBUTION].state.property("tone") == "bad"


def test_stopping_claims_nothing_more(page: LosslessnessPage, qtbot: QtBot) -> None:
    page.start(replace(PLAN, draws=400))
    page.job.received.connect(lambda _: page.stop())
    with qtbot.waitSignal(page.job.ended, timeout=60_000):
        pass
    assert page.verdict.text().startswith("Stopped after")


def test_choices_become_a_plan(page: LosslessnessPage) -> None:
    page.wrong_rule.setChecked(True)
    page.extent.set_value("thorough")
    assert page.plan() == replace(VerificationPlan(), wrong_rule=True)


def test_low_precision_is_explained(context: AppContext, qtbot: QtBot) -> None:
    import torch

    page = LosslessnessPage(context)
    qtbot.addWidget(page)
    assert not page.bar.run.isEnabled()
    context.set_engine(Engine(tiny.tiny_llama(tokenizer=True, dtype=torch.bfloat16)))
    assert "near ties" in page.precision.text()
    assert page.bar.run.isEnabled()
