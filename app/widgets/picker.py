"""A button that names the present choice and opens a menu of others."""

from __future__ import annotations

from PySide6.QtCore import QRect, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QMenu, QPushButton, QSizePolicy, QWidget

from app.theme.apply import ThemeManager
from app.theme.icons import icon


class Picker(QPushButton):
    """Left-aligned, elided text with a caret; `menu()` holds the choices."""

    def __init__(self, theme: ThemeManager, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._label = ""
        self.setAccessibleName(name)
        self.setProperty("role", "picker")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setMenu(QMenu(self))
        self.menu().setToolTipsVisible(True)
        theme.changed.connect(self._restyle)

    def set_label(self, text: str) -> None:
        """Name the present choice."""
        self._label = text
        self.setToolTip(text)
        self.update()

    def label_text(self) -> str:
        """The present choice's name, unabridged."""
        return self._label

    def sizeHint(self) -> QSize:
        return QSize(120, 32)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        painter = QPainter(self)
        theme = self._theme.current
        area = self.rect().adjusted(10, 0, -30, 0)
        painter.setPen(QColor(theme.text if self.isEnabled() else theme.text_faint))
        text = QFontMetrics(self.font()).elidedText(self._label, Qt.TextElideMode.ElideMiddle, area.width())
        painter.drawText(area, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), text)
        size = 12
        box = QRect(self.width() - size - 10, (self.height() - size) // 2, size, size)
        icon("ph.caret-down", theme).paint(painter, box)

    def _restyle(self, *_: object) -> None:
        self.update()
