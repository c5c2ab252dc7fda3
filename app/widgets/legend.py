"""The legend of provenances, which counts."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QWidget

from app.theme.apply import ThemeManager
from app.theme.fonts import sans
from app.theme.roles import ROLE_EXPLANATIONS, ROLE_TITLES, TokenRole, Underline
from app.theme.scale import paint_scaled, scaled, sized
from app.widgets.basic import label, write
from app.widgets.flow import FlowLayout
from pass_core.decoding.events import StepEvent

SHORT_GAP, LINE_GAP = 12, 4
WIDEST_COUNT = "\u20099999"


class Swatch(QWidget):
    """A sample of a token role: letters on its fill with its underline style."""

    def __init__(self, theme: ThemeManager, role: TokenRole, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme, self._role = theme, role
        sized(self, width=24, height=18)
        theme.changed.connect(self._restyle)

    def set_role(self, role: TokenRole) -> None:
        """Show another role."""
        self._role = role
        self.update()

    def _restyle(self, *_: object) -> None:
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(scaled(24), scaled(18))

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme.current
        style = theme.tokens[self._role]
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint_scaled(painter, self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(style.fill or theme.sunken))
        painter.drawRoundedRect(QRectF(0, 0, 24, 18), 3, 3)
        font = sans(8.5, sans().Weight.DemiBold, zoomed=False)
        font.setStrikeOut(style.strike)
        painter.setFont(font)
        painter.setPen(QColor(style.color))
        painter.drawText(QRectF(0, 0, 24, 15), Qt.AlignmentFlag.AlignCenter, "Aa")
        draw_underline(painter, QRectF(4, 14.5, 16, 3), style.underline, style.color)


def draw_underline(painter: QPainter, rect: QRectF, underline: Underline, color: str) -> None:
    """Draw an underline style along a small rectangle."""
    if underline is Underline.NoUnderline:
        return
    pen = QPen(QColor(color), 1.4)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    if underline is Underline.WaveUnderline:
        painter.setPen(pen)
        path = QPainterPath(QPointF(rect.left(), rect.center().y()))
        x, up = rect.left(), True
        while x < rect.right():
            path.quadTo(QPointF(x + 2, rect.top() if up else rect.bottom()), QPointF(x + 4, rect.center().y()))
            x, up = x + 4, not up
        painter.drawPath(path)
        return
    if underline is Underline.DashUnderline:
        pen.setDashPattern([3, 2])
    elif underline is Underline.DashDotLine:
        pen.setDashPattern([3, 1.5, 0.8, 1.5])
    painter.setPen(pen)
    painter.drawLine(QPointF(rect.left(), rect.center().y()), QPointF(rect.right(), rect.center().y()))


class Legend(QWidget):
    """One entry per role with its count; prompt-lookup and rejected drafts appear once they occur.

    Args:
        short: as soon as anything is counted, only what occurs is shown.
    """

    OPTIONAL = (TokenRole.GHOST, TokenRole.LOOKUP)

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None, *, short: bool = False) -> None:
        super().__init__(parent)
        self._short = short
        layout = FlowLayout(self, SHORT_GAP if short else 16, LINE_GAP)
        self._entries: dict[TokenRole, QWidget] = {}
        self._labels = {}
        self.counts: dict[TokenRole, int] = {}
        for role in (*(r for r in TokenRole if r not in self.OPTIONAL), *self.OPTIONAL):  # room is kept at the end
            entry = QWidget()
            entry.setToolTip(ROLE_EXPLANATIONS[role])
            inner = QHBoxLayout(entry)
            inner.setContentsMargins(0, 0, 0, 0)
            inner.setSpacing(6)
            inner.addWidget(Swatch(theme, role))
            text = label(ROLE_TITLES[role], "hint")
            inner.addWidget(text)
            self._entries[role], self._labels[role] = entry, text
            if not short:
                policy = entry.sizePolicy()
                policy.setRetainSizeWhenHidden(True)
                entry.setSizePolicy(policy)
            layout.addWidget(entry)
        self._keep_room()
        self.reset()

    def changeEvent(self, event: QEvent) -> None:
        """Another size of the font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._keep_room()

    def _keep_room(self) -> None:
        """Entries are as wide as they may become, so that a growing count pushes nothing to another line."""
        for role, text in getattr(self, "_labels", {}).items():
            text.ensurePolished()
            text.setMinimumWidth(text.fontMetrics().horizontalAdvance(ROLE_TITLES[role] + WIDEST_COUNT))

    def room(self, width: int) -> int:
        """The height that the legend never exceeds at this width, whatever is shown."""
        x, lines, high = 0, 1, 0
        for entry in self._entries.values():
            size = entry.sizeHint()
            if x and x + size.width() > width:
                x, lines = 0, lines + 1
            x, high = x + size.width() + SHORT_GAP, max(high, size.height())
        return lines * (high + LINE_GAP) - LINE_GAP

    def reset(self) -> None:
        """All counts to nothing."""
        self.counts = dict.fromkeys(TokenRole, 0)
        self._show()

    def add_steps(self, steps: list[StepEvent]) -> None:
        """Count the tokens of steps, and their rejected drafts."""
        for step in steps:
            for token in step.tokens:
                self.counts[TokenRole.of(token)] += 1
            self.counts[TokenRole.GHOST] += sum(d.status.value == "rejected" for d in step.drafts)
        self._show()

    def _show(self) -> None:
        anything: bool = any(self.counts.values())
        counts: Mapping[TokenRole, int] = self.counts
        for role, text in self._labels.items():
            count = f" {counts[role]:,}".replace(",", "\u2009") if anything else ""
            write(text, ROLE_TITLES[role] + count)
            needed = counts[role] > 0 or (role not in self.OPTIONAL and not (self._short and anything))
            self._entries[role].setVisible(needed)
