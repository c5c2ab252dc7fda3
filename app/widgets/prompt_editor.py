"""The prompt: an editor, ready prompts for prose, code and chat, and the chat template's switch."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QCheckBox, QMenu, QPlainTextEdit, QPushButton, QWidget

from app.prompts import KINDS, ReadyPrompt, ready_prompts
from app.theme.apply import ThemeManager
from app.theme.scale import sized
from app.widgets.basic import Card, label, row, set_tone

LINES = 6


class PromptEditor(Card):
    """Signals:
    changed(): text or chat switch, shortly after the user stopped typing.
    """

    changed = Signal()

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__("Prompt", parent)
        self.count = label("", "faint")
        self.head.addWidget(self.count)
        self.editor = QPlainTextEdit()
        sized(self.editor, mono=9.5)
        self.editor.setPlaceholderText("Write what the model should continue, or pick a ready prompt below.")
        self.editor.setTabChangesFocus(True)
        theme.changed.connect(self._keep_room)
        self._keep_room()
        self.editor.setAccessibleName("Prompt")
        self.body.addWidget(self.editor)
        self.chat = QCheckBox("Chat template")
        self.chat.setToolTip("Send the prompt as a user's message, in the form that this model was trained on")
        self._kinds: dict[str, QPushButton] = {}
        for kind in KINDS:
            button = QPushButton(kind.capitalize())
            button.setProperty("role", "chip")
            button.setCursor(Qt.CursorShape.PointingHandCursor)
            button.setMenu(self._menu(kind, button))
            button.setToolTip(f"Ready prompts: {kind}")
            self._kinds[kind] = button
        self._row = row(*self._kinds.values(), 1, self.chat, spacing=4)
        self.body.addLayout(self._row)
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(250)
        self._quiet.timeout.connect(self.changed)
        self.editor.textChanged.connect(self._quiet.start)
        self.chat.toggled.connect(self.changed)

    def _keep_room(self, *_: object) -> None:
        self.editor.setFixedHeight(QFontMetrics(self.editor.font()).lineSpacing() * LINES + 26)

    def text(self) -> str:
        return self.editor.toPlainText()

    def set_text(self, text: str) -> None:
        """Replace the text (undo brings the old one back)."""
        if text != self.text():
            cursor = self.editor.textCursor()
            cursor.select(cursor.SelectionType.Document)
            cursor.insertText(text)
            self.editor.moveCursor(cursor.MoveOperation.Start)

    def use(self, prompt: ReadyPrompt) -> None:
        """Take a ready prompt."""
        self.set_text(prompt.text)
        self.chat.setChecked(prompt.kind == "chat" and self.chat.isEnabled())
        self.changed.emit()

    def set_chat_available(self, available: bool) -> None:
        """Whether the model has a chat template."""
        self.chat.setEnabled(available)
        if not available:
            self.chat.setChecked(False)

    def show_count(self, tokens: int | None, limit: int | None = None) -> None:
        """How many tokens the prompt has (None: not known), of how many; in red when nothing could follow it."""
        full = tokens is not None and limit is not None and tokens >= limit
        if full:
            text = f"{tokens:,} of {limit:,} tokens"
        else:
            text = "" if tokens is None else f"{tokens} tokens" if tokens != 1 else "1 token"
        self.count.setText(text)
        self.count.setToolTip("The prompt fills the model's context. Shorten it." if full else "")
        set_tone(self.count, "bad" if full else "")

    def sizeHint(self) -> QSize:
        return QSize(320, 210)

    def _menu(self, kind: str, parent: QWidget) -> QMenu:
        menu = QMenu(parent)
        for prompt in (p for p in ready_prompts() if p.kind == kind):
            action = menu.addAction(prompt.title.replace("&", "&&"))
            action.triggered.connect(lambda _=False, p=prompt: self.use(p))
        menu.menuAction().setEnabled(not menu.isEmpty())
        return menu
