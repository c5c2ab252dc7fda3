"""Find in the output: matches over several tokens, counted, in turn, in every text of the page, with the keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextCursor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.chat.conversation import Conversation
from app.chat.page import ChatPage
from app.compare.page import ComparePage
from app.inspector.page import InspectPage
from app.pages import register_pages
from app.state.context import AppContext
from app.state.loader import Loader
from app.theme.apply import ThemeManager
from app.widgets.find import find_all
from app.widgets.find_bar import FindBar
from app.widgets.log import LogKeeper
from app.widgets.token_layout import utf16_length
from app.widgets.token_view import TokenView
from app.window import MainWindow
from pass_core.decoding.events import DraftStatus, Provenance, StepEvent
from pass_core.prompt import Message, Role
from tests.app.window.events import draft, step, token

STORY = ("The", " c", "at", " sat. 🦊", " A", " CAT", "\nno c", "oat,", " ca", "t!")
"""“cat” three times: over two tokens, in one in capitals, behind a character of two units and over two tokens."""


def story(*texts: str) -> list[StepEvent]:
    return [step(i, [token(i, text)]) for i, text in enumerate(texts)]


def marked(view: TokenView) -> list[tuple[str, bool]]:
    """The marked words of a search with whether they are in front, read from the document."""
    theme = view._theme.current
    found: list[tuple[str, bool]] = []
    for selection in view.extraSelections():
        back = selection.format.background().color().name()  # type: ignore[attr-defined]
        if back in (theme.accent, theme.warning_soft):
            found.append((selection.cursor.selectedText(), back == theme.accent))  # type: ignore[attr-defined]
    return found


@pytest.fixture
def window(ready: AppContext, loader: Loader, qtbot: QtBot) -> Iterator[MainWindow]:
    window = MainWindow(ready, loader, LogKeeper())
    register_pages(window, window.generate, ready)
    qtbot.addWidget(window, before_close_func=lambda w: setattr(w, "_closing", True))
    window.resize(1000, 700)
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    yield window
    window.find_bar.leave()
    for page in window._pages.values():
        page.shut_down()
    window.closed.emit()


def press(window: MainWindow, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
    QTest.keyClick(QApplication.focusWidget() or window, key, modifier)


def write(bar: FindBar, words: str) -> None:
    bar.words.clear()
    QTest.keyClicks(bar.words, words)


@given(
    texts=st.lists(st.text(alphabet="ab🦊\n", max_size=4), max_size=12),
    gaps=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    wanted=st.text(alphabet="ab🦊", min_size=1, max_size=3),
)
def test_every_match_is_at_the_place_of_its_words(texts: list[str], gaps: list[int], wanted: str) -> None:
    """Against the plain search in the whole text, with anything between the parts."""
    parts: list[tuple[int, str]] = []
    document = ""
    for gap, text in zip(gaps, texts, strict=False):
        document += "·" * gap
        parts.append((utf16_length(document), text))
        document += text
    data = document.encode("utf-16-le")
    whole = "".join(texts)
    matches = find_all(parts, wanted)
    assert len(matches) == whole.count(wanted)
    for match in matches:
        read = "".join(data[2 * low : 2 * high].decode("utf-16-le") for low, high in match)
        assert read == wanted


def test_the_keyboard_goes_from_match_to_match(window: MainWindow) -> None:
    view, bar = window.generate.text, window.find_bar
    view.start("Tell me of a cat. ")
    view.append_steps(story(*STORY))
    view.setFocus()
    press(window, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    assert bar.isVisible()
    assert bar.words.hasFocus()
    write(bar, "cat")
    assert bar.count.text() == "1 of 4"
    assert marked(view) == [("cat", True), ("cat", False), ("CAT", False), ("cat", False)]
    for expected in ("2 of 4", "3 of 4", "4 of 4", "1 of 4"):
        press(window, Qt.Key.Key_F3)
        assert bar.count.text() == expected
    press(window, Qt.Key.Key_F3, Qt.KeyboardModifier.ShiftModifier)
    assert bar.count.text() == "4 of 4"
    press(window, Qt.Key.Key_Return)
    assert bar.count.text() == "1 of 4"
    assert not window._context.session.running, "Enter goes on and does not run"
    bar.match_case.click()
    assert bar.count.text() == "1 of 3"
    write(bar, "dog")
    assert bar.count.text() == "No match"
    assert not bar._next.isEnabled()
    assert marked(view) == []
    write(bar, "cat")
    bar.words.setFocus()
    press(window, Qt.Key.Key_Escape)
    assert not bar.isVisible()
    assert marked(view) == []
    assert view.hasFocus()


def test_rejected_drafts_between_tokens_do_not_break_a_match(theme: ThemeManager, qtbot: QtBot) -> None:
    view = TokenView(theme)
    qtbot.addWidget(view)
    view.set_ghosts(True)
    view.append_steps(
        [
            step(0, [token(0, "sun")]),
            step(1, [token(1, "set", Provenance.CORRECTED, depth=1)], [draft("rise", DraftStatus.REJECTED)]),
        ]
    )
    assert "sunriseset" in view.toPlainText()
    bar = FindBar(theme, lambda: [view])
    qtbot.addWidget(bar)
    bar.open()
    bar.words.setText("sunset")
    assert bar.count.text() == "1 of 1"
    assert marked(view) == [("sun", True), ("set", True)]
    bar.words.setText("rise")
    assert bar.count.text() == "No match"
    bar.leave()


def test_the_text_grows_and_shrinks_while_the_bar_is_open(theme: ThemeManager, qtbot: QtBot) -> None:
    view = TokenView(theme)
    qtbot.addWidget(view)
    view.resize(400, 150)
    view.show()
    bar = FindBar(theme, lambda: [view])
    qtbot.addWidget(bar)
    bar.open()
    bar.words.setText("cat")
    assert bar.count.text() == "No match"
    view.append_steps(story(*STORY))
    qtbot.waitUntil(lambda: bar.count.text() == "1 of 3")
    bar.find_previous()
    assert bar.count.text() == "3 of 3"
    view.append_steps([step(20 + i, [token(20 + i, f"\nline {i}")]) for i in range(60)])
    scroll = view.verticalScrollBar()
    scroll.setValue(scroll.maximum())
    view.append_steps([step(90, [token(90, "\none more cat")])])
    qtbot.waitUntil(lambda: bar.count.text() == "3 of 4")
    assert scroll.value() == scroll.maximum(), "a growing text is not scrolled away from its end"
    view.truncate(5)
    qtbot.waitUntil(lambda: bar.count.text() == "1 of 1")
    cursor = QTextCursor(view.document())
    cursor.setPosition(4)
    cursor.setPosition(7, QTextCursor.MoveMode.KeepAnchor)
    view.setTextCursor(cursor)
    bar.open()
    assert bar.words.text() == "cat"
    bar.leave()


def test_every_page_with_texts_is_searched(window: MainWindow, qtbot: QtBot) -> None:
    bar = window.find_bar
    compare, inspect, chat = window.page("compare"), window.page("inspect"), window.page("chat")
    assert isinstance(compare, ComparePage)
    assert isinstance(inspect, InspectPage)
    assert isinstance(chat, ChatPage)
    for number, pane in enumerate(compare.panes):
        pane.text.start("")
        pane.text.append_steps(story(*STORY[: 3 + 10 * number]))
    inspect.viewer.show_run("", story(*STORY))
    long = "\n".join(f"line {i}" for i in range(200)) + " cat"
    chat._show(
        Conversation.of(
            [
                Message(Role.USER, "a"),
                Message(Role.ASSISTANT, "cat"),
                Message(Role.USER, "b"),
                Message(Role.ASSISTANT, long),
            ]
        )
    )
    window.show_page("compare")
    bar.open()
    write(bar, "cat")
    assert bar.count.text() == "1 of 4"
    assert [len(marked(p.text)) for p in compare.panes] == [1, 3]
    bar.find_next()
    assert [any(front for _, front in marked(p.text)) for p in compare.panes] == [False, True]
    window.show_page("inspect")
    qtbot.waitUntil(lambda: bar.count.text() == "2 of 3")
    assert [len(marked(p.text)) for p in compare.panes] == [0, 0]
    window.show_page("chat")
    qtbot.waitUntil(lambda: bar.count.text() == "2 of 2")
    QApplication.processEvents()
    scroll = chat._scroll.verticalScrollBar()
    scroll.setValue(0)
    bar.find_previous()
    assert scroll.value() < scroll.maximum() // 2
    bar.find_next()
    assert scroll.value() > scroll.maximum() // 2
    window.show_page("train")
    qtbot.waitUntil(lambda: bar.count.text() == "This page shows no output")
