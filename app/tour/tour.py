"""The tour: five places of the window, one after the other; nothing is blocked meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, QSize, Qt
from PySide6.QtGui import QColor, QKeyEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from app.theme.apply import ThemeManager
from app.theme.scale import sized
from app.widgets.basic import label

if TYPE_CHECKING:
    from app.window import MainWindow

SEEN = "tour/seen"
WIDTH = 320
GAP = 12


@dataclass(frozen=True, slots=True)
class Stop:
    """One place of the tour.

    Attributes:
        target: the widget that is spoken of, asked for when its turn comes.
        title, text: what is said.
    """

    target: Callable[[], QWidget]
    title: str
    text: str


def stops_of(window: MainWindow) -> tuple[Stop, ...]:
    """The five places of the Generate page and the rail."""
    page = window.generate
    rail = window.findChild(QFrame, "rail") or window
    return (
        Stop(
            lambda: page.model_card,
            "The model",
            "A small language model runs on this machine. Pick another one here, or drop a model folder or a GGUF file "
            "anywhere on the window.",
        ),
        Stop(
            lambda: page.prompt,
            "The prompt",
            "The model continues this text. Write your own, or pick a ready one below it.",
        ),
        Stop(
            lambda: page.run_button if page.run_button.isVisible() else page.stop_button,
            "Run",
            "Press Run, or Ctrl+Enter. The sliders above may be moved while the model writes.",
        ),
        Stop(
            lambda: page.text,
            "The text",
            "Every token has the colour of how it came to be: green ones were drafted ahead and accepted. The line "
            "above says what was gained. Click a token to see the step that wrote it.",
        ),
        Stop(
            lambda: rail,
            "The other pages",
            "Compare runs two settings on the same text. Inspect opens each step. Train makes look-ahead embeddings "
            "for another model. Help has this tour again.",
        ),
    )


class Tour(QFrame):
    """A bubble beside the place that it speaks of, over the window; Escape or Skip ends it.

    Attributes:
        title, text, next, skip: its parts.
        number: 0-based place of the stop that is shown.
    """

    def __init__(self, window: QWidget, stops: Sequence[Stop], theme: ThemeManager) -> None:
        super().__init__(window)
        self._window, self._stops = window, stops
        self.number = -1
        self.setObjectName("tour")
        self.setAccessibleName("Tour")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        sized(self, width=WIDTH)
        self._ring = _Ring(window, theme)
        self.count = label("", "faint")
        self.title = label("", "heading")
        self.text = label("", wrap=True)
        self.skip = QPushButton("Skip")
        self.skip.setProperty("role", "quiet")
        self.back = QPushButton("Back")
        self.next = QPushButton("Next")
        self.next.setProperty("role", "primary")
        head = QHBoxLayout()
        head.addWidget(self.title)
        head.addStretch(1)
        head.addWidget(self.count)
        buttons = QHBoxLayout()
        buttons.addWidget(self.skip)
        buttons.addStretch(1)
        buttons.addWidget(self.back)
        buttons.addWidget(self.next)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 12, 14, 12)
        layout.setSpacing(8)
        layout.addLayout(head)
        layout.addWidget(self.text)
        layout.addLayout(buttons)
        self.skip.clicked.connect(self.end)
        self.back.clicked.connect(lambda: self.go_to(self.number - 1))
        self.next.clicked.connect(lambda: self.go_to(self.number + 1))
        window.installEventFilter(self)
        self.go_to(0)

    def go_to(self, number: int) -> None:
        """Show a stop; past the last one the tour ends."""
        if number >= len(self._stops):
            self.end()
            return
        self.number = number
        stop = self._stops[number]
        last = number == len(self._stops) - 1
        self.count.setText(f"{number + 1} of {len(self._stops)}")
        self.title.setText(stop.title)
        self.text.setText(stop.text)
        self.back.setVisible(number > 0)
        self.skip.setVisible(not last)
        self.next.setText("Done" if last else "Next")
        self._place()
        self.show()
        self.raise_()
        self.next.setFocus(Qt.FocusReason.OtherFocusReason)

    def end(self) -> None:
        """Skip the rest. Idempotent."""
        self._ring.hide()
        self._ring.deleteLater()
        self.close()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.end()
        else:
            super().keyPressEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """The window was resized: both go with their place."""
        if event.type() is QEvent.Type.Resize and watched is self._window and self.number >= 0:
            self._place()
        return False

    def _place(self) -> None:
        window = self._window
        target = self._stops[self.number].target()
        area = QRect(target.mapTo(window, QPoint(0, 0)), target.size()).intersected(window.rect())
        self._ring.surround(area)
        self.setFixedHeight(self.heightForWidth(self.width()) if self.hasHeightForWidth() else self.sizeHint().height())
        self.move(beside(area, self.size(), window.rect()))


class _Ring(QWidget):
    """A frame around a place; the mouse passes through it."""

    def __init__(self, window: QWidget, theme: ThemeManager) -> None:
        super().__init__(window)
        self._theme = theme
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def surround(self, area: QRect) -> None:
        """Stand around an area of the window."""
        self.setGeometry(area.adjusted(-3, -3, 3, 3))
        self.show()
        self.raise_()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(self._theme.current.accent), 2))
        painter.drawRoundedRect(self.rect().adjusted(1, 1, -1, -1), 10, 10)


def beside(area: QRect, size: QSize, room: QRect) -> QPoint:
    """Where something of `size` stands inside `room` next to `area`: right, left, below, above, else in its middle."""
    middle_x = area.center().x() - size.width() // 2
    middle_y = area.center().y() - size.height() // 2
    places = (
        QPoint(area.right() + GAP, min(max(area.top(), room.top() + GAP), room.bottom() - GAP - size.height())),
        QPoint(area.left() - GAP - size.width(), max(area.top(), room.top() + GAP)),
        QPoint(middle_x, area.bottom() + GAP),
        QPoint(middle_x, area.top() - GAP - size.height()),
    )
    return next((p for p in places if room.contains(QRect(p, size))), QPoint(middle_x, middle_y))


def start_tour(window: MainWindow, theme: ThemeManager) -> Tour:
    """Show the Generate page and begin."""
    window.show_page("generate")
    return Tour(window, stops_of(window), theme)
