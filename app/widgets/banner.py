"""Errors and remarks over the page: a plain sentence, a way to copy the details; nothing below it moves."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.state.context import ErrorReport
from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.theme.scale import scaled, sized
from app.widgets.basic import label, tool_button

NOTICE_MS = 6000
WIDEST, MARGIN = 760, 8


class Banner(QFrame):
    """Shows the newest error or remark until it is dismissed; remarks leave by themselves.

    Args:
        ground: the widget over whose upper edge it stands.

    Attributes:
        sentence: the label that shows it.
        details: the traceback, unfolded on demand.
    """

    def __init__(self, theme: ThemeManager, ground: QWidget) -> None:
        super().__init__(ground)
        self._theme, self._ground = theme, ground
        ground.installEventFilter(self)
        self.setObjectName("banner")
        self._report = ErrorReport("")
        self._icon = QPushButton()
        self._icon.setFlat(True)
        self._icon.setEnabled(True)
        self._icon.setObjectName("bannerIcon")
        sized(self._icon, icon=18)
        self._icon.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._icon.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.sentence: QLabel = label("", wrap=True, selectable=True)
        self.way_out = QPushButton()
        self._more = QPushButton("Details")
        self._more.setProperty("role", "quiet")
        self._more.setCheckable(True)
        self._copy = QPushButton("Copy details")
        self._copy.setProperty("role", "quiet")
        self._close = tool_button("ph.x", "Dismiss", theme)
        self.details = QPlainTextEdit()
        self.details.setReadOnly(True)
        sized(self.details, mono=8.5)
        sized(self.details, height=160)
        self.details.hide()
        top = QHBoxLayout()
        top.setContentsMargins(0, 0, 0, 0)
        top.setSpacing(8)
        top.addWidget(self._icon)
        top.addWidget(self.sentence, 1)
        for button in (self.way_out, self._more, self._copy, self._close):
            top.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 6, 8, 6)
        layout.addLayout(top)
        layout.addWidget(self.details)
        self._fade = QTimer(self)
        self._fade.setSingleShot(True)
        self._fade.setInterval(NOTICE_MS)
        self._fade.timeout.connect(self.hide)
        self.way_out.clicked.connect(self._take_way_out)
        self._more.toggled.connect(self._show_details)
        self._copy.clicked.connect(self.copy_details)
        self._close.clicked.connect(self.hide)
        self.hide()

    def show_error(self, report: ErrorReport) -> None:
        """Show an error."""
        self._show(report, "error")

    def show_notice(self, sentence: str) -> None:
        """Show a remark."""
        self._show(ErrorReport(sentence), "notice")

    def overcome(self, *_: object) -> None:
        """A run began: hide an error, which is out of date now; remarks stay for their time."""
        if self.property("kind") == "error":
            self.hide()

    def copy_details(self) -> None:
        """Sentence and traceback to the clipboard."""
        QGuiApplication.clipboard().setText(f"{self._report.sentence}\n\n{self._report.details}".strip())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """The ground has another size."""
        if event.type() is QEvent.Type.Resize and self.isVisible():
            self._place()
        return False

    def _show_details(self, on: bool) -> None:
        self.details.setVisible(on)
        self._place()

    def _place(self) -> None:
        """In the middle of the upper edge, as high as its sentence needs."""
        layout = self.layout()
        if layout is None:
            return
        layout.activate()
        room = self._ground.width()
        width = min(room - 2 * MARGIN, scaled(WIDEST))
        height = layout.totalHeightForWidth(width) if layout.hasHeightForWidth() else self.sizeHint().height()
        self.setGeometry((room - width) // 2, MARGIN, width, height)

    def _take_way_out(self) -> None:
        way_out = self._report.way_out
        self.hide()
        if way_out is not None:
            way_out.take()

    def _show(self, report: ErrorReport, kind: str) -> None:
        self._report = report
        self.setProperty("kind", kind)
        self.style().unpolish(self)
        self.style().polish(self)
        set_icon(
            self._icon,
            "ph.warning-circle" if kind == "error" else "ph.info",
            self._theme,
            "danger" if kind == "error" else "accent",
        )
        self.sentence.setText(report.sentence)
        self.details.setPlainText(report.details)
        self.way_out.setText(report.way_out.title if report.way_out is not None else "")
        self.way_out.setVisible(report.way_out is not None)
        for button in (self._more, self._copy):
            button.setVisible(bool(report.details))
        self._more.setChecked(False)
        self._place()
        self.show()
        self.raise_()
        if kind == "notice":
            self._fade.start()
        else:
            self._fade.stop()
