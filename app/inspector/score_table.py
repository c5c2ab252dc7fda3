"""The candidates of one position: paired bars of target and draft probability, and the scores that decided."""

from __future__ import annotations

import math

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.inspector.explain import Contest, ScoreRow
from app.theme.apply import ThemeManager
from app.theme.fonts import mono, sans
from app.theme.roles import Theme, TokenRole
from app.theme.scale import factor, paint_scaled, scaled, sized
from app.widgets.text_format import probability_text, visible

ROW, HEAD = 26, 22
TOKEN_WIDTH, NUMBER_WIDTH, SCORE_WIDTH = 112.0, 54.0, 62.0
MINIMUM_BAR = 72.0


class ScoreTable(QWidget):
    """Painted, not a table widget: bars and numbers of a row belong together."""

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._contest: Contest | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Target and draft distribution")
        theme.changed.connect(self._restyle)

    def show_contest(self, contest: Contest | None) -> None:
        """Show a position's candidates."""
        self._contest = contest
        sized(self, height=HEAD + len(contest.rows) * ROW if contest is not None else HEAD)
        self.update()

    def sizeHint(self) -> QSize:
        rows = len(self._contest.rows) if self._contest is not None else 0
        width = TOKEN_WIDTH + MINIMUM_BAR + 2 * NUMBER_WIDTH + 3 * SCORE_WIDTH
        return QSize(scaled(width), scaled(HEAD + rows * ROW))

    def _restyle(self, *_: object) -> None:
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._contest is None:
            return
        theme = self._theme.current
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width = paint_scaled(painter, self)
        rows = self._contest.rows
        drafted = any(r.q is not None for r in rows)
        noisy = any(r.noise is not None for r in rows)
        columns = [("target p", NUMBER_WIDTH, theme.series[0])]
        if drafted:
            columns.append(("draft q", NUMBER_WIDTH, theme.series[2]))
        if noisy:
            columns.append(("noise g", SCORE_WIDTH, theme.text_faint))
            columns.append(("log p + g", SCORE_WIDTH, theme.text_faint))
            if drafted:
                columns.append(("log q + g", SCORE_WIDTH, theme.text_faint))
        numbers = sum(w for _, w, _ in columns)
        bar = max(24.0, width - TOKEN_WIDTH - 12 - numbers)
        self._heads(painter, theme, columns, TOKEN_WIDTH + 12 + bar)
        for i, r in enumerate(rows):
            self._row(painter, theme, r, HEAD + i * ROW, bar, drafted, noisy)

    def _heads(self, painter: QPainter, theme: Theme, columns: list[tuple[str, float, str]], x: float) -> None:
        painter.setFont(sans(8, zoomed=False))
        painter.setPen(QColor(theme.text_faint))
        painter.drawText(QRectF(4, 0, TOKEN_WIDTH, HEAD), Qt.AlignmentFlag.AlignVCenter, "candidate")
        for title, width, color in columns:
            painter.setPen(QColor(color))
            flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
            painter.drawText(QRectF(x, 0, width, HEAD), flags, title)
            x += width

    def _row(
        self, painter: QPainter, theme: Theme, r: ScoreRow, top: float, bar: float, drafted: bool, noisy: bool
    ) -> None:
        if r.emitted:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(theme.accent_soft))
            painter.drawRoundedRect(QRectF(0, top + 1, self.width() / factor(), ROW - 2), 4, 4)
        font = mono(9.5, zoomed=False)
        font.setBold(r.emitted)
        painter.setFont(font)
        painter.setPen(QColor(theme.text if r.emitted or r.drafted else theme.text_muted))
        text = QFontMetricsF(font).elidedText(visible(r.text) or "…", Qt.TextElideMode.ElideRight, TOKEN_WIDTH - 26)
        painter.drawText(QRectF(4, top, TOKEN_WIDTH - 24, ROW), Qt.AlignmentFlag.AlignVCenter, text)
        if r.drafted:
            lost = not r.emitted
            style = theme.tokens[TokenRole.GHOST if lost else TokenRole.ACCEPTED]
            painter.setFont(sans(7.5, zoomed=False))
            painter.setPen(QColor(style.color))
            flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
            painter.drawText(QRectF(4, top, TOKEN_WIDTH, ROW), flags, "✗" if lost else "✓")
        x = TOKEN_WIDTH + 12
        self._bar(painter, theme, x, top + 7, bar, r.p, theme.series[0])
        if drafted:
            self._bar(painter, theme, x, top + 14, bar, r.q, theme.series[2])
        x += bar
        x = self._number(painter, theme.text, x, top, NUMBER_WIDTH, _percent(r.p), r.emitted)
        if drafted:
            x = self._number(painter, theme.text, x, top, NUMBER_WIDTH, _percent(r.q), False)
        if noisy:
            x = self._number(painter, theme.text_muted, x, top, SCORE_WIDTH, _score(r.noise), False)
            x = self._number(painter, theme.text, x, top, SCORE_WIDTH, _score(r.target_score), r.target_winner)
            if drafted:
                self._number(painter, theme.text, x, top, SCORE_WIDTH, _score(r.draft_score), r.draft_winner)

    def _number(
        self, painter: QPainter, color: str, x: float, top: float, width: float, text: str, strong: bool
    ) -> float:
        font = sans(9, zoomed=False)
        font.setBold(strong)
        painter.setFont(font)
        painter.setPen(QColor(color))
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
        painter.drawText(QRectF(x, top, width, ROW), flags, ("▸ " if strong and width == SCORE_WIDTH else "") + text)
        return x + width

    def _bar(
        self, painter: QPainter, theme: Theme, x: float, y: float, width: float, p: float | None, color: str
    ) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.border))
        painter.drawRoundedRect(QRectF(x, y, width, 5), 2.5, 2.5)
        if p is not None and p > 0:
            painter.setBrush(QColor(color))
            painter.drawRoundedRect(QRectF(x, y, max(3.0, width * min(1.0, p)), 5), 2.5, 2.5)


def _percent(p: float | None) -> str:
    return "–" if p is None or math.isnan(p) else probability_text(p)


def _score(value: float | None) -> str:
    if value is None:
        return "–"
    return "−∞" if value == -math.inf else f"{value:.2f}".replace("-", "−")
