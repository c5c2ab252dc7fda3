"""The card beside a hovered token: what it is, how it came to be, and the two distributions behind it."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QGraphicsDropShadowEffect, QHBoxLayout, QVBoxLayout, QWidget

from app.theme.apply import ThemeManager
from app.theme.fonts import mono, sans
from app.theme.roles import ROLE_EXPLANATIONS, ROLE_TITLES, Theme, TokenRole
from app.theme.scale import paint_scaled, scaled, sized
from app.widgets.basic import label, row
from app.widgets.legend import Swatch
from app.widgets.text_format import count_of, probability_text, token_text
from app.widgets.token_layout import Piece
from pass_core.decoding.events import Candidate

WIDTH = 336


class DistributionBars(QWidget):
    """Tokens with their target probability and, below it, their draft probability, as bars."""

    ROW = 22

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._candidates: Sequence[Candidate] = ()
        self._chosen: int | None = None

    def show_candidates(self, candidates: Sequence[Candidate], chosen: int | None) -> None:
        """Show candidates, likeliest first; the row of token id `chosen` is emphasised."""
        self._candidates, self._chosen = candidates, chosen
        sized(self, height=self.ROW * len(candidates))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(scaled(WIDTH - 32), scaled(self.ROW * len(self._candidates)))

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme.current
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width = round(paint_scaled(painter, self))
        drafted = any(c.p_draft is not None for c in self._candidates)
        numbers = 104 if drafted else 56
        text_width = 104
        bar_left, bar_width = text_width + 8, max(20, width - text_width - 8 - numbers)
        for i, candidate in enumerate(self._candidates):
            top = i * self.ROW
            chosen = candidate.id == self._chosen
            font = mono(9, zoomed=False)
            font.setBold(chosen)
            painter.setFont(font)
            painter.setPen(QColor(theme.text if chosen else theme.text_muted))
            text = QFontMetrics(font).elidedText(token_text(candidate), Qt.TextElideMode.ElideRight, text_width)
            middle = Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRect(0, top, text_width, self.ROW), int(middle | Qt.AlignmentFlag.AlignLeft), text)
            self._bar(painter, theme, bar_left, top + 6, bar_width, candidate.p_target, theme.series[0])
            if candidate.p_draft is not None:
                self._bar(painter, theme, bar_left, top + 12, bar_width, candidate.p_draft, theme.series[2])
            painter.setFont(sans(8.5, zoomed=False))
            painter.setPen(QColor(theme.text if chosen else theme.text_muted))
            right = int(middle | Qt.AlignmentFlag.AlignRight)
            left = bar_left + bar_width
            painter.drawText(QRect(left, top, 52, self.ROW), right, probability_text(candidate.p_target))
            if drafted:
                painter.setPen(QColor(theme.text_faint))
                p = "–" if candidate.p_draft is None else probability_text(candidate.p_draft)
                painter.drawText(QRect(left + 52, top, 52, self.ROW), right, p)

    def _bar(self, painter: QPainter, theme: Theme, x: int, y: int, width: int, p: float, color: str) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.border))
        painter.drawRoundedRect(x, y, width, 4, 2, 2)
        if p > 0:
            painter.setBrush(QColor(color))
            painter.drawRoundedRect(x, y, max(3, round(width * min(1.0, p))), 4, 2, 2)


class HoverCard(QFrame):
    """Floats above the window of its owner and explains one piece of the text."""

    def __init__(self, theme: ThemeManager, owner: QWidget) -> None:
        super().__init__(owner)
        self._owner = owner
        self.setObjectName("hoverCard")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        shadow = QGraphicsDropShadowEffect(self)
        shadow.setBlurRadius(24)
        shadow.setOffset(0, 4)
        shadow.setColor(QColor(0, 0, 0, 70))
        self.setGraphicsEffect(shadow)
        sized(self, width=WIDTH)
        self.token = label("")
        sized(self.token, mono=13)
        self.token.setProperty("role", "hoverToken")
        self._id = label("", "faint")
        self._swatch = Swatch(theme, TokenRole.MODEL)
        self._title = label("", "heading")
        self._explanation = label("", "hint", wrap=True)
        self._figures = label("", "hint", wrap=True)
        self._head = QWidget()
        head = QHBoxLayout(self._head)
        head.setContentsMargins(0, 4, 0, 0)
        head.addWidget(label("likeliest next tokens", "faint"))
        head.addStretch(1)
        self._head_target = label("target", "target")
        self._head_draft = label("draft", "draft")
        for widget in (self._head_target, self._head_draft):
            sized(widget, width=52)
            widget.setAlignment(Qt.AlignmentFlag.AlignRight)
            head.addWidget(widget)
        head.setSpacing(0)
        self._bars = DistributionBars(theme)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 12, 16, 12)
        layout.setSpacing(6)
        layout.addLayout(row(self.token, 1, self._id))
        layout.addLayout(row(self._swatch, self._title, 1))
        layout.addWidget(self._explanation)
        layout.addWidget(self._figures)
        layout.addWidget(self._head)
        layout.addWidget(self._bars)
        self.hide()

    def show_piece(self, piece: Piece, anchor: QRect) -> None:
        """Explain a piece; the card opens below (or above) `anchor`, in global coordinates."""
        window = self._owner.window()
        if self.parentWidget() is not window:
            self.setParent(window)
        self._fill(piece)
        layout = self.layout()
        if layout is not None:
            layout.activate()
            self.resize(self.width(), layout.totalHeightForWidth(self.width()))
        anchor = QRect(window.mapFromGlobal(anchor.topLeft()), anchor.size())
        x = min(max(4, anchor.left() - 16), window.width() - self.width() - 4)
        y = anchor.bottom() + 8
        if y + self.height() > window.height() - 8:
            y = max(4, anchor.top() - self.height() - 8)
        self.move(QPoint(x, y))
        self.raise_()
        self.show()

    def _fill(self, piece: Piece) -> None:
        role = piece.role
        self._swatch.set_role(role)
        self._title.setText(ROLE_TITLES[role])
        self._explanation.setText(ROLE_EXPLANATIONS[role])
        step = piece.step
        item = piece.token or piece.draft
        if item is None:
            return
        text = token_text(item)
        self.token.setText(QFontMetrics(self.token.font()).elidedText(text, Qt.TextElideMode.ElideMiddle, scaled(200)))
        facts: list[str] = []
        if piece.token is not None:
            self._id.setText(f"id {item.id}  ·  token {piece.token.index + 1}")
            if not item.text and piece.token.bytes:
                facts.append("Part of a character: the next token completes it.")
            if piece.token.draft_position is not None:
                facts.append(f"Draft position {piece.token.draft_position} of k = {step.settings.k}.")
        else:
            self._id.setText(f"id {item.id}")
        if item.p_target is not None:
            facts.append(f"Target probability {probability_text(item.p_target)}.")
        if item.p_draft is not None:
            facts.append(f"Draft probability {probability_text(item.p_draft)}.")
        counts = ((len(step.tokens), "token"), (step.calls, "call"), (sum(step.rows), "row"))
        facts.append(f"Step {step.index + 1}: {', '.join(count_of(n, w) for n, w in counts)}.")
        self._figures.setText(" ".join(facts))
        top = piece.token.top if piece.token is not None else ()
        drafted = any(c.p_draft is not None for c in top)
        self._head.setVisible(bool(top))
        self._head_draft.setVisible(drafted)
        self._bars.setVisible(bool(top))
        self._bars.show_candidates(top, piece.token.id if piece.token is not None else None)
