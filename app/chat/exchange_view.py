"""A question and its answer, coloured by provenance."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from app.chat.conversation import Answer, Exchange, shifted
from app.engine.run import Run
from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import label, row, tool_button
from app.widgets.figures import number
from app.widgets.text_format import count_of
from app.widgets.token_view import TokenView
from pass_core.decoding.events import DraftNode, StepEvent, StopReason, TokenEvent

LEAST_HEIGHT = 30
ENDS = {
    StopReason.MAX_NEW_TOKENS: "cut at the most new tokens",
    StopReason.CANCELLED: "stopped",
    StopReason.CONTEXT_FULL: "the context is full",
}


class GrowingText(TokenView):
    """As high as its text: the chat scrolls as a whole."""

    def __init__(self, theme: ThemeManager) -> None:
        super().__init__(theme)
        sized(self, min_height=LEAST_HEIGHT)
        self.document().setDocumentMargin(4)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() is QEvent.Type.FontChange:
            self._fit()

    def _fit(self, *_: object) -> None:
        height, block = 2 * self.document().documentMargin() + 2 * self.frameWidth() + 2, self.document().begin()
        while block.isValid():
            height += self.blockBoundingRect(block).height()
            block = block.next()
        if round(height) != self.height() or self.minimumHeight() != self.maximumHeight():
            self.setFixedHeight(max(LEAST_HEIGHT, round(height)))


class ExchangeView(QFrame):
    """Shows one exchange and asks for what the user wants of it.

    Attributes:
        text: the answer.
        go_on, again, inspect: buttons.

    Signals:
        continue_clicked(), again_clicked(): the answer shall go on, or be written anew.
        inspect_requested(Run, int): the step that wrote a token.
        answer_chosen(): another of the answers counts.
    """

    continue_clicked = Signal()
    again_clicked = Signal()
    inspect_requested = Signal(object, int)
    answer_chosen = Signal()

    def __init__(self, exchange: Exchange, name: str, theme: ThemeManager) -> None:
        super().__init__()
        self.exchange = exchange
        self.setProperty("role", "card")
        self.question = label(exchange.question, wrap=True, selectable=True)
        self.text = GrowingText(theme)
        self.text.setAccessibleName("Answer")
        self.facts = label("", "faint", wrap=True)
        self.earlier = tool_button("ph.caret-left", "The answer before", theme)
        self.later = tool_button("ph.caret-right", "The next answer", theme)
        self.place = label("", "faint")
        self.go_on, self.again, self.inspect = (
            QPushButton("Continue"),
            QPushButton("Regenerate"),
            QPushButton("Inspect"),
        )
        self.go_on.setToolTip("The model goes on where this answer ends")
        self.again.setToolTip("Another answer, with a new seed; this one stays")
        self.inspect.setToolTip("Open the run that wrote this on the Inspect page; a click on a token opens its step")
        for button, icon in ((self.go_on, "ph.arrow-right"), (self.again, "ph.arrow-clockwise")):
            set_icon(button, icon, theme)
        set_icon(self.inspect, "ph.magnifying-glass", theme)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 12, 16, 10)
        layout.setSpacing(4)
        you = label("You", "section")
        for widget in () if exchange.question else (you, self.question):
            widget.hide()
        layout.addWidget(you)
        layout.addWidget(self.question)
        layout.addWidget(label(name, "section"))
        layout.addWidget(self.text)
        self._tools = QWidget()
        tools = QVBoxLayout(self._tools)
        tools.setContentsMargins(0, 0, 0, 0)
        tools.addWidget(self.facts)
        buttons = (self.go_on, self.again, self.inspect)
        tools.addLayout(row(*buttons, 1, self.earlier, self.place, self.later, spacing=4))
        layout.addWidget(self._tools)
        self.go_on.clicked.connect(self.continue_clicked)
        self.again.clicked.connect(self.again_clicked)
        self.inspect.clicked.connect(self._inspect_last)
        self.earlier.clicked.connect(lambda: self._choose(self.exchange.shown - 1))
        self.later.clicked.connect(lambda: self._choose(self.exchange.shown + 1))
        self.text.token_clicked.connect(self._clicked)
        self.show_answer()

    def show_answer(self) -> None:
        """Draw the answer that counts."""
        answer = self.exchange.answer
        self.text.start(answer.begun if answer is not None else "")
        for run in answer.runs if answer is not None else ():
            self._append(run, run.events)
        self._show_facts()

    def append(self, run: Run, steps: list[StepEvent]) -> None:
        """Steps of a run of the answer that counts arrived; those of another answer are drawn when it is chosen."""
        answer = self.exchange.answer
        if answer is not None and run in answer.runs:
            self._append(run, steps)
            self._show_facts()

    def set_tools(self, *, last: bool, free: bool) -> None:
        """What can be done: only the last exchange goes on, and only while the model is free."""
        answer = self.exchange.answer
        written = answer is not None and bool(answer.text)
        self.go_on.setVisible(last)
        self.again.setVisible(last)
        self.go_on.setEnabled(free and written)
        self.again.setEnabled(free and answer is not None)
        self.inspect.setEnabled(answer is not None and any(r.events for r in answer.runs))
        several = len(self.exchange.answers) > 1
        for widget in (self.earlier, self.later, self.place):
            widget.setVisible(several)
        self.place.setText(f"{self.exchange.shown + 1} of {len(self.exchange.answers)}")
        # Another answer of a question that was followed up would make the rest a different chat.
        self.earlier.setEnabled(last and free and self.exchange.shown > 0)
        self.later.setEnabled(last and free and self.exchange.shown + 1 < len(self.exchange.answers))

    def _append(self, run: Run, steps: list[StepEvent]) -> None:
        answer = self.exchange.answer
        if answer is not None:
            self.text.append_steps(shifted(steps, answer.tokens_before(run)))

    def _show_facts(self) -> None:
        answer = self.exchange.answer
        run = answer.runs[-1] if answer is not None and answer.runs else None
        if run is None or not run.events:
            self.facts.setText("" if run is not None or answer is None else "Written in an earlier session.")
            return
        s = run.summary
        facts = [count_of(s.new_tokens, "token"), f"{number(s.tokens_per_second)} tokens/s"]
        facts.append(f"{s.tokens_per_call:.2f} a call")
        if s.proposed:
            facts.append(f"{100 * s.acceptance_rate:.0f} % of {count_of(s.proposed, 'draft')} accepted")
        facts.append(f"seed {run.request.seed}")
        if (end := ENDS.get(run.totals.stop_reason)) is not None:  # type: ignore[arg-type]
            facts.append(end)
        self.facts.setText("  ·  ".join(facts))

    def _choose(self, number_: int) -> None:
        self.exchange.shown = number_
        self.show_answer()
        self.answer_chosen.emit()

    def _clicked(self, _step: StepEvent, item: TokenEvent | DraftNode) -> None:
        answer: Answer | None = self.exchange.answer
        found = answer.run_of(item.index) if answer is not None and isinstance(item, TokenEvent) else None
        if found is not None:
            self.inspect_requested.emit(*found)

    def _inspect_last(self) -> None:
        answer = self.exchange.answer
        if answer is not None and answer.runs:
            self.inspect_requested.emit(answer.runs[-1], 0)


class Composer(QPlainTextEdit):
    """Where the next message is written: Enter sends, Shift+Enter begins a line.

    Signals:
        sent(): Enter was pressed.
    """

    sent = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Message")
        self.setTabChangesFocus(True)
        sized(self, height=72)

    def event(self, event: QEvent) -> bool:
        """Ctrl+Enter is Run elsewhere; here it sends."""
        if event.type() is QEvent.Type.ShortcutOverride and _is_enter(event):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QEvent) -> None:  # type: ignore[override]
        if _is_enter(event) and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:  # type: ignore[attr-defined]
            self.sent.emit()
        else:
            super().keyPressEvent(event)  # type: ignore[arg-type]


def _is_enter(event: QEvent) -> bool:
    return event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)  # type: ignore[attr-defined]
