"""Colour roles of both themes, and how a token's provenance looks.

The provenance colours derive from the palette of Okabe and Ito, which stays distinguishable with every common colour
vision deficiency; each also has an underline style of its own, so that colour is never the only sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from PySide6.QtGui import QTextCharFormat

from pass_core.decoding.events import DraftSource, Provenance, TokenEvent

Underline = QTextCharFormat.UnderlineStyle


class TokenRole(StrEnum):
    """What a piece of shown text is: a token by its provenance (and source), or a rejected draft."""

    MODEL = "model"
    ACCEPTED = "accepted"
    LOOKUP = "lookup"
    CORRECTED = "corrected"
    BONUS = "bonus"
    GHOST = "ghost"

    @classmethod
    def of(cls, token: TokenEvent) -> TokenRole:
        """The role of an emitted token, from its event alone."""
        if token.provenance is Provenance.ACCEPTED and token.source is DraftSource.LOOKUP:
            return cls.LOOKUP
        return cls(token.provenance.value)


ROLE_TITLES: Mapping[TokenRole, str] = {
    TokenRole.MODEL: "Model",
    TokenRole.ACCEPTED: "Accepted",
    TokenRole.LOOKUP: "From prompt",
    TokenRole.CORRECTED: "Corrected",
    TokenRole.BONUS: "Bonus",
    TokenRole.GHOST: "Rejected",
}
ROLE_EXPLANATIONS: Mapping[TokenRole, str] = {
    TokenRole.MODEL: "An exact sample from the model's own row, without any draft.",
    TokenRole.ACCEPTED: "A look-ahead draft that the model checked and kept: a token that cost no call of its own.",
    TokenRole.LOOKUP: "A draft copied from earlier text (prompt lookup) that the model checked and kept.",
    TokenRole.CORRECTED: "A draft was wrong here, so the model's own token replaces it.",
    TokenRole.BONUS: "Every draft before it was kept, so the same call gave one more exact token.",
    TokenRole.GHOST: "A draft that the model examined and rejected. It never enters the text.",
}


@dataclass(frozen=True, slots=True)
class TokenStyle:
    """Look of one token role: text colour, soft fill behind it, underline style."""

    color: str
    fill: str
    underline: Underline
    strike: bool = False


@dataclass(frozen=True, slots=True)
class Theme:
    """Every colour that the window uses, by role.

    Attributes:
        name: "light" or "dark".
        window: behind everything; surface: cards and panels; sunken: fields and wells; raised: menus and hover cards.
        border, border_strong: hairlines, and outlines of controls.
        text, text_muted, text_faint, text_disabled: body, secondary, hints; what cannot be used.
        accent, accent_hover, accent_pressed, on_accent, accent_soft: the one colour of action, and its tints.
        selection: selected text's background.
        success, warning, danger and their soft fills: states.
        grid: plot grid lines. series: line colours for plots with several curves, colour-blind safe.
        tokens: look of each token role.
    """

    name: str
    window: str
    surface: str
    sunken: str
    raised: str
    border: str
    border_strong: str
    text: str
    text_muted: str
    text_faint: str
    text_disabled: str
    accent: str
    accent_hover: str
    accent_pressed: str
    on_accent: str
    accent_soft: str
    selection: str
    success: str
    success_soft: str
    warning: str
    warning_soft: str
    danger: str
    danger_soft: str
    grid: str
    series: tuple[str, ...]
    tokens: Mapping[TokenRole, TokenStyle]

    @property
    def dark(self) -> bool:
        return self.name == "dark"


LIGHT = Theme(
    name="light",
    window="#f5f6f8",
    surface="#ffffff",
    sunken="#f3f5f8",
    raised="#ffffff",
    border="#e3e7ed",
    border_strong="#cbd2dc",
    text="#1b2330",
    text_muted="#586475",
    text_faint="#66717f",
    text_disabled="#8792a2",
    accent="#2f5bd7",
    accent_hover="#274fc0",
    accent_pressed="#2143a6",
    on_accent="#ffffff",
    accent_soft="#e8eefc",
    selection="#cfdcfb",
    success="#00765a",
    success_soft="#e2f4ee",
    warning="#8a5a00",
    warning_soft="#fdf2dc",
    danger="#b3362a",
    danger_soft="#fcebe8",
    grid="#e3e7ed",
    series=("#2f5bd7", "#00875f", "#c25100", "#a8447f", "#8a6d00", "#4a91b8"),
    tokens={
        TokenRole.MODEL: TokenStyle("#1b2330", "", Underline.NoUnderline),
        TokenRole.ACCEPTED: TokenStyle("#00704f", "#e1f4ec", Underline.SingleUnderline),
        TokenRole.LOOKUP: TokenStyle("#624b00", "#f8f0d2", Underline.DashDotLine),
        TokenRole.CORRECTED: TokenStyle("#c0500e", "", Underline.WaveUnderline),
        TokenRole.BONUS: TokenStyle("#005493", "", Underline.DashUnderline),
        TokenRole.GHOST: TokenStyle("#7d8794", "", Underline.NoUnderline, strike=True),
    },
)

DARK = Theme(
    name="dark",
    window="#12151a",
    surface="#1a1e25",
    sunken="#14181e",
    raised="#232831",
    border="#2a303a",
    border_strong="#3d4552",
    text="#e4e8ee",
    text_muted="#9ba6b5",
    text_faint="#8290a2",
    text_disabled="#6c7786",
    accent="#7d9bff",
    accent_hover="#94adff",
    accent_pressed="#6a89f0",
    on_accent="#0d1220",
    accent_soft="#232d49",
    selection="#33457a",
    success="#4fd0a5",
    success_soft="#16322a",
    warning="#f0b95a",
    warning_soft="#36290f",
    danger="#ff8d80",
    danger_soft="#3b1d1a",
    grid="#2a303a",
    series=("#7d9bff", "#4fd0a5", "#ff9559", "#e59ac6", "#e6c34d", "#7cc5e8"),
    tokens={
        TokenRole.MODEL: TokenStyle("#e4e8ee", "", Underline.NoUnderline),
        TokenRole.ACCEPTED: TokenStyle("#54d6aa", "#15332a", Underline.SingleUnderline),
        TokenRole.LOOKUP: TokenStyle("#e6c34d", "#332c12", Underline.DashDotLine),
        TokenRole.CORRECTED: TokenStyle("#ff945e", "", Underline.WaveUnderline),
        TokenRole.BONUS: TokenStyle("#75bbf4", "", Underline.DashUnderline),
        TokenRole.GHOST: TokenStyle("#6c7786", "", Underline.NoUnderline, strike=True),
    },
)

THEMES: Mapping[str, Theme] = {"light": LIGHT, "dark": DARK}
