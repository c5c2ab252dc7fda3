"""Progress of long work: what, how far, how long yet, and a way to cancel."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from app.theme.apply import ThemeManager
from app.widgets.basic import ElidedLabel, row, show_progress, thousandths, tool_button
from app.widgets.text_format import bytes_text, seconds_text
from pass_core.progress import Progress


def describe_progress(progress: Progress) -> str:
    """ "41.0 MB of 92.9 MB, 12 s left" """
    unit = progress.unit
    amount = bytes_text(progress.done) if unit == "B" else f"{progress.done:.0f}"
    if progress.total is not None:
        amount += f" of {bytes_text(progress.total) if unit == 'B' else f'{progress.total:.0f}'}"
    if unit != "B":
        amount += f" {unit}"
    if progress.seconds_left is not None and progress.seconds_left >= 1:
        amount += f", {_left(progress.seconds_left)} left"
    return amount


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else seconds_text(seconds)


class ProgressStrip(QWidget):
    """Hidden until `begin`.

    Signals:
        cancelled(): the user pressed the cross.
    """

    cancelled = Signal()

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = ElidedLabel("", "hint")
        self.detail = ElidedLabel("", "faint")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.cancel = tool_button("ph.x", "Cancel", theme)
        self.cancel.clicked.connect(self._cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        top = row(self.title, self.cancel)
        top.setStretch(0, 1)
        layout.addLayout(top)
        layout.addWidget(self.bar)
        layout.addWidget(self.detail)
        self.hide()

    def begin(self, title: str) -> None:
        """Show with an indeterminate bar."""
        self.title.set_full_text(title)
        self.detail.set_full_text("")
        self.bar.setRange(0, 0)
        self.cancel.setEnabled(True)
        self.show()

    def show_progress(self, progress: Progress) -> None:
        """Update the figures."""
        self.title.set_full_text(progress.stage)
        self.detail.set_full_text(describe_progress(progress))
        if progress.total:
            self.bar.setRange(0, 1000)
            show_progress(self.bar, thousandths(progress.done, progress.total))
        else:
            self.bar.setRange(0, 0)

    def end(self) -> None:
        """Hide."""
        self.hide()

    def _cancel(self) -> None:
        self.cancel.setEnabled(False)
        self.detail.set_full_text("Cancelling…")
        self.cancelled.emit()
