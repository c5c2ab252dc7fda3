"""The badge below the text: the same hash under every strategy, and a proof at one click."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.engine.run import Run
from app.state.context import AppContext
from app.state.loader import Loader
from app.tour.how_it_works import HowItWorks
from app.widgets.log import LogKeeper
from app.window import MainWindow
from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.models.shipped import default_lookahead
from pass_core.settings import Strategy, Verification


@pytest.fixture
def window(context: AppContext, loader: Loader, qtbot: QtBot, tiny_model: LanguageModel) -> MainWindow:
    window = MainWindow(context, loader, LogKeeper())
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.show()
    context.set_engine(Engine(tiny_model))
    context.set_lookahead(default_lookahead(tiny_model))
    window.generate.controls.length.spin.setValue(24)
    window.generate.controls.ignore_eos.setChecked(True)
    return window


def write(window: MainWindow, context: AppContext, qtbot: QtBot, strategy: Strategy, **more: object) -> Run:
    setup = context.setup.value
    settings = replace(setup.settings, strategy=strategy, auto=False, **more)  # type: ignore[arg-type]
    context.setup.set(replace(setup, settings=settings, seed=11))
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000) as done:
        window.generate.run_action.trigger()
    assert done.args is not None
    return done.args[0]


def prove(window: MainWindow, qtbot: QtBot) -> None:
    badge = window.generate.proof
    qtbot.mouseClick(badge.prove, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: badge.proof is not None, timeout=60_000)


def test_the_badge_is_equal_under_every_strategy_and_proved_by_one_click(
    window: MainWindow, context: AppContext, qtbot: QtBot
) -> None:
    badge = window.generate.proof
    assert not badge.isVisible()
    shown: set[str] = set()
    for strategy in (Strategy.AUTOREGRESSIVE, Strategy.TWO_CALL, Strategy.FUSED):
        write(window, context, qtbot, strategy)
        assert badge.isVisible()
        shown.add(badge.hash.text())
    assert len(shown) == 1
    prove(window, qtbot)
    assert badge.proof is not None
    assert badge.proof.same
    assert badge.hash.text() == f"same {shown.pop().replace('text ', 'text, ')}"
    assert not badge.prove.isVisible()


def test_a_text_that_is_not_the_model_s_own_is_told_with_its_first_difference(
    window: MainWindow, context: AppContext, qtbot: QtBot
) -> None:
    run = write(window, context, qtbot, Strategy.FUSED)
    at = next(i for i, s in enumerate(run.events) if s.tokens and s.tokens[0].index >= 5)
    first = run.events[at].tokens[0]
    forged = replace(first, id=first.id ^ 1, text="§")
    run.events[at] = replace(run.events[at], tokens=(forged, *run.events[at].tokens[1:]))
    prove(window, qtbot)
    badge = window.generate.proof
    assert badge.hash.text() == f"differs at token {first.index + 1}"
    assert f"The first {first.index} tokens are the same" in badge.hash.toolTip()
    assert "“§”" in badge.hash.toolTip()


def test_under_the_rejection_rule_nothing_is_promised(window: MainWindow, context: AppContext, qtbot: QtBot) -> None:
    write(window, context, qtbot, Strategy.FUSED, verification=Verification.REJECTION)
    assert not window.generate.proof.prove.isEnabled()
    assert "keeps the distribution" in window.generate.proof.prove.toolTip()


def test_another_model_cannot_prove_it(
    window: MainWindow, context: AppContext, qtbot: QtBot, tiny_model: LanguageModel
) -> None:
    write(window, context, qtbot, Strategy.FUSED)
    assert window.generate.proof.prove.isEnabled()
    context.set_engine(Engine(tiny_model))
    assert not window.generate.proof.prove.isEnabled()


def test_the_sentence_has_the_run_s_numbers_and_how_it_works_opens(
    window: MainWindow, context: AppContext, qtbot: QtBot
) -> None:
    page = window.generate
    assert not page.sentence.explain.isEnabled()
    run = write(window, context, qtbot, Strategy.FUSED)
    assert page.sentence.sentence.text().startswith(f"24 tokens in {run.summary.calls} forward pass")
    qtbot.mouseClick(page.sentence.explain, Qt.MouseButton.LeftButton)
    dialog = page.findChild(HowItWorks)
    assert dialog is not None
    assert dialog.shown is not None
    assert dialog.shown.step in run.events
    assert len(dialog.tree.keys()) >= 2
    with qtbot.waitSignal(dialog.destroyed):
        dialog.close()
