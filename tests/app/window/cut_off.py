"""Finds what has less room than it needs: words, choices, numbers, heads of tables, parts beyond their parent."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import QEvent, QRect, Qt
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QHeaderView,
    QLabel,
    QSplitter,
    QWidget,
)

from app.widgets.basic import ElidedLabel


def settle() -> None:
    """Let layouts answer to one another."""
    for _ in range(3):
        QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        QApplication.processEvents()


def cut_off(page: QWidget) -> list[str]:
    """What of a page is cut off, in words."""
    return [told for widget in page.findChildren(QWidget) if widget.isVisible() for told in _faults(widget)]


def _faults(widget: QWidget) -> Iterator[str]:
    if isinstance(widget, QLabel | QAbstractButton):
        yield from _words(widget)
    elif isinstance(widget, QComboBox):
        need = widget.fontMetrics().horizontalAdvance(widget.currentText())
        if need > widget.width() - 30:  # the caret stands at the right
            yield f"choice {widget.currentText()!r}: {widget.width()} of {need + 30}"
    elif isinstance(widget, QAbstractSpinBox):
        field = widget.lineEdit()
        need = field.fontMetrics().horizontalAdvance(widget.text())
        if need > field.width():
            yield f"number {widget.text()!r}: {field.width()} of {need}"
    elif isinstance(widget, QHeaderView) and widget.orientation() is Qt.Orientation.Horizontal:
        yield from _heads(widget)
    yield from _beyond(widget)


def _words(widget: QLabel | QAbstractButton) -> Iterator[str]:
    if isinstance(widget, ElidedLabel) or not widget.text():
        return
    need = widget.minimumSizeHint()
    if isinstance(widget, QLabel) and widget.wordWrap():
        short = widget.height() < widget.heightForWidth(widget.width())
    else:
        short = widget.width() < need.width() or widget.height() < need.height() - 2
    if short:
        yield f"{widget.text()[:40]!r}: {widget.size().toTuple()} of {need.toTuple()}"


def _heads(head: QHeaderView) -> Iterator[str]:
    model = head.model()
    for section in range(head.count()):
        text = str(model.headerData(section, Qt.Orientation.Horizontal) or "")
        need = head.fontMetrics().horizontalAdvance(text)
        if text and not head.isSectionHidden(section) and head.sectionSize(section) < need:
            yield f"head {text!r}: {head.sectionSize(section)} of {need}"


def _beyond(widget: QWidget) -> Iterator[str]:
    parent = widget.parentWidget()
    if parent is None or widget.isWindow() or isinstance(parent, QSplitter):
        return
    above = parent.parentWidget()
    if isinstance(above, QAbstractScrollArea) and parent is above.viewport():
        return
    if not parent.rect().adjusted(-2, -2, 2, 2).contains(QRect(widget.pos(), widget.size())):
        yield f"{type(widget).__name__} {widget.geometry().getRect()} beyond {parent.size().toTuple()}"
