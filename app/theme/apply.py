"""Puts a theme on the application: palette, style sheet, fonts, and following the system."""

from __future__ import annotations

from dataclasses import fields
from enum import StrEnum
from importlib import resources
from pathlib import Path
from string import Template

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFontDatabase, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

from app.theme import scale
from app.theme.fonts import MONO_FAMILY, SANS_FAMILY, sans
from app.theme.roles import DARK, LIGHT, THEMES, Theme


class ThemeMode(StrEnum):
    """What the user chose."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


class ThemeManager(QObject):
    """The current theme of the application, and how large it is drawn.

    Signals:
        changed(Theme): after palette, style sheet or sizes were replaced.
    """

    changed = Signal(object)

    def __init__(self, app: QApplication, mode: ThemeMode = ThemeMode.SYSTEM, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._app = app
        self._mode = mode
        self.current: Theme = LIGHT
        load_fonts()
        app.setStyle("Fusion")
        app.setFont(sans())
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._system_changed)
        self._apply(self._resolve())

    @property
    def mode(self) -> ThemeMode:
        return self._mode

    def set_mode(self, mode: ThemeMode) -> None:
        """Follow the system, or stay light or dark. To draw the whole window anew takes a second: only where needed."""
        self._mode = mode
        if self._resolve() is not self.current:
            self._apply(self._resolve())
            self.changed.emit(self.current)

    @property
    def zoom(self) -> float:
        """How large everything is drawn; 1 is the usual size."""
        return scale.factor()

    def set_zoom(self, factor: float) -> None:
        """Draw the whole window larger or smaller."""
        before = scale.factor()
        scale.set_factor(factor)
        if scale.factor() != before:
            self._app.setFont(sans())
            self._apply(self.current)
            scale.resize_all()
            self.changed.emit(self.current)

    def _system_changed(self, *_: object) -> None:
        if self._mode is ThemeMode.SYSTEM and self._resolve() is not self.current:
            self._apply(self._resolve())
            self.changed.emit(self.current)

    def _resolve(self) -> Theme:
        if self._mode is not ThemeMode.SYSTEM:
            return THEMES[self._mode.value]
        return DARK if QGuiApplication.styleHints().colorScheme() is Qt.ColorScheme.Dark else LIGHT

    def _apply(self, theme: Theme) -> None:
        self.current = theme
        self._app.setPalette(palette(theme))
        self._app.setStyleSheet(scale.scaled_sheet(style_sheet(theme)))


def load_fonts() -> None:
    """Register the fonts that ship with the program, so that it looks the same where none are installed."""
    installed = set(QFontDatabase.families())
    if SANS_FAMILY in installed and MONO_FAMILY in installed:
        return
    folder = resources.files("resources") / "fonts"
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith((".ttf", ".otf")):
            QFontDatabase.addApplicationFontFromData(entry.read_bytes())


def palette(theme: Theme) -> QPalette:
    """The Qt palette of a theme, for what the style sheet does not reach."""
    p = QPalette()
    role = QPalette.ColorRole
    for r, c in {
        role.Window: theme.window,
        role.WindowText: theme.text,
        role.Base: theme.surface,
        role.AlternateBase: theme.sunken,
        role.Text: theme.text,
        role.Button: theme.surface,
        role.ButtonText: theme.text,
        role.ToolTipBase: theme.raised,
        role.ToolTipText: theme.text,
        role.PlaceholderText: theme.text_faint,
        role.Highlight: theme.selection,
        role.HighlightedText: theme.text,
        role.Link: theme.accent,
        role.Accent: theme.accent,
        role.Mid: theme.border,
        role.Dark: theme.border_strong,
        role.Light: theme.surface,
    }.items():
        p.setColor(r, QColor(c))
    for r in (role.WindowText, role.Text, role.ButtonText):
        p.setColor(QPalette.ColorGroup.Disabled, r, QColor(theme.text_faint))
    return p


def style_sheet(theme: Theme) -> str:
    """The style sheets of this folder (in the order of their numbers) with `$role` replaced by the theme's colours."""
    colors = {f.name: v for f in fields(theme) if isinstance(v := getattr(theme, f.name), str)}
    colors |= {f"series{i}": c for i, c in enumerate(theme.series)}
    icons = resources.files("resources") / "icons"
    colors["check"] = Path(str(icons / f"check-{'dark' if theme.dark else 'light'}.svg")).as_posix()
    for name in ("check-disabled", "sort-up", "sort-down"):
        colors[name.replace("-", "_")] = Path(str(icons / f"{name}.svg")).as_posix()
    folder = resources.files("app") / "theme"
    sheets = sorted((e for e in folder.iterdir() if e.name.endswith(".qss")), key=lambda e: e.name)
    return "\n".join(Template(e.read_text(encoding="utf-8")).substitute(colors) for e in sheets)
