"""The two fonts of the interface, at the present size."""

from __future__ import annotations

from PySide6.QtGui import QFont

from app.theme.factor import factor

SANS_FAMILY = "Inter"
MONO_FAMILY = "JetBrains Mono NL"
BASE_POINT_SIZE = 10


def sans(points: float = BASE_POINT_SIZE, weight: QFont.Weight = QFont.Weight.Normal, *, zoomed: bool = True) -> QFont:
    """The interface's font; not `zoomed` for painters that are scaled themselves."""
    font = QFont([SANS_FAMILY, "Segoe UI", "SF Pro Text", "Noto Sans", "DejaVu Sans", "sans-serif"])
    font.setPointSizeF(points * (factor() if zoomed else 1.0))
    font.setWeight(weight)
    font.setFeature(QFont.Tag("tnum"), 1)  # figures of equal width: running numbers do not jitter
    return font


def mono(points: float = BASE_POINT_SIZE, *, zoomed: bool = True) -> QFont:
    """The font of tokens and figures; `zoomed` as in `sans`."""
    families = [MONO_FAMILY, "JetBrains Mono", "SF Mono", "Consolas", "Noto Sans Mono", "DejaVu Sans Mono", "monospace"]
    font = QFont(families)
    font.setPointSizeF(points * (factor() if zoomed else 1.0))
    font.setStyleHint(QFont.StyleHint.Monospace)
    font.setStyleStrategy(QFont.StyleStrategy.PreferAntialias)
    return font
