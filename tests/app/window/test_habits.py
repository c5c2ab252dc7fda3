"""What people expect of a window: run again runs, a failed load is not offered again, help, the log, honest choices."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot
from tokenizers.processors import TemplateProcessing

from app.history.page import HistoryPage
from app.history.service import HistoryService
from app.inspector.page import InspectPage
from app.state.context import AppContext
from app.state.diary import Diary
from app.state.loader import Loader, ModelChoice
from app.state.machine import why_no_device, why_no_weights
from app.state.setup import GenerationSetup
from app.widgets.help import HelpDialog, shortcuts_of
from app.widgets.log import LogDialog, LogKeeper
from app.widgets.token_view import TokenView
from app.window import MainWindow
from pass_core.engine import Engine
from pass_core.models.shipped import default_lookahead
from pass_core.prompt import Prompt
from pass_core.runtime.native.build import reason_missing
from pass_core.settings import DecodingSettings, StopConditions
from tests import tiny

SETUP = GenerationSetup("To be or", seed=77, stop=StopConditions(6, ignore_eos=True))


@pytest.fixture
def window(ready: AppContext, loader: Loader, qtbot: QtBot) -> MainWindow:
    window = MainWindow(ready, loader, LogKeeper())
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    assert ready.model is not None
    ready.set_lookahead(default_lookahead(ready.model))
    window.show()
    return window


def test_run_again_runs(window: MainWindow, ready: AppContext, tmp_path: Path, qtbot: QtBot) -> None:
    history = HistoryService(ready, tmp_path / "history.sqlite3", window)
    inspect = InspectPage(ready, history)
    window.add_page("inspect", "Inspect", "ph.magnifying-glass", inspect)
    window.generate.run_started.connect(inspect.follow)
    ready.setup.set(SETUP)
    with qtbot.waitSignal(ready.session.run_finished, timeout=60_000) as first:
        window.generate.run()
    inspect.show_run(first.args[0])
    ready.setup.set(GenerationSetup("Another prompt", stop=StopConditions(3)))
    with qtbot.waitSignal(ready.session.run_finished, timeout=60_000) as second:
        inspect.again.click()
    assert second.args[0] is not first.args[0]
    assert second.args[0].request.seed == 77
    assert second.args[0].text == first.args[0].text
    assert window.generate.isVisible()
    history.close()


def test_delete_is_not_what_enter_does(ready: AppContext, tmp_path: Path, qtbot: QtBot) -> None:
    history = HistoryService(ready, tmp_path / "history.sqlite3")
    page = HistoryPage(ready, history)
    qtbot.addWidget(page)
    with qtbot.waitSignal(ready.session.run_finished, timeout=60_000) as done:
        ready.session.start(ready.request(SETUP))
    page.refresh()
    qtbot.waitUntil(lambda: len(page.model.entries) == 1, timeout=30_000)
    page.select([done.args[0].uid])
    page.delete_button.click()
    box = page.findChild(QMessageBox)
    assert box is not None
    assert box.defaultButton() is box.button(QMessageBox.StandardButton.Cancel)
    box.reject()
    history.close()


def test_what_failed_to_load_is_not_offered_again(
    context: AppContext, loader: Loader, tiny_folder: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    for source in (tmp_path, tiny_folder):
        with qtbot.waitSignal(loader.loading_changed, timeout=60_000, check_params_cb=lambda title: not title):
            loader.load(ModelChoice(str(source), "cpu", "float32"))
    assert loader.recent == [str(tiny_folder)]


def test_after_unload_the_card_says_so(window: MainWindow, loader: Loader, ready: AppContext) -> None:
    ready.set_engine(None)
    assert window.generate.model_card.picker.label_text() == "No model"
    assert window.generate.model_card.facts.full_text().startswith("Nothing loaded")


def test_what_this_machine_lacks_is_greyed_with_the_reason(window: MainWindow) -> None:
    actions = {a.data(): a for a in window.generate.model_card.findChildren(QAction) if a.isCheckable()}
    for value, why in (
        ("cuda", why_no_device("cuda")),
        ("mps", why_no_device("mps")),
        ("int4", why_no_weights("int4")),
    ):
        assert actions[value].isEnabled() is (not why)
        if why:
            assert actions[value].toolTip() == why
    for value in ("auto", "cpu", "float32", "none"):
        assert actions[value].isEnabled()


def test_missing_packages_are_named() -> None:
    missing = "The compiled library is missing."
    assert "torchao is not installed" in why_no_weights("int8", find=lambda name: None, library=lambda: missing)
    assert why_no_weights("int8", find=lambda name: None, library=lambda: "") == ""
    assert why_no_weights("int8", find=lambda name: name, library=lambda: missing) == ""
    assert "needs a CUDA device" in why_no_weights("int4", device=lambda device: "No driver")
    assert why_no_weights("int4", find=lambda name: name, device=lambda device: "") == ""


@pytest.mark.parametrize(
    ("key", "modifier"),
    [(Qt.Key.Key_F1, Qt.KeyboardModifier.NoModifier), (Qt.Key.Key_Slash, Qt.KeyboardModifier.ControlModifier)],
)
def test_help_is_a_key_away(window: MainWindow, key: Qt.Key, modifier: Qt.KeyboardModifier) -> None:
    window.activateWindow()
    QTest.keyClick(window, key, modifier)
    dialog = window.findChild(HelpDialog)
    assert dialog is not None
    assert dialog.isVisible()
    dialog.close()


def test_every_key_of_the_menus_is_listed(window: MainWindow) -> None:
    keys = {keys for _, _, keys in shortcuts_of(window)}
    assert {"Esc", "Ctrl+/", "Ctrl+0", "Ctrl+1", "Ctrl+O"} <= keys
    named = [what for _, what, _ in shortcuts_of(window)]
    assert "Run" in named
    assert all(named)


def test_the_usual_text_size_comes_back(window: MainWindow) -> None:
    text = window.generate.text
    usual = text.font().pointSizeF()
    text.zoom(4)
    assert text.font().pointSizeF() > usual
    window.activateWindow()
    QTest.keyClick(window, Qt.Key.Key_0, Qt.KeyboardModifier.ControlModifier)
    assert text.font().pointSizeF() == usual


def test_the_text_of_every_page_grows_and_comes_back(window: MainWindow) -> None:
    views = window.findChildren(TokenView)
    usual = [v.font().pointSizeF() for v in views]
    window.zoom(2)
    factor = window._context.theme.zoom
    assert factor > 1
    assert [v.font().pointSizeF() for v in views] == pytest.approx([u * factor for u in usual])
    window.zoom(0)
    assert [v.font().pointSizeF() for v in views] == usual


def test_the_log_tells_loads_runs_and_errors(
    context: AppContext, loader: Loader, tiny_folder: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    keeper = LogKeeper()
    root = logging.getLogger()
    root.addHandler(keeper)
    logging.getLogger("app").setLevel(logging.INFO)
    try:
        Diary(context, loader)
        for source in (tmp_path, tiny_folder):
            with qtbot.waitSignal(loader.loading_changed, timeout=60_000, check_params_cb=lambda title: not title):
                loader.load(ModelChoice(str(source), "cpu", "float32"))
        with qtbot.waitSignal(context.session.run_finished, timeout=60_000):
            context.session.start(context.request(SETUP))
    finally:
        root.removeHandler(keeper)
    text = keeper.text()
    assert f"load: {tmp_path}, device cpu, dtype float32" in text
    assert "loaded tiny-llama on cpu in float32" in text
    assert "seed 77" in text
    assert "6 tokens" in text
    errors = keeper.text(logging.ERROR)
    assert errors
    assert "loaded tiny-llama" not in errors
    dialog = LogDialog(keeper)
    qtbot.addWidget(dialog)
    assert dialog.text.toPlainText() == text
    dialog.level.setCurrentIndex(2)
    assert dialog.text.toPlainText() == errors
    dialog.save(tmp_path / "a.log")
    assert (tmp_path / "a.log").read_text(encoding="utf-8") == errors + "\n"


@pytest.mark.skipif(bool(reason_missing()), reason="the compiled library is not here")
def test_what_is_computed_with_stands_on_the_card_and_in_the_log(
    window: MainWindow, context: AppContext, loader: Loader, tmp_path: Path, qtbot: QtBot
) -> None:
    folder = tiny.save(tiny.tiny_llama(tokenizer=True, hidden=64), tmp_path / "wide")
    keeper = LogKeeper()
    logging.getLogger().addHandler(keeper)
    logging.getLogger("app").setLevel(logging.INFO)
    try:
        Diary(context, loader)
        with qtbot.waitSignal(loader.loading_changed, timeout=60_000, check_params_cb=lambda title: not title):
            loader.load(ModelChoice(str(folder), "cpu", "bfloat16"))
    finally:
        logging.getLogger().removeHandler(keeper)
    assert "wide computes with bfloat16 weights and KV cache, sums in float32" in keeper.text()
    card = window.generate.model_card
    assert card.weights.isVisibleTo(card)
    assert card.weights.text() == "Computes with bfloat16 weights and KV cache, sums in float32."
    card.show_model(None)
    assert not card.weights.isVisibleTo(card)


def test_a_chat_prompt_begins_with_one_start_token(context: AppContext, qtbot: QtBot) -> None:
    """The template brings it; tokenising the rendered text would add another, and the command line has one."""
    model = tiny.tiny_llama(tokenizer=True)
    tokenizer = model.tokenizer
    start = tokenizer.convert_ids_to_tokens(256)
    tokenizer.bos_token = start
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=[(start, 256)])
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    engine = Engine(model)
    ids = engine.encode(Prompt("Hello", chat=True))
    assert ids.count(256) == 1
    context.set_engine(engine)
    setup = GenerationSetup("Hello", chat=True, settings=DecodingSettings(k=2), stop=StopConditions(2, ignore_eos=True))
    with qtbot.waitSignal(context.session.run_finished, timeout=60_000) as done:
        context.session.start(context.request(setup))
    assert done.args[0].error is None
    assert done.args[0].totals.prompt_tokens == len(ids)
