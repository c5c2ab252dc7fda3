"""Where the preferences open: at the end of the File menu, and by Ctrl+,."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QAction, QKeySequence

from app.preferences.dialog import PreferencesDialog

if TYPE_CHECKING:
    from app.history.service import HistoryService
    from app.state.context import AppContext
    from app.window import MainWindow


def add_preferences_entry(window: MainWindow, history: HistoryService, context: AppContext) -> QAction:
    """The entry above Quit."""
    quit_entry = window.file_menu.actions()[-1]
    entry = QAction("Preferences…", window)
    # Qt's own Preferences key is none on some platforms
    entry.setShortcut(QKeySequence("Ctrl+,"))
    entry.setMenuRole(QAction.MenuRole.PreferencesRole)
    entry.triggered.connect(lambda: _open(window, history, context))
    window.file_menu.insertAction(quit_entry, entry)
    window.file_menu.insertSeparator(quit_entry)
    return entry


def _open(window: MainWindow, history: HistoryService, context: AppContext) -> None:
    dialog = PreferencesDialog(context, history, window.set_theme, window.set_zoom, window)
    dialog.finished.connect(dialog.deleteLater)
    dialog.open()
