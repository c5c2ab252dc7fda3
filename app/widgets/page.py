"""What the window asks of a page; the answers here are the defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QAction
from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from app.engine.run import Run
    from app.state.preferences import Preferences


class Page(QWidget):
    """A page of the rail."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")

    def page_shown(self) -> None:
        """Became visible: timers may start."""

    def page_hidden(self) -> None:
        """Nobody looks: timers rest."""

    def shut_down(self) -> None:
        """The window closes: ask running work to end; must not block."""

    def actions_for_menu(self) -> list[QAction]:
        """Entries of a menu named after the page; none, no menu."""
        return []

    def actions_for_file_menu(self) -> list[QAction]:
        """Entries at the top of the File menu."""
        return []

    def shown_run(self) -> Run | None:
        """The run whose figures the status line shows with this page."""
        return None

    def remember(self, preferences: Preferences) -> None:
        """The program ends: keep how the page is arranged."""

    def restore(self, preferences: Preferences) -> None:
        """The program begins: arrange the page as it was."""
