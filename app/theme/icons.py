"""Icons (the Phosphor set of qtawesome) whose colour follows the theme."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Protocol

import qtawesome
from PySide6.QtCore import QObject
from PySide6.QtGui import QIcon
from qtawesome.iconic_font import IconicFont

from app.theme.apply import ThemeManager
from app.theme.roles import Theme


@functools.cache
def _phosphor() -> Any:
    """The icons of this one font. qtawesome.icon would load all twelve of its fonts: that takes time and memory, and Qt
    looks in each of them for the letters of a script that other fonts lack."""
    folder = Path(qtawesome.__file__).parent / "fonts"
    (font,), (names,) = folder.glob("phosphor-*.ttf"), folder.glob("phosphor-charmap-*.json")
    return IconicFont(("ph", font.name, names.name, str(folder)))


class HasIcon(Protocol):
    """A button or action."""

    def setIcon(self, icon: QIcon, /) -> None: ...


def icon(name: str, theme: Theme, role: str = "text_muted", on_role: str = "accent") -> QIcon:
    """An icon in the colour of a theme role; checked buttons show it in `on_role`.

    Args:
        name: qtawesome name, "ph.play".
        role, on_role: names of colour roles of `Theme`.
    """
    return _phosphor().icon(
        name,
        color=getattr(theme, role),
        color_on=getattr(theme, on_role),
        color_disabled=theme.text_faint,
    )


def set_icon(
    target: HasIcon, name: str, theme: ThemeManager, role: str = "text_muted", on_role: str = "accent"
) -> None:
    """Give `target` an icon now and whenever the theme changes, as long as it lives."""
    previous = getattr(target, "_icon_refresher", None)
    if isinstance(previous, _Refresher):
        if (previous.name, previous.role, previous.on_role) == (name, role, on_role):
            return  # drawn already; a status line asks many times a second
        previous.name, previous.role, previous.on_role = name, role, on_role
        previous.refresh(theme.current)
        return
    refresher = _Refresher(target, name, role, on_role)
    refresher.refresh(theme.current)
    theme.changed.connect(refresher.refresh)
    target._icon_refresher = refresher  # type: ignore[attr-defined]


class _Refresher(QObject):
    """A child of its target, so that the connection dies with it."""

    def __init__(self, target: HasIcon, name: str, role: str, on_role: str) -> None:
        super().__init__(target if isinstance(target, QObject) else None)
        self._target, self.name, self.role, self.on_role = target, name, role, on_role

    def refresh(self, theme: Theme) -> None:
        self._target.setIcon(icon(self.name, theme, self.role, self.on_role))
