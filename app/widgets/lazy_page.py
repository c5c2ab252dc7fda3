"""A page that is made when it is first shown, so that what it imports does not hold up the window."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout

from app.widgets.page import Page


class LazyPage(Page):
    """Holds the place of a page until somebody looks at it, and passes on what the window asks.

    Attributes:
        page: the page, None until it was shown.
    """

    def __init__(self, make: Callable[[], Page]) -> None:
        super().__init__()
        self._make = make
        self.page: Page | None = None
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)

    def showEvent(self, event: QShowEvent) -> None:
        if self.page is None:
            self.page = self._make()
            self._column.addWidget(self.page)
        super().showEvent(event)

    def page_shown(self) -> None:
        if self.page is not None:
            self.page.page_shown()

    def page_hidden(self) -> None:
        if self.page is not None:
            self.page.page_hidden()

    def shut_down(self) -> None:
        if self.page is not None:
            self.page.shut_down()
