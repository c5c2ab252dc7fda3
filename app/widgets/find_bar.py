"""Find in the output: a bar below the page that searches every text that the page shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakSet

from PySide6.QtCore import QEvent, Qt, QTimer
from PySide6.QtGui import QAction, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QCheckBox, QFrame, QLineEdit, QMenu, QWidget

from app.theme.apply import ThemeManager
from app.theme.scale import sized
from app.widgets.basic import label, row, set_tone, tool_button
from app.widgets.find import Match, find_all
from app.widgets.token_marks import Found
from app.widgets.token_view import TokenView

SETTLE_MS = 150  # the text grows meanwhile


class FindBar(QFrame):
    """Hidden until `open`.

    Args:
        texts: the texts of the page in front, in the order of reading.

    Attributes:
        words, match_case, count: what to look for, and how many there are.
        find_action, next_action, previous_action: for the menu; they work while any text is shown.
    """

    def __init__(
        self, theme: ThemeManager, texts: Callable[[], Sequence[TokenView]], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._texts = texts
        self._followed: WeakSet[TokenView] = WeakSet()
        self._matches: list[tuple[TokenView, Match]] = []
        self._current = 0
        self._before: QWidget | None = None
        self.setObjectName("findBar")
        self.words = QLineEdit()
        self.words.setPlaceholderText("Find in the output")
        self.words.setAccessibleName("Find in the output")
        self.words.setClearButtonEnabled(True)
        sized(self.words, width=260)
        self.match_case = QCheckBox("Match case")
        self.count = label("", "hint")
        self._previous = tool_button("ph.caret-up", "The match before (Shift+F3)", theme)
        self._next = tool_button("ph.caret-down", "The next match (F3, Enter)", theme)
        close = tool_button("ph.x", "Close (Esc)", theme)
        layout = row(self.words, self._previous, self._next, self.match_case, self.count, 1, close)
        layout.setContentsMargins(12, 4, 12, 4)
        self.setLayout(layout)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._search_again)
        self._make_actions()
        self.words.installEventFilter(self)
        self.match_case.installEventFilter(self)
        self.words.textChanged.connect(self._search)
        self.match_case.toggled.connect(self._search)
        self._next.clicked.connect(self.find_next)
        self._previous.clicked.connect(self.find_previous)
        close.clicked.connect(self.leave)
        theme.changed.connect(self.stale)
        self.hide()

    # -- what people do ----------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Show the bar, with what is selected to look for; open already, the words are selected."""
        if not self.isVisible():
            self._before = self.window().focusWidget()
        chosen = next((t.textCursor().selectedText() for t in self._texts() if t.textCursor().hasSelection()), "")
        self.show()
        self.words.setFocus(Qt.FocusReason.ShortcutFocusReason)
        if chosen and "\u2029" not in chosen:
            self.words.setText(chosen)
        self.words.selectAll()
        self._search()

    def leave(self) -> None:
        """Hide the bar and its marks; the focus goes back to where it was."""
        self._settle.stop()
        self.hide()
        self._matches = []
        self._mark(scroll=False)
        if self._before is not None and self._before.isVisible():
            self._before.setFocus(Qt.FocusReason.OtherFocusReason)
        self._before = None

    def find_next(self) -> None:
        """The next match, the first one after the last; opens the bar where it is closed."""
        self._go(1)

    def find_previous(self) -> None:
        """The match before, the last one before the first."""
        self._go(-1)

    def stale(self, *_: object) -> None:
        """Other texts may be shown now: search again in a moment."""
        if self.isVisible() and not self._settle.isActive():
            self._settle.start()

    def _go(self, steps: int) -> None:
        if not self.isVisible():
            self.open()
        elif self._settle.isActive():
            self._settle.stop()
            self._search_again()
        if self._matches:
            self._current = (self._current + steps) % len(self._matches)
            self._mark(scroll=True)

    # -- searching ---------------------------------------------------------------------------------------------------

    def _search(self, *_: object) -> None:
        """Other words: begin at the first match."""
        self._current = 0
        self._search_again()
        self._mark(scroll=True)

    def _search_again(self) -> None:
        """The same words in what is shown now; the match in front stays where it can."""
        wanted, match_case = self.words.text(), self.match_case.isChecked()
        self._matches = []
        texts = self._texts()
        for text in texts:
            if text not in self._followed:
                self._followed.add(text)
                text.textChanged.connect(self.stale)
            self._matches += [(text, m) for m in find_all(text.searched(), wanted, match_case=match_case)]
        self._current = min(self._current, max(0, len(self._matches) - 1))
        self._mark(scroll=False)
        if not texts:
            self.count.setText("This page shows no output")

    def _mark(self, *, scroll: bool) -> None:
        total = len(self._matches)
        for text in self._followed:
            own = [(n, match) for n, (view, match) in enumerate(self._matches) if view is text]
            current = next((i for i, (n, _) in enumerate(own) if n == self._current), None)
            text.show_found(Found([match for _, match in own], current), scroll=scroll)
        nothing = bool(self.words.text()) and not total
        self.count.setText(f"{self._current + 1} of {total:,}" if total else "No match" if nothing else "")
        set_tone(self.count, "bad" if nothing else "")
        self._previous.setEnabled(total > 1)
        self._next.setEnabled(total > 1)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def eventFilter(self, watched: QWidget, event: QEvent) -> bool:  # type: ignore[override]
        """Escape closes the bar, and Enter goes on, also where they are shortcuts of the page."""
        if isinstance(event, QKeyEvent) and event.key() in (Qt.Key.Key_Escape, Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if event.type() is QEvent.Type.ShortcutOverride:
                event.accept()
                return True
            if event.type() is QEvent.Type.KeyPress:
                if event.key() == Qt.Key.Key_Escape:
                    self.leave()
                elif event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
                    self.find_previous()
                else:
                    self.find_next()
                return True
        return super().eventFilter(watched, event)

    def add_to_menu(self, menu: QMenu) -> None:
        """The entries of the window's menu."""
        menu.addActions([self.find_action, self.next_action, self.previous_action])

    def _make_actions(self) -> None:
        self.find_action = QAction("Find in the output…", self)
        self.next_action = QAction("Find the next", self)
        self.previous_action = QAction("Find the one before", self)
        for action, keys, work in (
            (self.find_action, "Ctrl+F", self.open),
            (self.next_action, "F3", self.find_next),
            (self.previous_action, "Shift+F3", self.find_previous),
        ):
            action.setShortcut(QKeySequence(keys))
            action.triggered.connect(work)
