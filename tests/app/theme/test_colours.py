"""Every text can be read (WCAG 2.2, level AA) and every provenance told apart, by every eye, in both themes."""

from __future__ import annotations

from itertools import combinations

import pytest

from app.theme.roles import THEMES, Theme, TokenRole, Underline
from tests.app.theme.vision import DEFICIENCIES, contrast, distance

AA_TEXT, AA_SIGN = 4.5, 3.0  # 1.4.3 for text below 18 points, 1.4.11 for signs and outlines of focus
APART = 12.0  # six times what is just noticeable
GROUNDS = ("window", "surface", "sunken", "raised")
EYES = (None, *DEFICIENCIES)
EMITTED = tuple(r for r in TokenRole if r is not TokenRole.GHOST)


@pytest.fixture(params=sorted(THEMES))
def colors(request: pytest.FixtureRequest) -> Theme:
    return THEMES[request.param]


def test_the_formulas_give_the_known_figures() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the example of WCAG's understanding pages
    assert distance("#ffffff", "#000000") == pytest.approx(100.0, abs=0.1)
    assert distance("#808080", "#808080", "protanopia") == 0
    red, green = "#c02020", "#207000"
    assert distance(red, green, "deuteranopia") < 0.5 * distance(red, green)


@pytest.mark.parametrize("role", ["text", "text_muted", "text_faint", "accent", "success", "warning", "danger"])
@pytest.mark.parametrize("ground", GROUNDS)
def test_text_reads_on_every_ground(colors: Theme, role: str, ground: str) -> None:
    assert contrast(getattr(colors, role), getattr(colors, ground)) >= AA_TEXT


@pytest.mark.parametrize(
    ("front", "back"),
    [
        ("on_accent", "accent"),
        ("on_accent", "accent_hover"),
        ("on_accent", "accent_pressed"),
        ("accent", "accent_soft"),
        ("text", "accent_soft"),
        ("text_muted", "accent_soft"),
        ("text", "selection"),
        ("success", "success_soft"),
        ("warning", "warning_soft"),
        ("danger", "danger_soft"),
        ("text", "danger_soft"),
        ("text", "warning_soft"),
    ],
)
def test_text_reads_on_coloured_grounds(colors: Theme, front: str, back: str) -> None:
    assert contrast(getattr(colors, front), getattr(colors, back)) >= AA_TEXT


@pytest.mark.parametrize("role", list(TokenRole))
def test_tokens_read_on_their_fill_and_on_a_selection(colors: Theme, role: TokenRole) -> None:
    style = colors.tokens[role]
    least = AA_SIGN if role is TokenRole.GHOST else AA_TEXT  # a rejected draft is struck out and no part of the text
    assert contrast(style.color, style.fill or colors.surface) >= least
    assert contrast(style.color, colors.surface) >= least


def test_what_is_focused_and_every_curve_stand_out(colors: Theme) -> None:
    for ground in GROUNDS:
        assert contrast(colors.accent, getattr(colors, ground)) >= AA_SIGN
    for curve in colors.series:
        assert contrast(curve, colors.surface) >= AA_SIGN


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(("a", "b"), list(combinations(EMITTED, 2)))
def test_provenances_differ_for_every_eye(colors: Theme, a: TokenRole, b: TokenRole, eye: str | None) -> None:
    assert distance(colors.tokens[a].color, colors.tokens[b].color, eye) >= APART


def test_no_two_provenances_have_the_same_underline(colors: Theme) -> None:
    """So that they can be told apart without any colour; a rejected draft is struck out instead."""
    lines = [colors.tokens[r].underline for r in EMITTED]
    assert len(set(lines)) == len(lines)
    assert colors.tokens[TokenRole.MODEL].underline is Underline.NoUnderline
    assert colors.tokens[TokenRole.GHOST].strike
