"""The drawn tree of a step's drafts: the accepted path lit, rejected drafts struck, unreached ones faint."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetricsF, QMouseEvent, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.inspector.tree_layout import EMITTED, ROOT, PlacedNode, place
from app.theme.apply import ThemeManager
from app.theme.fonts import mono, sans
from app.theme.roles import ROLE_TITLES, Theme, TokenRole, TokenStyle
from app.theme.scale import factor, paint_scaled, scaled
from app.widgets.text_format import probability_text, token_text, visible
from pass_core.decoding.events import DraftSource, DraftStatus, StepEvent

NODE = QSize(116, 36)
GAP = QSize(36, 8)
MARGIN = 8


class TreeView(QWidget):
    """Signals:
    node_clicked(object): the DraftNode or TokenEvent under a click.
    """

    node_clicked = Signal(object)

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._nodes: list[PlacedNode] = []
        self._root_text = ""
        self._selected: int | None = None
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Minimum)
        self.setObjectName("scrollBody")
        self.setMouseTracking(True)
        self.setAccessibleName("Tree of drafts")
        theme.changed.connect(self._restyle)

    def show_step(self, step: StepEvent | None, root_text: str) -> None:
        """Draw a step; `root_text` is the token below which its drafts hang."""
        self._nodes = place(step) if step is not None else []
        self._root_text, self._selected = root_text, None
        self.setFixedSize(self.sizeHint())
        self.update()

    def select(self, key: int | None) -> None:
        """Outline a node by its key (a draft's index, or EMITTED)."""
        self._selected = key
        self.update()

    def rect_of(self, key: int) -> QRectF:
        """Where a node stands; empty when there is none."""
        rect = next((self._rect(n) for n in self._nodes if n.key == key), QRectF())
        return QRectF(rect.topLeft() * factor(), rect.size() * factor())

    def keys(self) -> list[int]:
        """Keys of all nodes drawn."""
        return [n.key for n in self._nodes]

    def sizeHint(self) -> QSize:
        if not self._nodes:
            return QSize(scaled(NODE.width()), scaled(NODE.height() + 2 * MARGIN))
        columns = max(n.column for n in self._nodes) + 1
        rows = max(n.row for n in self._nodes) + 1
        return QSize(
            scaled(2 * MARGIN + columns * NODE.width() + (columns - 1) * GAP.width()),
            scaled(2 * MARGIN + rows * NODE.height() + (rows - 1) * GAP.height()),
        )

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = self._theme.current
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint_scaled(painter, self)
        by_key = {n.key: n for n in self._nodes}
        for lit in (False, True):  # the path on top
            for node in self._nodes:
                if node.parent is not None and node.lit is lit:
                    self._edge(painter, theme, by_key[node.parent], node)
        for node in self._nodes:
            self._node(painter, theme, node)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        for node in self._nodes:
            if (
                self._rect(node).contains(event.position() / factor())
                and (item := node.token or node.draft) is not None
            ):
                self.node_clicked.emit(item)
                return

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        node = next((n for n in self._nodes if self._rect(n).contains(event.position() / factor())), None)
        clickable = node is not None and node.key != ROOT
        self.setCursor(Qt.CursorShape.PointingHandCursor if clickable else Qt.CursorShape.ArrowCursor)
        self.setToolTip(_tip(node) if node is not None else "")

    def _restyle(self, *_: object) -> None:
        self.setFixedSize(self.sizeHint())
        self.update()

    def _rect(self, node: PlacedNode) -> QRectF:
        x = MARGIN + node.column * (NODE.width() + GAP.width())
        y = MARGIN + node.row * (NODE.height() + GAP.height())
        return QRectF(x, y, NODE.width(), NODE.height())

    def _edge(self, painter: QPainter, theme: Theme, above: PlacedNode, below: PlacedNode) -> None:
        a, b = self._rect(above), self._rect(below)
        start, end = QPointF(a.right(), a.center().y()), QPointF(b.left(), b.center().y())
        path = QPainterPath(start)
        bend = GAP.width() / 2
        path.cubicTo(start + QPointF(bend, 0), end - QPointF(bend, 0), end)
        if below.lit:
            pen = QPen(QColor(_style(theme, below).color if below.key != ROOT else theme.accent), 2.0)
        else:
            pen = QPen(QColor(theme.border_strong), 1.0)
            if below.draft is not None and below.draft.status is DraftStatus.UNREACHED:
                pen.setStyle(Qt.PenStyle.DotLine)
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPath(path)

    def _node(self, painter: QPainter, theme: Theme, node: PlacedNode) -> None:
        rect = self._rect(node)
        style = _style(theme, node)
        unreached = node.draft is not None and node.draft.status is DraftStatus.UNREACHED
        fill = QColor(style.fill or (theme.surface if node.lit or not unreached else theme.sunken))
        outline = QColor(style.color if node.lit and node.key != ROOT else theme.border_strong)
        pen = QPen(outline, 1.5 if node.lit else 1.0)
        if unreached:
            pen.setStyle(Qt.PenStyle.DashLine)
        if node.key == self._selected:
            painter.setPen(QPen(QColor(theme.accent), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(rect.adjusted(-3, -3, 3, 3), 8, 8)
        painter.setPen(pen)
        painter.setBrush(fill)
        painter.drawRoundedRect(rect, 6, 6)

        font = mono(9.5, zoomed=False)
        font.setBold(node.lit and node.key != ROOT)
        font.setStrikeOut(node.draft is not None and node.draft.status is DraftStatus.REJECTED)
        painter.setFont(font)
        painter.setPen(QColor(style.color))
        inner = rect.adjusted(8, 3, -8, -3)
        text = QFontMetricsF(font).elidedText(self._text(node), Qt.TextElideMode.ElideMiddle, inner.width())
        painter.drawText(inner, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop), text)
        painter.setFont(sans(7.5, zoomed=False))
        painter.setPen(QColor(theme.text_faint if unreached else theme.text_muted))
        painter.drawText(inner, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom), _figures(node))

    def _text(self, node: PlacedNode) -> str:
        if node.key == ROOT:
            return visible(self._root_text) or "prompt"
        item = node.draft or node.token
        return token_text(item) if item is not None else "…"


def _style(theme: Theme, node: PlacedNode) -> TokenStyle:
    """The look of a node: its token's role, or that of a draft which lost or was never examined."""
    if node.key == ROOT:
        return TokenStyle(theme.text_muted, theme.sunken, theme.tokens[TokenRole.MODEL].underline)
    if node.token is not None:
        return theme.tokens[TokenRole.of(node.token)]
    if node.draft is not None and node.draft.status is DraftStatus.ACCEPTED:
        role = TokenRole.LOOKUP if node.draft.source is DraftSource.LOOKUP else TokenRole.ACCEPTED
        return theme.tokens[role]
    return theme.tokens[TokenRole.GHOST]


def _figures(node: PlacedNode) -> str:
    if node.key == ROOT:
        return "last token"
    item = node.draft or node.token
    if item is None:
        return ""
    if node.key == EMITTED and node.token is not None:
        return f"{ROLE_TITLES[TokenRole.of(node.token)].lower()}  p {probability_text(node.token.p_target)}"
    p = "–" if item.p_target is None else probability_text(item.p_target)
    q = "copied" if item.p_draft is None else f"q {probability_text(item.p_draft)}"
    return f"p {p}  {q}"


def _tip(node: PlacedNode) -> str:
    if node.key == ROOT:
        return "The token that was the last one when this step began"
    if node.key == EMITTED:
        return "The token that the model emitted where the accepted path ends"
    draft = node.draft
    if draft is None:
        return ""
    return {
        DraftStatus.ACCEPTED: "This draft was accepted",
        DraftStatus.REJECTED: "This draft was examined, and lost",
        DraftStatus.UNREACHED: "Never examined: a draft above it was rejected first",
    }[draft.status]
