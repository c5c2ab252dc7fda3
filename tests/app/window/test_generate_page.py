"""The Generate page on a tiny model: the run a newcomer makes, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.engine.run import Run
from app.state.context import AppContext
from app.state.loader import Loader, ModelChoice
from app.theme.roles import TokenRole
from app.widgets.log import LogKeeper
from app.window import MainWindow
from pass_core.decoding.events import Provenance
from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.models.shipped import default_lookahead
from pass_core.prompt import Prompt
from pass_core.settings import Strategy


@pytest.fixture
def window(context: AppContext, loader: Loader, qtbot: QtBot) -> MainWindow:
    window = MainWindow(context, loader, LogKeeper())
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.show()
    return window


def use_tiny(context: AppContext, model: LanguageModel) -> None:
    context.set_engine(Engine(model))
    context.set_lookahead(default_lookahead(model))


def run(window: MainWindow, context: AppContext, qtbot: QtBot) -> Run:
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000) as done:
        window.generate.run_action.trigger()
    return done.args[0]


def set_length(window: MainWindow, tokens: int) -> None:
    window.generate.controls.length.spin.setValue(tokens)
    window.generate.controls.ignore_eos.setChecked(True)


def test_pressing_run_is_the_only_thing_to_do(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    page = window.generate
    assert page.prompt.text()
    assert not page.run_button.isEnabled()
    use_tiny(context, tiny_model)
    set_length(window, 40)
    assert page.run_button.isEnabled()
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000) as done:
        qtbot.mouseClick(page.run_button, Qt.MouseButton.LeftButton)
    finished: Run = done.args[0]
    assert page.text.plain_text() == finished.text
    assert page.text.toPlainText().startswith(page.prompt.text())
    counts = finished.summary.provenance
    for provenance in Provenance:
        roles = [TokenRole.ACCEPTED, TokenRole.LOOKUP] if provenance is Provenance.ACCEPTED else [TokenRole(provenance)]
        assert sum(page.legend.counts[r] for r in roles) == counts[provenance]
    assert page.plots.series.tokens[-1] == finished.summary.new_tokens == 40
    assert "40 tokens" in window.status.state.full_text()


def test_plots_stay_and_start_afresh(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    use_tiny(context, tiny_model)
    set_length(window, 30)
    run(window, context, qtbot)
    assert window.generate.plots.series.tokens[-1] == 30
    set_length(window, 10)
    assert window.generate.plots.series.tokens[-1] == 30
    run(window, context, qtbot)
    assert window.generate.plots.series.tokens[-1] == 10


def test_a_control_moved_while_it_runs_takes_effect_and_leaves_a_mark(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    use_tiny(context, tiny_model)
    set_length(window, 180)
    moved: list[int] = []

    def move(run: Run, steps: list[object]) -> None:
        if not moved:
            moved.append(run.totals.new_tokens)
            window.generate.controls.temperature.spin.setValue(0.0)

    context.session.steps_arrived.connect(move)
    finished = run(window, context, qtbot)
    assert finished.events[0].settings.sampling.temperature == 0.8
    assert finished.events[-1].settings.sampling.temperature == 0.0
    assert [m.text for m in window.generate.plots.series.marks] == ["temperature 0.8→0"]


def test_the_same_seed_gives_the_same_text_with_every_strategy(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    use_tiny(context, tiny_model)
    set_length(window, 30)
    texts: set[str] = set()
    for strategy in Strategy:
        window.generate.controls.strategy.set_value(strategy.value)
        finished = run(window, context, qtbot)
        assert finished.request.settings.strategy is strategy
        texts.add(finished.text)
    assert len(texts) == 1


def test_run_waits_for_a_model_that_is_loading(
    window: MainWindow, context: AppContext, loader: Loader, tiny_folder: Path, qtbot: QtBot
) -> None:
    set_length(window, 12)
    with qtbot.waitSignal(loader.loading_changed, timeout=10_000):
        loader.load(ModelChoice(str(tiny_folder), "cpu", "float32"))
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000) as done:
        window.generate.run_action.trigger()
        assert not context.session.running
    assert done.args[0].summary.new_tokens == 12


def test_escape_stops(window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot) -> None:
    use_tiny(context, tiny_model)
    set_length(window, 200)
    context.session.steps_arrived.connect(lambda *_: window.generate.stop_action.trigger())
    finished = run(window, context, qtbot)
    assert finished.summary.new_tokens < 200
    assert "Stopped after" in window.status.state.full_text()


def test_runs_of_other_pages_leave_this_one_alone(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    use_tiny(context, tiny_model)
    set_length(window, 8)
    run(window, context, qtbot)
    before = window.generate.text.toPlainText()
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000):
        context.session.start(context.request())
        window.generate.stop_action.trigger()  # not ours to stop
    assert window.generate.text.toPlainText() == before


def test_parts_can_be_switched_off(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    import torch

    from pass_core.settings import LookaheadPart

    use_tiny(context, tiny_model)
    plain = context.lookahead
    assert plain is not None
    deep = torch.zeros(len(tiny_model.layers), plain.count, plain.hidden_size)
    context.set_lookahead(replace(plain, deep=deep))
    window.generate.embedding_card.checks[LookaheadPart.DEEP].setChecked(False)
    set_length(window, 4)
    finished = run(window, context, qtbot)
    assert finished.events[0].settings.disabled_parts == {LookaheadPart.DEEP}


def test_an_empty_prompt_is_a_plain_sentence(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    use_tiny(context, tiny_model)
    window.generate.prompt.set_text("  ")
    window.generate.run_action.trigger()
    assert window.banner.isVisible()
    assert "prompt is empty" in window.banner.sentence.text()
    assert not context.session.running


def test_errors_show_in_the_banner_with_details(window: MainWindow, context: AppContext, qapp: object) -> None:
    from PySide6.QtGui import QGuiApplication

    try:
        raise ValueError("deep cause")
    except ValueError as error:
        context.report_error("It broke. Try another file.", error)
    assert window.banner.sentence.text() == "It broke. Try another file."
    assert "deep cause" in window.banner.details.toPlainText()
    window.banner.copy_details()
    assert "deep cause" in QGuiApplication.clipboard().text()


def test_closing_while_it_runs_ends_the_run_and_the_thread(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    use_tiny(context, tiny_model)
    set_length(window, 200)
    with qtbot.waitSignal(context.session.steps_arrived, timeout=60_000):
        window.generate.run_action.trigger()
    with qtbot.waitSignal(window.closed, timeout=30_000):
        window.close()
    assert not context.session.running


def test_setups_come_back(window: MainWindow, context: AppContext, loop: asyncio.AbstractEventLoop) -> None:
    window.generate.controls.seed_field.setValue(9)
    window.generate.prompt.set_text("first")
    window.generate.prompt.changed.emit()
    setup = context.setup.value
    window.generate.prompt.set_text("second")
    window.generate.controls.seed_field.setValue(10)
    context.apply_setup(setup)
    assert window.generate.setup() == setup


def test_run_may_be_pressed_at_once(
    window: MainWindow, loader: Loader, context: AppContext, tiny_folder: Path, qtbot: QtBot
) -> None:
    """`--run` presses it in the same breath in which the load is asked for."""
    set_length(window, 4)
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000):
        loader.load(ModelChoice(str(tiny_folder), "cpu", "float32"))
        window.generate.run()
    assert not window.banner.isVisible()


def test_a_load_that_fails_leaves_the_old_model_named(
    window: MainWindow, context: AppContext, loader: Loader, tiny_folder: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    with qtbot.waitSignal(loader.loading_changed, timeout=60_000, check_params_cb=lambda title: not title):
        loader.load(ModelChoice(str(tiny_folder), "cpu", "float32"))
    name = window.generate.model_card.picker.label_text()
    with qtbot.waitSignal(loader.loading_changed, timeout=60_000, check_params_cb=lambda title: not title):
        loader.load(ModelChoice(str(tmp_path), "cpu", "float32"))
    assert window.generate.model_card.picker.label_text() == name
    assert window.generate.run_button.isEnabled()
    assert window.banner.isVisible()


@pytest.mark.parametrize("chat", [False, True])
def test_a_prompt_that_is_too_long_is_cut_at_its_start_on_request(
    window: MainWindow, context: AppContext, tiny_model: LanguageModel, qtbot: QtBot, chat: bool
) -> None:
    use_tiny(context, tiny_model)
    page, engine = window.generate, context.engine
    assert engine is not None
    limit = tiny_model.capabilities.context_length
    page.prompt.set_text(" ".join(f"word{n}" for n in range(limit)) + " the end")
    page.prompt.chat.setChecked(chat and page.prompt.chat.isEnabled())
    set_length(window, 20)
    before = page.shown_run()
    page.run()
    assert page.shown_run() is before  # no empty run
    assert f"{limit:,}" in window.banner.sentence.text()
    assert window.banner.way_out.text() == "Cut the start"
    window.banner.way_out.click()
    assert not window.banner.isVisible()
    kept = page.prompt.text()
    assert kept.startswith("word")
    assert kept.endswith(" the end")
    tokens = len(engine.encode(Prompt(kept, chat=page.prompt.chat.isChecked())))
    assert limit - 20 - 12 < tokens <= limit - 20  # a whole word begins it, so some room may be left
    assert run(window, context, qtbot).totals.new_tokens == 20
