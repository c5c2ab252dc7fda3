"""The Chat page: turns, roles, Continue, Regenerate, inspection, and the same ids as the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.chat.page import ChatPage
from app.engine.run import Run
from app.inspector.page import setup_of
from app.state.context import AppContext
from app.state.setup import GenerationSetup
from pass_core.cli.chat import chat_of
from pass_core.models.language_model import LanguageModel
from pass_core.models.prompts import encode
from pass_core.prompt import Message, Role
from pass_core.records.environment import new_record
from pass_core.records.runs import dumps_record, loads_record
from pass_core.settings import StopConditions

TIMEOUT = 60_000


@pytest.fixture
def page(ready: AppContext, qtbot: QtBot) -> Iterator[ChatPage]:
    ready.setup.set(GenerationSetup("unused", seed=5, stop=StopConditions(12, ignore_eos=True)))
    page = ChatPage(ready)
    qtbot.addWidget(page)
    page.resize(900, 700)
    page.show()
    yield page
    ready.session.stop()
    qtbot.waitUntil(lambda: not ready.session.running, timeout=TIMEOUT)


def ask(page: ChatPage, qtbot: QtBot, question: str) -> Run:
    page.composer.setPlainText(question)
    with qtbot.waitSignal(page._context.session.run_finished, timeout=TIMEOUT) as ended:
        QTest.keyClick(page.composer, Qt.Key.Key_Return)
    assert page.composer.toPlainText() == ""
    return ended.args[0]


def click(page: ChatPage, qtbot: QtBot, button: str) -> Run:
    with qtbot.waitSignal(page._context.session.run_finished, timeout=TIMEOUT) as ended:
        getattr(page.views[-1], button).click()
    return ended.args[0]


def test_every_turn_reads_the_turns_before(page: ChatPage, qtbot: QtBot) -> None:
    page.system.setPlainText("Be kind.")
    first = ask(page, qtbot, "Who are you?")
    assert first.request.prompt == "[system]Be kind.<|end|>[user]Who are you?<|end|>[assistant]"
    second = ask(page, qtbot, "Why?")
    assert second.request.prompt == (
        f"[system]Be kind.<|end|>[user]Who are you?<|end|>[assistant]{first.text}<|end|>[user]Why?<|end|>[assistant]"
    )
    assert [v.text.plain_text() for v in page.views] == [first.text, second.text]
    assert first.request.seed == 5
    assert "12 tokens" in page.views[0].facts.text()
    assert not page.views[0].go_on.isVisible()  # only the last answer goes on
    assert "of" in page.used.text()


def test_continue_goes_on_and_clicks_find_the_run(page: ChatPage, qtbot: QtBot) -> None:
    first = ask(page, qtbot, "Count.")
    more = click(page, qtbot, "go_on")
    assert more.request.prompt == f"[user]Count.<|end|>[assistant]{first.text}"
    view = page.views[0]
    assert view.text.plain_text() == first.text + more.text
    assert view.exchange.answer is not None
    assert view.exchange.answer.text == first.text + more.text
    third = more.events[-1].tokens[-1]
    shown = next(t for s in reversed(view.text.steps) for t in reversed(s.tokens))
    with qtbot.waitSignal(page.inspect_requested) as asked:
        view.text.token_clicked.emit(view.text.steps[-1], shown)
    assert asked.args == [more, third.index]
    assert shown.index == first.totals.new_tokens + third.index


def test_regenerate_keeps_the_other_answer(page: ChatPage, qtbot: QtBot) -> None:
    first = ask(page, qtbot, "Say something.")
    second = click(page, qtbot, "again")
    assert second.request.seed != first.request.seed
    assert second.request.prompt == first.request.prompt
    view = page.views[0]
    assert view.place.text() == "2 of 2"
    assert view.text.plain_text() == second.text
    view.earlier.click()
    assert view.text.plain_text() == first.text
    third = ask(page, qtbot, "And?")
    assert f"[assistant]{first.text}<|end|>" in third.request.prompt
    assert not view.later.isEnabled()  # the chat went on from the first answer


def test_window_command_line_and_history_give_the_same_ids(
    page: ChatPage, qtbot: QtBot, tiny_model: LanguageModel, ready: AppContext
) -> None:
    page.system.setPlainText("Be kind.")
    ask(page, qtbot, "One “two”?")
    ask(page, qtbot, "Three")
    run = click(page, qtbot, "go_on")
    request = run.request
    ids = encode(tiny_model, request.source)
    given = json.dumps([{"role": m.role.value, "content": m.text} for m in request.messages])
    assert encode(tiny_model, chat_of(given)) == ids
    record = new_record(
        tiny_model, request.prompt, request.settings, seed=1, typed=request.prompt_text, messages=request.messages
    )
    again = loads_record(dumps_record(record))
    assert again.messages == request.messages
    assert encode(tiny_model, again.source) == ids
    with qtbot.waitSignal(ready.session.run_finished, timeout=TIMEOUT) as ended:
        ready.run_again(setup_of(again))
    repeated = ended.args[0]
    assert encode(tiny_model, repeated.request.source) == ids
    assert ready.setup.value.prompt_text == "unused"  # the Generate page keeps its prompt
    assert [m.role for m in page.conversation.messages()] == [m.role for m in request.messages]


def test_a_full_context_is_said_with_a_way_out(page: ChatPage, qtbot: QtBot, ready: AppContext) -> None:
    assert ready.model is not None
    ask(page, qtbot, "One")
    limit = ready.model.capabilities.context_length
    page.composer.setPlainText("word " * limit)
    with qtbot.waitSignal(ready.error_raised) as raised:
        page.ask()
    assert "fills the model's context" in raised.args[0].sentence
    assert page.composer.toPlainText()  # nothing that was typed is lost
    assert len(page.conversation.exchanges) == 1
    ask(page, qtbot, "Two")
    raised.args[0].way_out.take()
    assert [e.question for e in page.conversation.exchanges] == ["Two"]


def test_a_model_without_a_template_says_so(page: ChatPage, ready: AppContext) -> None:
    assert ready.model is not None
    ready.model.tokenizer.chat_template = None
    ready.model_changed.emit(ready.model)
    assert "no chat template" in page.hint.text()
    assert not page.send.isEnabled()


def test_the_chat_is_there_again_at_the_next_start(page: ChatPage, qtbot: QtBot, ready: AppContext) -> None:
    run = ask(page, qtbot, "Remember this.")
    page.remember(ready.preferences)
    other = ChatPage(ready)
    qtbot.addWidget(other)
    other.restore(ready.preferences)
    assert other.conversation.messages() == (Message(Role.USER, "Remember this."), Message(Role.ASSISTANT, run.text))
    other.begin_anew()
    assert other.views == []
