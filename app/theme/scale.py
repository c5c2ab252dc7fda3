"""How large everything is drawn: one factor for fonts, fixed sizes, icons and the style sheet."""

from __future__ import annotations

import re

from PySide6.QtCore import QSize
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QAbstractButton, QApplication, QWidget

from app.theme.factor import STEPS, factor, next_step, scaled, set_factor
from app.theme.fonts import mono

__all__ = [
    "STEPS",
    "factor",
    "next_step",
    "paint_scaled",
    "resize_all",
    "scaled",
    "scaled_sheet",
    "set_factor",
    "sized",
]

LENGTH = re.compile(r"(?<![\w.#-])(\d+(?:\.\d+)?)(pt|px)\b")
HAIRLINE = 2.0  # pixels: lines stay as thin as they are
_PROPERTY = "passSizes"


def paint_scaled(painter: QPainter, widget: QWidget) -> float:
    """Let `painter` draw `widget` in lengths of the usual size (with fonts that are not zoomed).

    Returns:
        the width of the widget in these lengths.
    """
    painter.scale(factor(), factor())
    return widget.width() / factor()


def sized(widget: QWidget, **lengths: float) -> None:
    """Give `widget` sizes that follow the zoom.

    Args:
        lengths: in pixels of the usual size. width, height: fixed; min_width, min_height, max_width, max_height; icon:
            both sides of a button's icon. In points: mono, the size of the font of tokens and figures.
    """
    known = widget.property(_PROPERTY) or {}
    widget.setProperty(_PROPERTY, {**known, **lengths})
    _apply(widget, lengths)


def resize_all() -> None:
    """Bring every widget that has `sized` lengths to the present size."""
    for widget in QApplication.allWidgets():
        if lengths := widget.property(_PROPERTY):
            _apply(widget, lengths)


def scaled_sheet(sheet: str) -> str:
    """A style sheet with its lengths at the present size."""
    if factor() == 1.0:
        return sheet

    def replace(match: re.Match[str]) -> str:
        value, unit = float(match[1]), match[2]
        if unit == "px":
            return f"{match[1] if value <= HAIRLINE else scaled(value)}px"
        return f"{value * factor():.2f}pt"

    return LENGTH.sub(replace, sheet)


def _apply(widget: QWidget, lengths: dict[str, float]) -> None:
    for name, length in lengths.items():
        pixels = scaled(length)
        match name:
            case "width":
                widget.setFixedWidth(pixels)
            case "height":
                widget.setFixedHeight(pixels)
            case "min_width":
                widget.setMinimumWidth(pixels)
            case "min_height":
                widget.setMinimumHeight(pixels)
            case "max_width":
                widget.setMaximumWidth(pixels)
            case "max_height":
                widget.setMaximumHeight(pixels)
            case "icon" if isinstance(widget, QAbstractButton):
                widget.setIconSize(QSize(pixels, pixels))
            case "mono":
                widget.setFont(mono(length))
            case _:
                raise TypeError(f"{type(widget).__name__} has no size {name!r}")
