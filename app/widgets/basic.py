"""Small building blocks: labels by role, cards, segmented choices, sliders with spin boxes."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QResizeEvent, QValidator, QWheelEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QButtonGroup,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMenu,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.theme.scale import sized

GRID = 8
TITLE_WIDTH = 92


def label(text: str, role: str = "", *, wrap: bool = False, selectable: bool = False) -> QLabel:
    """A label with a role of the style sheet ("title", "heading", "section", "hint", "chip", ...)."""
    widget = QLabel(text)
    widget.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        widget.setProperty("role", role)
    if selectable:
        widget.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    widget.setWordWrap(wrap)
    if role == "chip":
        widget.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
    return widget


def set_tone(widget: QWidget, tone: str) -> None:
    """Give a chip a tone ("good", "warn", "bad", "accent", "")."""
    if widget.property("tone") != tone:
        widget.setProperty("tone", tone)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def tool_button(icon: str, tip: str, theme: ThemeManager, *, checkable: bool = False) -> QToolButton:
    """A borderless icon button; the tip is its accessible name too."""
    button = QToolButton()
    button.setToolTip(tip)
    button.setAccessibleName(tip)
    button.setCheckable(checkable)
    sized(button, icon=16)
    button.setCursor(Qt.CursorShape.PointingHandCursor)
    set_icon(button, icon, theme)
    return button


def thousandths(done: float, total: float) -> int:
    """A share as a bar of 0 to 1000 shows it."""
    return round(1000 * min(1.0, done / total))


def show_progress(bar: QProgressBar, value: int) -> None:
    """Set a bar's value; Qt itself would paint at once, and with it all that waits to be painted in one go."""
    if value != bar.value():
        bar.setUpdatesEnabled(False)
        bar.setValue(value)
        bar.setUpdatesEnabled(True)


def write(target: QLabel, text: str) -> None:
    """Set a label's text unless it has it: a label that is told its text again asks its whole page for a new layout."""
    if target.text() != text:
        target.setText(text)


def row(*items: QWidget | int, spacing: int = GRID) -> QHBoxLayout:
    """A horizontal layout; an int is a stretch."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(spacing)
    for item in items:
        if isinstance(item, int):
            layout.addStretch(item)
        else:
            layout.addWidget(item)
    return layout


class Card(QFrame):
    """A surface with a heading and a body; `body` is its vertical layout, `head` the heading's row."""

    def __init__(self, title: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(12, 10, 12, 12)
        self.body.setSpacing(GRID)
        self.head = QHBoxLayout()
        self.head.setSpacing(4)
        if title:
            self.head.addWidget(label(title, "heading"))
            self.head.addStretch(1)
            self.body.addLayout(self.head)


class ElidedLabel(QLabel):
    """A one-line label that ends in … where it is too narrow, with the whole text as its tool tip."""

    def __init__(self, text: str = "", role: str = "", mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__()
        self._full, self._mode = "", mode
        self.setTextFormat(Qt.TextFormat.PlainText)
        if role:
            self.setProperty("role", role)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.set_full_text(text)

    def full_text(self) -> str:
        """The text, unabridged."""
        return self._full

    def set_full_text(self, text: str) -> None:
        """Show `text`, abridged as needed."""
        if text != self._full:
            self._full = text
            self._elide()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        one_line = " ".join(self._full.split())
        shown = QFontMetrics(self.font()).elidedText(one_line, self._mode, max(16, self.width() - 2))
        self.setText(shown)
        self.setToolTip(self._full if shown != self._full else "")


def menu_heading(menu: QMenu, text: str) -> None:
    """A heading inside a menu; `QMenu.addSection` loses its text under a style sheet."""
    if not menu.isEmpty():
        menu.addSeparator()
    menu.addAction(text.upper()).setEnabled(False)


class Segmented(QWidget):
    """A row of exclusive chips.

    Signals:
        chosen(str): the user chose another value.
    """

    chosen = Signal(str)

    def __init__(self, options: Sequence[tuple[str, str, str]], parent: QWidget | None = None) -> None:
        """Args:
        options: (value, title, tool tip) each.
        """
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QPushButton] = {}
        for value, title, tip in options:
            button = QPushButton(title)
            button.setCheckable(True)
            button.setProperty("role", "chip")
            button.setToolTip(tip)
            button.setCursor(Qt.CursorShape.PointingHandCursor)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            button.clicked.connect(lambda _=False, v=value: self.chosen.emit(v))
            self._group.addButton(button)
            self._buttons[value] = button
            layout.addWidget(button, 1)
        next(iter(self._buttons.values())).setChecked(True)

    def value(self) -> str:
        """The chosen value."""
        return next(v for v, b in self._buttons.items() if b.isChecked())

    def set_value(self, value: str) -> None:
        """Choose without a signal."""
        if value in self._buttons:
            self._buttons[value].setChecked(True)

    def set_enabled_values(self, values: set[str]) -> None:
        """Grey out the others."""
        for value, button in self._buttons.items():
            button.setEnabled(value in values)


def pad_spin_box(spin: QAbstractSpinBox) -> None:
    """Room beside the number; a style sheet's padding does not reach the line edit inside."""
    spin.lineEdit().setTextMargins(5, 0, 5, 0)


def guard_wheel(widget: QWidget) -> None:
    """Keep the wheel from changing a slider or field that the mouse merely passes while scrolling.

    Not an event filter: Python would be asked about every event of every such widget, and a change of theme, which
    sends some hundred thousand of them, took over a second.
    """
    itself = weakref.ref(widget)

    def turn(event: QWheelEvent) -> None:
        guarded = itself()
        if guarded is None or not guarded.hasFocus():
            event.ignore()
        else:
            type(guarded).wheelEvent(guarded, event)

    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.wheelEvent = turn  # Qt calls it as if a class of ours had it


class OffAtTop(QDoubleSpinBox):
    """A spin box whose greatest value is shown as "off"."""

    OFF = "off"

    def textFromValue(self, value: float) -> str:
        return self.OFF if value >= self.maximum() else super().textFromValue(value)

    def valueFromText(self, text: str) -> float:
        return self.maximum() if text.strip() == self.OFF else super().valueFromText(text)

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        if self.OFF.startswith(text.strip()):
            state = QValidator.State.Acceptable if text.strip() == self.OFF else QValidator.State.Intermediate
            return state, text, position
        return super().validate(text, position)


class SliderField(QWidget):
    """A titled slider with a spin box beside it; both always agree.

    Signals:
        changed(float): the user moved either.
    """

    changed = Signal(float)

    def __init__(
        self,
        title: str,
        low: float,
        high: float,
        *,
        step: float = 1.0,
        decimals: int = 0,
        tip: str = "",
        special: str = "",
        off_at_top: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        """Args:
        special: shown instead of the lowest value ("off").
        off_at_top: the greatest value is shown as "off" (with decimals).
        """
        super().__init__(parent)
        self._scale = 1.0 / step
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.spin: QSpinBox | QDoubleSpinBox
        if decimals:
            self.spin = OffAtTop() if off_at_top else QDoubleSpinBox()
            self.spin.setDecimals(decimals)
            self.spin.setSingleStep(step)
        else:
            self.spin = QSpinBox()
            self.spin.setSingleStep(int(step))
        sized(self.spin, width=60)
        pad_spin_box(self.spin)
        self.spin.setAlignment(Qt.AlignmentFlag.AlignRight)
        if special:
            self.spin.setSpecialValueText(special)
        self.title = label(title)
        sized(self.title, width=TITLE_WIDTH)
        for widget in (self.title, self.slider, self.spin):
            widget.setToolTip(tip)
        self.slider.setAccessibleName(title)
        self.spin.setAccessibleName(title)
        guard_wheel(self.slider)
        guard_wheel(self.spin)
        self._layout = row(self.title, self.slider, self.spin)
        self._layout.setStretch(1, 1)
        self.setLayout(self._layout)
        self.set_range(low, high)
        self.slider.valueChanged.connect(self._slider_moved)
        self.spin.valueChanged.connect(self._spin_changed)

    def value(self) -> float:
        """The value, exactly as the spin box shows it."""
        return float(self.spin.value())

    def set_value(self, value: float) -> None:
        """Set without a signal; values outside the range go to its ends."""
        for widget in (self.slider, self.spin):
            widget.blockSignals(True)
        if isinstance(self.spin, QDoubleSpinBox):
            self.spin.setValue(value)
        else:
            self.spin.setValue(round(value))
        self.slider.setValue(round(self.value() * self._scale))
        for widget in (self.slider, self.spin):
            widget.blockSignals(False)

    def set_range(self, low: float, high: float) -> None:
        """Change both ends without a signal."""
        for widget in (self.slider, self.spin):
            widget.blockSignals(True)
        if isinstance(self.spin, QDoubleSpinBox):
            self.spin.setRange(low, high)
        else:
            self.spin.setRange(int(low), int(high))
        self.slider.setRange(round(low * self._scale), round(high * self._scale))
        self.slider.setPageStep(max(1, round((high - low) * self._scale / 10)))
        for widget in (self.slider, self.spin):
            widget.blockSignals(False)

    def add_beside(self, widget: QWidget) -> None:
        """Put a widget (a check box) right of the spin box."""
        self._layout.addWidget(widget)

    def _slider_moved(self, position: int) -> None:
        self.set_value(position / self._scale)
        self.changed.emit(self.value())

    def _spin_changed(self, value: float) -> None:
        self.set_value(value)
        self.changed.emit(self.value())
