"""How large everything is drawn: one factor for fonts, fixed sizes, icons and the style sheet."""

from __future__ import annotations

import re

from PySide6.QtCore import QSize
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QAbstractButton, QApplication, QWidget

STEPS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)
LENGTH = re.compile(r"(?<![\w.#-])(\d+(?:\.\d+)?)(pt|px)\b")
HAIRLINE = 2.0  # pixels: lines stay as thin as they are
_PROPERTY = "passSizes"
_factor = 1.0


def factor() -> float:
    """The present factor; 1 is the usual size."""
    return _factor


def set_factor(value: float) -> None:
    """Change it for everything that is drawn or sized from now on (`resize_all` takes along what is there)."""
    global _factor
    _factor = min(STEPS[-1], max(STEPS[0], value))


def next_step(steps: int) -> float:
    """The factor that many steps larger (smaller: below 0) than the present one."""
    nearest = min(range(len(STEPS)), key=lambda i: abs(STEPS[i] - _factor))
    return STEPS[min(len(STEPS) - 1, max(0, nearest + steps))]


def scaled(pixels: float) -> int:
    """A length of the usual size at the present one."""
    return round(pixels * _factor)


def paint_scaled(painter: QPainter, widget: QWidget) -> float:
    """Let `painter` draw `widget` in lengths of the usual size (with fonts that are not zoomed).

    Returns:
        the width of the widget in these lengths.
    """
    painter.scale(_factor, _factor)
    return widget.width() / _factor


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
    if _factor == 1.0:
        return sheet

    def replace(match: re.Match[str]) -> str:
        value, unit = float(match[1]), match[2]
        if unit == "px":
            return f"{match[1] if value <= HAIRLINE else scaled(value)}px"
        return f"{value * _factor:.2f}pt"

    return LENGTH.sub(replace, sheet)


def _apply(widget: QWidget, lengths: dict[str, float]) -> None:
    from app.theme.apply import mono

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
