"""Two look-ahead choices on the same text: the view opens from Compare and shows who guessed which token."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextCursor
from pytestqt.qtbot import QtBot

from app.compare.guess_view import GuessDialog, GuessRow
from app.compare.guesses import Guessed
from app.compare.page import ComparePage
from app.compare.pane_setup import PaneWish
from app.compare.ready import PLAIN
from app.state.context import AppContext
from app.state.setup import GenerationSetup
from pass_core.models.shipped import default_lookahead
from pass_core.settings import DecodingSettings, StopConditions


@pytest.fixture
def page(ready: AppContext, qtbot: QtBot) -> ComparePage:
    assert ready.model is not None
    ready.set_lookahead(default_lookahead(ready.model))
    ready.setup.set(GenerationSetup("The sea", seed=5, stop=StopConditions(24, ignore_eos=True)))
    page = ComparePage(ready)
    qtbot.addWidget(page)
    page.show()
    return page


def test_the_common_text_shows_whose_draft_each_token_was(page: ComparePage, qtbot: QtBot) -> None:
    guesses = page.findChild(GuessRow)
    assert guesses is not None
    assert not guesses.button.isEnabled()
    page.panes[0].setup.set_wish(PaneWish(PLAIN))
    page.panes[1].setup.set_wish(PaneWish(DecodingSettings(k=3, auto=False)))
    with qtbot.waitSignal(page.runner.finished, timeout=120_000):
        page.compare()
    assert guesses.button.isEnabled()
    qtbot.mouseClick(guesses.button, Qt.MouseButton.LeftButton)
    dialog = guesses.findChild(GuessDialog)
    assert dialog is not None
    b = page.runner.results[1][0]
    accepted = sum(s.accepted for s in b.steps)
    assert len(dialog.tokens) == 24
    assert dialog.text.toPlainText() == "".join(t.text for s in b.steps for t in s.tokens)
    assert dialog.counts[Guessed.B] == accepted
    assert dialog.counts[Guessed.A] == dialog.counts[Guessed.BOTH] == 0  # plain decoding guesses nothing
    assert f"B alone {accepted}" in dialog.legend.toPlainText()
    cursor = QTextCursor(dialog.text.document())
    cursor.setPosition(1)
    assert "A: not drafted" in cursor.charFormat().toolTip()
    with qtbot.waitSignal(dialog.destroyed):
        dialog.close()
