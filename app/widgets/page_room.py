"""Where the pages stand: one in front, with scroll bars where the window is too small for it."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget


class PageRoom(QScrollArea):
    """Asks for no room of its own, so that a small window or a large zoom cuts nothing off."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = _Stack(self)
        self.setObjectName("page")
        self.setWidget(self._stack)
        self.setWidgetResizable(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setFrameShape(QFrame.Shape.NoFrame)

    def add(self, page: QWidget) -> None:
        """One more page, behind the others."""
        page.setParent(self._stack)
        page.hide()

    def show_page(self, page: QWidget) -> None:
        """Bring a page to the front."""
        self._stack.show_page(page)
        self.horizontalScrollBar().setValue(0)
        self.verticalScrollBar().setValue(0)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, 0)


class _Stack(QWidget):
    """As large as the page in front needs at least; a QStackedWidget asks for what the largest page would like."""

    def __init__(self, room: QScrollArea) -> None:
        super().__init__()
        self._room = room
        self._page: QWidget | None = None

    def show_page(self, page: QWidget) -> None:
        before, self._page = self._page, page
        if before is not None and before is not page:
            before.hide()
        page.setGeometry(self.rect())
        page.show()
        self.updateGeometry()

    def minimumSizeHint(self) -> QSize:
        page = self._page
        if page is None:
            return QSize(0, 0)
        need = page.minimumSizeHint().expandedTo(page.minimumSize())
        layout = page.layout()
        if layout is not None and layout.hasHeightForWidth():
            width = max(need.width(), self._room.viewport().width())
            need.setHeight(layout.totalMinimumHeightForWidth(width))
        return need

    def sizeHint(self) -> QSize:
        return self.minimumSizeHint()

    def event(self, event: QEvent) -> bool:
        """The page in front needs another size (a tab was opened, say): the scroll area must be told."""
        if event.type() is QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().event(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self._page is not None:
            self._page.setGeometry(self.rect())
