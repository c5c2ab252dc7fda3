"""The look-ahead card: its parts, and the model's own bigrams among them."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from app.theme.apply import ThemeManager
from app.widgets.embedding_card import EmbeddingCard
from pass_core.models.language_model import LanguageModel
from pass_core.settings import LookaheadPart
from tests.core.decoding.engine import ALL_PARTS, random_bigrams, random_lookahead


@pytest.fixture
def card(theme: ThemeManager, qtbot: QtBot) -> EmbeddingCard:
    card = EmbeddingCard(theme)
    qtbot.addWidget(card)
    return card


def read_buttons(card: EmbeddingCard) -> list[QPushButton]:
    return [b for b in card.findChildren(QPushButton) if b.text() == "Read…" and not b.isHidden()]


def test_bigrams_stand_with_the_parts_and_can_be_switched_off(
    card: EmbeddingCard, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    card.show_lookahead(random_lookahead(tiny_model), random_bigrams(tiny_model, 100))
    assert list(card.checks) == [LookaheadPart.BIGRAMS, LookaheadPart.REPEATS]
    assert card.checks[LookaheadPart.BIGRAMS].isEnabled()
    assert read_buttons(card) == []
    with qtbot.waitSignal(card.parts_changed) as changed:
        card.checks[LookaheadPart.BIGRAMS].setChecked(False)
    assert changed.args == [frozenset({LookaheadPart.BIGRAMS})]


def test_they_wait_while_a_sampler_does_their_work(card: EmbeddingCard, tiny_model: LanguageModel) -> None:
    card.show_lookahead(random_lookahead(tiny_model, 4, ALL_PARTS), random_bigrams(tiny_model, 100))
    bigrams, sampler = card.checks[LookaheadPart.BIGRAMS], card.checks[LookaheadPart.SAMPLER]
    assert not bigrams.isEnabled()
    sampler.setChecked(False)
    assert bigrams.isEnabled()
    card.set_disabled_parts(frozenset())
    assert not bigrams.isEnabled()


def test_those_not_read_are_offered_where_they_would_be_used(
    card: EmbeddingCard, tiny_model: LanguageModel, qtbot: QtBot
) -> None:
    card.show_lookahead(random_lookahead(tiny_model, 4, ALL_PARTS))
    assert LookaheadPart.BIGRAMS not in card.checks
    card.show_lookahead(random_lookahead(tiny_model))
    assert not card.checks[LookaheadPart.BIGRAMS].isEnabled()
    with qtbot.waitSignal(card.bigrams_requested):
        read_buttons(card)[0].click()
    card.show_lookahead(random_lookahead(tiny_model), random_bigrams(tiny_model, 100))
    assert card.checks[LookaheadPart.BIGRAMS].isEnabled()
    assert read_buttons(card) == []
