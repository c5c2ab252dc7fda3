"""The Chat page: several turns with the model's own template, each answer coloured and open to inspection."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QPushButton, QScrollArea, QVBoxLayout, QWidget

from app.chat.conversation import Answer, Conversation, Exchange
from app.chat.exchange_view import Composer, ExchangeView
from app.engine.run import Run
from app.engine.session import RunRefused
from app.state.context import AppContext, WayOut
from app.state.preferences import Preferences
from app.state.setup import GenerationSetup
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.actions import make_action
from app.widgets.basic import Card, label, row, set_tone
from app.widgets.controls import MAX_SEED
from app.widgets.page import Page
from app.widgets.text_format import settings_text
from pass_core.decoding.events import StepEvent
from pass_core.prompt import Message, PromptError, Role

if TYPE_CHECKING:
    from pass_core.models.language_model import LanguageModel

EMPTY = "Ask something below. Strategy, sampling, seed and length are those of the Generate page."
KEPT = "chat/messages"


class ChatPage(Page):
    """One conversation.

    Attributes:
        conversation: what was said.
        system, composer, send, stop: parts that a person uses.
        views: one for each exchange.

    Signals:
        inspect_requested(Run, int): see ExchangeView.
    """

    inspect_requested = Signal(object, int)

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._run: Run | None = None
        self.conversation = Conversation()
        self.views: list[ExchangeView] = []
        self._make_parts()
        self._lay_out()
        context.model_changed.connect(self._model_changed)
        context.busy_changed.connect(self._refresh)
        context.setup.changed.connect(self._show_settings)
        context.chat_requested.connect(self._take)
        self._model_changed(context.model)
        self._show_settings()

    # -- what people do ------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Send what is in the composer."""
        question = self.composer.toPlainText().strip()
        if not question or not self.send.isEnabled():
            return
        exchange = Exchange(question)
        self.conversation.exchanges.append(exchange)
        if self._answer(exchange, Answer(), self._context.setup.value.seed):
            self.composer.clear()
            self._count()
        else:
            self.conversation.exchanges.remove(exchange)

    def continue_answer(self) -> None:
        """The last answer goes on."""
        exchange = self._last()
        if exchange is not None and exchange.answer is not None:
            self._answer(exchange, exchange.answer, self._context.setup.value.seed)

    def regenerate(self) -> None:
        """Another answer to the last question, with a new seed."""
        exchange = self._last()
        if exchange is not None:
            self._answer(exchange, Answer(), random.randrange(MAX_SEED))

    def begin_anew(self) -> None:
        """An empty chat; the runs of the old one are in the history."""
        if self.running:
            self._context.session.stop()
        self._show(Conversation(self.conversation.system))

    def forget_oldest(self) -> None:
        """Make room: the first exchange is forgotten."""
        if len(self.conversation.exchanges) > 1:
            del self.conversation.exchanges[0]
            self._show(self.conversation)

    @property
    def running(self) -> bool:
        """Whether an answer is being written."""
        return self._run is not None and not self._run.done

    def actions_for_menu(self) -> list[QAction]:
        """Entries of the page's menu."""
        return [
            make_action(self, "New chat", self.begin_anew),
            make_action(self, "Continue the last answer", self.continue_answer),
            make_action(self, "Regenerate the last answer", self.regenerate),
            make_action(self, "Forget the oldest question", self.forget_oldest),
        ]

    def page_shown(self) -> None:
        """Became visible."""
        self._count()
        self.composer.setFocus()

    def shown_run(self) -> Run | None:
        """The newest run."""
        return self._run

    def remember(self, preferences: Preferences) -> None:
        """What was said; the colours are in the history."""
        told = [{"role": m.role.value, "text": m.text} for m in self.conversation.messages()]
        preferences.set(KEPT, told)

    def restore(self, preferences: Preferences) -> None:
        """The chat of the last start."""
        messages: list[Message] = []
        for item in preferences.get(KEPT, []):
            role, text = (item.get("role"), item.get("text")) if isinstance(item, dict) else (None, None)
            if role not in set(Role) or not isinstance(text, str):
                return
            messages.append(Message(Role(role), text))
        self._show(Conversation.of(messages))

    # -- one answer ----------------------------------------------------------------------------------------------------

    def _answer(self, exchange: Exchange, answer: Answer, seed: int) -> bool:
        """Begin to write, or to go on with, an answer; False, and a sentence in the banner, when that cannot be."""
        context, own = self._context, self._context.setup.value
        messages = self.conversation.messages(exchange, answer.text)
        setup = GenerationSetup(
            exchange.question, chat=True, seed=seed, settings=own.settings, stop=own.stop, messages=messages
        )
        try:
            engine = context.engine
            if engine is not None:
                used, limit = len(engine.encode(setup.prompt)), engine.model.capabilities.context_length
                if used >= limit:
                    context.report_error(
                        f"This chat has {used:,} tokens, and that fills the model's context of {limit:,}. Forget the "
                        "oldest question, or begin a new chat.",
                        way_out=WayOut("Forget the oldest", self.forget_oldest),
                    )
                    return False
            run = context.session.start(context.request(setup))
        except (RunRefused, PromptError) as error:
            context.report_error(str(error))
            return False
        if answer not in exchange.answers:
            exchange.add(answer)
        answer.runs.append(run)
        self._run = run
        view = self._view_of(exchange)
        view.show_answer()
        run.steps_arrived.connect(partial(self._arrived, view, run))
        run.finished.connect(partial(self._finished, run))
        self._refresh()
        self._to_the_end()
        return True

    def _arrived(self, view: ExchangeView, run: Run, steps: list[StepEvent]) -> None:
        bar = self._scroll.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 4
        view.append(run, steps)
        if at_end:
            self._to_the_end()

    def _finished(self, run: Run) -> None:
        if run.error is not None:
            from app.state.errors import plain_sentence

            self._context.report_error(plain_sentence(run.error, "The answer ended early"), run.error)
        self._count()
        self._refresh()

    def _take(self, setup: GenerationSetup, run: bool) -> None:
        """A chat from the history: its turns, and the answer to the last of them anew."""
        if self.running:
            self._context.report_error("An answer is being written. Stop it first.")
            return
        try:
            begun = setup.prompt.answer
        except PromptError as error:
            self._context.report_error(str(error))
            return
        self._show(Conversation.of(setup.messages))
        exchange = self._last()
        if run and exchange is not None:
            self._answer(exchange, exchange.answer if begun and exchange.answer else Answer(), setup.seed)

    # -- look ----------------------------------------------------------------------------------------------------------

    def _last(self) -> Exchange | None:
        return self.conversation.exchanges[-1] if self.conversation.exchanges else None

    def _view_of(self, exchange: Exchange) -> ExchangeView:
        for view in self.views:
            if view.exchange is exchange:
                return view
        model = self._context.model
        view = ExchangeView(exchange, model.name if model is not None else "Model", self._context.theme)
        view.continue_clicked.connect(self.continue_answer)
        view.again_clicked.connect(self.regenerate)
        view.inspect_requested.connect(self.inspect_requested)
        view.answer_chosen.connect(self._refresh)
        self.views.append(view)
        self._column.insertWidget(self._column.count() - 1, view)
        return view

    def _show(self, conversation: Conversation) -> None:
        """Draw a chat."""
        for view in self.views:
            self._column.removeWidget(view)
            view.hide()
            view.deleteLater()
        self.views.clear()
        self.conversation = conversation
        self.system.blockSignals(True)
        self.system.setPlainText(conversation.system)
        self.system.blockSignals(False)
        for exchange in conversation.exchanges:
            self._view_of(exchange)
        self._count()
        self._refresh()

    def _refresh(self, *_: object) -> None:
        why = self._obstacle()
        running, busy = self.running, self._context.busy_with
        self.send.setVisible(not running)
        self.stop.setVisible(running)
        self.stop.setEnabled(not self._context.session.stopping)
        self.send.setEnabled(not why and not busy)
        self.send.setToolTip(why or (f"The model is busy with {busy}." if busy else "Enter"))
        self.hint.setText(why or EMPTY)
        self.hint.setVisible(bool(why) or not self.views)
        for view in self.views:
            view.set_tools(last=view.exchange is self._last(), free=not why and not busy)

    def _obstacle(self) -> str:
        """Why nothing can be asked, "" when something can."""
        model = self._context.model
        if model is None:
            return "No model is loaded. Choose one on the Generate page."
        if not getattr(model.tokenizer, "chat_template", None):
            return (
                f"{model.name} has no chat template. Choose an instruct model, or let it continue a text on Generate."
            )
        return ""

    def _model_changed(self, model: LanguageModel | None) -> None:
        said = ""
        if model is not None and not self._obstacle():
            from pass_core.models.prompts import default_system

            said = default_system(model)
        self.system.setPlaceholderText(said or "None. Write here how the model shall answer.")
        self._count()
        self._refresh()

    def _show_settings(self, *_: object) -> None:
        setup = self._context.setup.value
        self.settings.setText(
            f"{settings_text(setup.settings)}  ·  seed {setup.seed}  ·  {setup.stop.max_new_tokens} new tokens"
        )

    def _system_changed(self) -> None:
        self.conversation.system = self.system.toPlainText().strip()
        self._count()

    def _count(self) -> None:
        """How much of the context the chat fills."""
        engine = self._context.engine
        self.used.setText("")
        if engine is None or self._obstacle() or not self.isVisible():
            return
        last, limit = self._last(), engine.model.capabilities.context_length
        messages = self.conversation.messages(last, last.answer.text if last is not None and last.answer else "")
        try:
            setup = GenerationSetup(messages=messages)
            used = len(engine.encode(setup.prompt)) if messages and last is not None else 0
        except PromptError:
            return
        self.used.setText(f"{used:,} of {limit:,} tokens")
        set_tone(self.used, "bad" if used >= limit else "")

    def _to_the_end(self) -> None:
        bar = self._scroll.verticalScrollBar()
        QTimer.singleShot(0, bar, lambda: bar.setValue(bar.maximum()))

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _make_parts(self) -> None:
        theme = self._context.theme
        self.system = QPlainTextEdit()
        self.system.setAccessibleName("System prompt")
        self.system.setTabChangesFocus(True)
        sized(self.system, height=48)
        self.system.textChanged.connect(self._system_changed)
        self.anew = QPushButton("New chat")
        set_icon(self.anew, "ph.plus", theme)
        self.anew.clicked.connect(self.begin_anew)
        self.hint = label("", "muted", wrap=True)
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.composer = Composer()
        self.composer.setPlaceholderText("Your message. Enter sends it, Shift+Enter begins a new line.")
        self.composer.sent.connect(self.ask)
        self.send, self.stop = QPushButton("Send"), QPushButton("Stop")
        self.send.setProperty("role", "primary")
        set_icon(self.send, "ph.paper-plane-right", theme, "on_accent", "on_accent")
        set_icon(self.stop, "ph.stop-fill", theme, "danger", "danger")
        self.send.clicked.connect(self.ask)
        self.stop.clicked.connect(self._context.session.stop)
        self.settings, self.used = label("", "faint", wrap=True), label("", "faint")

    def _lay_out(self) -> None:
        head = Card("System prompt")
        head.head.addWidget(self.anew)
        head.body.addWidget(self.system)
        body = QWidget()
        body.setObjectName("scrollBody")
        self._column = QVBoxLayout(body)
        self._column.setContentsMargins(0, 0, 8, 0)
        self._column.setSpacing(8)
        self._column.addWidget(self.hint)
        self._column.addStretch(1)
        self._scroll = QScrollArea()
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.setWidget(body)
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        sized(self._scroll, min_height=160)
        foot = Card()
        write = row(self.composer, self.send, self.stop)
        write.setStretch(0, 1)
        foot.body.addLayout(write)
        told = QHBoxLayout()
        told.addWidget(self.settings, 1)
        told.addWidget(self.used)
        foot.body.addLayout(told)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(8)
        layout.addWidget(head)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(foot)
