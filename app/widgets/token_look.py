"""How tokens look in the shown text, and what stands there while there are none."""

from __future__ import annotations

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QPainter, QTextCharFormat
from PySide6.QtWidgets import QWidget

from app.theme.fonts import sans
from app.theme.roles import Theme, TokenRole
from app.theme.scale import scaled

ROLE_PROPERTY = QTextCharFormat.Property.UserProperty + 1


def token_formats(theme: Theme) -> dict[TokenRole | None, QTextCharFormat]:
    """The format of each role; None is the prompt's."""
    formats: dict[TokenRole | None, QTextCharFormat] = {}
    for role, style in theme.tokens.items():
        f = formats[role] = QTextCharFormat()
        f.setForeground(QColor(style.color))
        if style.fill:
            f.setBackground(QColor(style.fill))
        f.setUnderlineStyle(style.underline)
        f.setUnderlineColor(QColor(style.color))
        f.setFontStrikeOut(style.strike)
        f.setProperty(int(ROLE_PROPERTY), role.value)
    prompt = formats[None] = QTextCharFormat()
    prompt.setForeground(QColor(theme.text_muted))
    return formats


def paint_empty(viewport: QWidget, theme: Theme, title: str, text: str) -> None:
    """A title and a text in the middle of a view that shows nothing."""
    painter = QPainter(viewport)
    area = viewport.rect().adjusted(32, 0, -32, 0)
    painter.setFont(sans(13, sans().Weight.DemiBold))
    painter.setPen(QColor(theme.text_muted))
    middle = area.center().y()
    flags = Qt.AlignmentFlag.AlignHCenter | Qt.TextFlag.TextWordWrap
    painter.drawText(QRect(area.left(), 0, area.width(), middle - 6), int(flags | Qt.AlignmentFlag.AlignBottom), title)
    painter.setFont(sans(10))
    painter.setPen(QColor(theme.text_faint))
    width = min(area.width(), scaled(440))
    painter.drawText(
        QRect(area.center().x() - width // 2, middle + 6, width, area.height() // 2),
        int(flags | Qt.AlignmentFlag.AlignTop),
        text,
    )
