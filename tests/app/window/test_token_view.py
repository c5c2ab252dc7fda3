"""Every character is drawn in the provenance that the events say, at its exact place."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QTextCursor
from pytestqt.qtbot import QtBot

from app.theme.apply import ThemeManager, ThemeMode
from app.theme.roles import THEMES, TokenRole
from app.widgets.token_layout import utf16_length
from app.widgets.token_view import TokenView
from pass_core.decoding.events import DraftSource, DraftStatus, Provenance, StepEvent, StopReason
from tests.app.window.events import draft, step, token

P = Provenance
PROMPT = "Once 🙂 "


def every_provenance() -> list[StepEvent]:
    """All five looks at known places; an emoji whose four bytes come in three tokens of different provenance."""
    face = "🦊".encode()
    return [
        step(0, [token(0, "a")]),
        step(
            1,
            [
                token(1, " b", P.ACCEPTED, depth=1),
                token(2, "", P.ACCEPTED, data=face[:1], depth=2),
                token(3, "", P.CORRECTED, data=face[1:3], depth=3),
            ],
            [
                draft(" b", DraftStatus.ACCEPTED, index=0),
                draft("?", DraftStatus.ACCEPTED, depth=2, index=1, parent=0),
                draft("x", DraftStatus.REJECTED, depth=3, index=2, parent=1),
            ],
        ),
        step(2, [token(4, "🦊", P.BONUS, data=face[3:])]),
        step(3, [token(5, "né", P.ACCEPTED, depth=1, source=DraftSource.LOOKUP)]),
        step(
            4,
            [token(6, "\nd", P.CORRECTED, depth=1)],
            [draft("\n", DraftStatus.REJECTED, p_draft=0.2), draft(" no", DraftStatus.REJECTED, index=1, p_draft=0.6)],
        ),
    ]


EXPECTED = [
    ("a", TokenRole.MODEL),
    (" b", TokenRole.ACCEPTED),
    ("🦊", TokenRole.BONUS),
    ("né", TokenRole.LOOKUP),
    ("\nd", TokenRole.CORRECTED),
]


@pytest.fixture
def view(theme: ThemeManager, qtbot: QtBot) -> TokenView:
    view = TokenView(theme)
    qtbot.addWidget(view)
    view.resize(600, 300)
    view.show()
    return view


def drawn(view: TokenView) -> list[tuple[str, TokenRole | None]]:
    """The document's text cut where the drawn role changes; block ends, which have no format, follow their text."""
    out: list[tuple[str, TokenRole | None]] = []
    text = view.toPlainText()
    position = 0
    for character in text:
        cursor = QTextCursor(view.document())
        role = view.role_at(position) if character != "\n" else None
        if out and (out[-1][1] is role or character == "\n"):
            out[-1] = (out[-1][0] + character, out[-1][1])
        else:
            out.append((character, role))
        position += utf16_length(character)
        del cursor
    return out


@pytest.mark.parametrize("batch", [1, 2, 99])
def test_each_character_has_the_role_of_its_event(view: TokenView, batch: int) -> None:
    view.start(PROMPT)
    steps = every_provenance()
    for i in range(0, len(steps), batch):
        view.append_steps(steps[i : i + batch])
    assert view.toPlainText() == PROMPT + "".join(t for t, _ in EXPECTED)
    # The line end belongs to the corrected token but is a block boundary, drawn with what stands before it.
    assert drawn(view) == [
        (PROMPT, None),
        ("a", TokenRole.MODEL),
        (" b", TokenRole.ACCEPTED),
        ("🦊", TokenRole.BONUS),
        ("né\n", TokenRole.LOOKUP),
        ("d", TokenRole.CORRECTED),
    ]


def test_positions_are_utf16(view: TokenView) -> None:
    view.start(PROMPT)
    view.append_steps(every_provenance())
    layout = view.layout_
    spans = {p.token.index: layout.span(i) for i, p in enumerate(layout.pieces) if p.token is not None}
    assert spans == {0: (0, 1), 1: (1, 3), 2: (3, 3), 3: (3, 3), 4: (3, 5), 5: (5, 7), 6: (7, 9)}
    found = [layout.pieces[number].token for number in (layout.at(3), layout.at(4)) if number is not None]
    assert [t.index for t in found if t is not None] == [4, 4]  # the token that completed the character
    assert layout.at(9) is None


@pytest.mark.parametrize("name", ["light", "dark"])
def test_colours_and_underlines_follow_the_theme(view: TokenView, theme: ThemeManager, name: str) -> None:
    view.start()
    view.append_steps(every_provenance())
    theme.set_mode(ThemeMode(name))
    try:
        cursor = QTextCursor(view.document())
        position = 0
        for text, role in EXPECTED:
            position += utf16_length(text)
            cursor.setPosition(position)
            look, style = cursor.charFormat(), THEMES[name].tokens[role]
            assert look.foreground().color() == QColor(style.color)
            assert look.underlineStyle() is style.underline
    finally:
        theme.set_mode(ThemeMode.LIGHT)


def test_looks_differ_in_more_than_colour() -> None:
    for theme in THEMES.values():
        looks = {(s.underline, s.strike) for s in theme.tokens.values()}
        assert len(looks) == len(theme.tokens)


def test_ghosts_stand_beside_the_correction_and_go_away(view: TokenView) -> None:
    view.start()
    view.append_steps(every_provenance()[:2])
    view.set_ghosts(True)
    view.append_steps(every_provenance()[2:])
    assert drawn(view)[2:] == [
        ("x", TokenRole.GHOST),
        ("🦊", TokenRole.BONUS),
        ("né", TokenRole.LOOKUP),
        (" no\n", TokenRole.GHOST),  # of two rejected drafts the one that the draft model preferred
        ("d", TokenRole.CORRECTED),
    ]
    view.set_ghosts(False)
    assert TokenRole.GHOST not in {role for _, role in drawn(view)}
    assert view.plain_text() == "".join(t for t, _ in EXPECTED)


def test_a_rejected_line_end_does_not_break_the_line(view: TokenView) -> None:
    view.set_ghosts(True)
    view.append_steps([step(0, [token(0, "b", P.CORRECTED, depth=1)], [draft("\n\n", DraftStatus.REJECTED)])])
    assert view.toPlainText() == "⏎⏎b"


def test_copy_gives_the_true_text(view: TokenView) -> None:
    view.start("ab")
    view.set_ghosts(True)
    view.append_steps(
        [step(0, [token(0, "c\r"), token(1, "🦊d", P.CORRECTED, depth=1)], [draft("no", DraftStatus.REJECTED)])]
    )
    view.selectAll()
    assert view.createMimeDataFromSelection().text() == "abc\r🦊d"
    cursor = view.textCursor()
    cursor.setPosition(3)
    cursor.setPosition(8, QTextCursor.MoveMode.KeepAnchor)
    view.setTextCursor(cursor)
    assert view.createMimeDataFromSelection().text() == "\r🦊"


def test_the_stop_string_is_shown_as_no_part_of_the_text(view: TokenView) -> None:
    last = step(0, [token(0, "word"), token(1, "END")], stop=StopReason.STOP_STRING, overlap=3)
    view.append_steps([last])
    assert drawn(view) == [("word", TokenRole.MODEL), ("END", TokenRole.GHOST)]


def test_hover_finds_the_token_under_the_mouse(view: TokenView, qtbot: QtBot) -> None:
    view.append_steps([step(0, [token(0, "ab"), token(1, "cd", P.ACCEPTED, depth=1)])])
    cursor = QTextCursor(view.document())
    for position, wanted in ((0, 0), (1, 0), (2, 1), (3, 1)):
        cursor.setPosition(position)
        left = view.cursorRect(cursor)
        cursor.setPosition(position + 1)
        right = view.cursorRect(cursor)
        for share in (0.25, 0.75):
            x = round(left.x() + share * (right.x() - left.x()))
            assert view.piece_at(QPoint(x, left.center().y())) == wanted
    assert view.piece_at(QPoint(right.x() + 60, left.center().y())) is None
    assert view.piece_at(QPoint(left.x(), view.viewport().height() - 4)) is None


def test_click_tells_step_and_token(view: TokenView, qtbot: QtBot) -> None:
    first = step(0, [token(0, "abcdef")])
    view.append_steps([first])
    cursor = QTextCursor(view.document())
    cursor.setPosition(2)
    with qtbot.waitSignal(view.token_clicked) as clicked:
        qtbot.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=view.cursorRect(cursor).center())
    assert clicked.args == [first, first.tokens[0]]


def test_hover_card_names_everything(view: TokenView) -> None:
    steps = every_provenance()
    view.append_steps(steps)
    view.show_card_for(1)
    card = view.hover_card
    shown = " ".join(label.text() for label in card.findChildren(type(card.token)))
    for wanted in ("·b", "id 101", "Accepted", "50.0 %", "25.0 %", "Draft position 1 of k = 5"):
        assert wanted in shown
    view.show_card_for(3)
    assert card.token.text() == "<0x9F><0xA6>"  # bytes that are no whole character
    card.hide()


def test_follows_the_end_only_while_it_is_in_sight(view: TokenView) -> None:
    view.append_steps([step(i, [token(i, f"line {i}\n")]) for i in range(60)])
    bar = view.verticalScrollBar()
    assert bar.maximum() > 0
    assert bar.value() == bar.maximum()
    bar.setValue(3)
    view.append_steps([step(60, [token(60, "more\nand more\n")])])
    assert bar.value() == 3


def test_the_card_goes_with_its_page(view: TokenView) -> None:
    view.append_steps(every_provenance())
    view.show_card_for(1)
    assert view.hover_card.isVisible()
    view.hide()
    assert view.hover_card.isHidden()
