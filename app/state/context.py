"""What every page may use: one shared `AppContext`, handed to each page's constructor.

A page is an `app.widgets.page.Page` made as `SomePage(context)` and added with
`MainWindow.add_page(key, title, icon, page)`; `icon` is a qtawesome name of the Phosphor set, such as "ph.chart-line".

What a page does with the context:

- Model: read `context.model` (a `LanguageModel` or None), follow `model_changed`. The same for `context.lookahead`.
- Generate text: `run = context.session.start(request)`; follow `run.steps_arrived(list[StepEvent])` and
  `run.finished()`.
- Long work (training, benchmark): `job = context.jobs.start(title, work, exclusive=True)`; `work(control)` runs in the
  engine thread and may call `control.progress(Progress)`, `control.emit(anything)`, `control.cancel.cancelled`.
  `exclusive=True` claims the model: generation is refused with a plain sentence until it is done, and the other way
  round (`context.busy_with` says with what, `busy_changed` tells).
- Errors: `context.report_error("Plain sentence. Way out.", error)` shows the banner with details to copy.
- Colours: `context.theme.current` (a `Theme`, see app/theme/roles.py) and `context.theme.changed`; never a literal
  colour. Icons: `app.theme.icons.set_icon(widget, "ph.play", context.theme)` keeps the colour right.
- The user's present choices (prompt, seed, settings): `context.setup.value`, `context.setup.changed`; to set them and
  show them, as "run again" does, `context.apply_setup(setup)`.
- Remembered choices: `context.preferences.get(key, default)`, `.set(key, value)`; JSON-like values.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.engine.jobs import JobRunner
from app.engine.run import RunRequest
from app.engine.session import EngineSession
from app.engine.thread import EngineThread
from app.state.activity import Activity
from app.state.preferences import Preferences
from app.state.setup import GenerationSetup, SetupModel
from app.theme.apply import ThemeManager
from pass_core.prompt import ChatTemplateError, Prompt

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class WayOut:
    """What can be done about an error: a button's title, and what it does."""

    title: str
    take: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """A plain sentence with a way out, and what a developer wants to copy."""

    sentence: str
    details: str = ""
    way_out: WayOut | None = None

    @classmethod
    def of(cls, sentence: str, error: BaseException | None = None, way_out: WayOut | None = None) -> ErrorReport:
        return cls(sentence, "".join(traceback.format_exception(error)) if error is not None else "", way_out)


class AppContext(QObject):
    """Shared state of the window.

    Attributes:
        session: runs generations in the engine thread, one at a time.
        activity: what the window is doing now.
        jobs: runs any other long work in the same thread.
        theme: the current theme and its change signal.
        preferences: what is remembered between starts.
        engine, model, lookahead: what is loaded now, None while nothing is.
        setup: the user's present choices.

    Signals:
        model_changed(LanguageModel | None), lookahead_changed(LookaheadEmbeddings | None): after the fact.
        pane_requested(BaselineSettings): somebody wants a pane of Compare to decode with them.
        run_requested(): the Generate page shall run the present choices.
        chat_requested(GenerationSetup, bool): the Chat page shall take this chat, and answer it where True.
        busy_changed(str): what holds the model now, "" when it is free.
        error_raised(ErrorReport), notice_raised(str): for the banner.
        page_requested(str): show the page of this key.
        load_model_requested(str), load_lookahead_requested(str): a source or path that a page wants loaded.
    """

    model_changed = Signal(object)
    lookahead_changed = Signal(object)
    pane_requested = Signal(object)
    run_requested = Signal()
    chat_requested = Signal(object, bool)
    busy_changed = Signal(str)
    error_raised = Signal(object)
    notice_raised = Signal(str)
    page_requested = Signal(str)
    load_model_requested = Signal(str)
    load_lookahead_requested = Signal(str)

    def __init__(self, preferences: Preferences, theme: ThemeManager, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.preferences = preferences
        self.theme = theme
        self.engine_thread = EngineThread(self)
        self.session = EngineSession(self.engine_thread, self)
        self.jobs = JobRunner(self.engine_thread, self)
        self.activity = Activity(self.session, self.jobs, self)
        self.engine: Engine | None = None
        self.lookahead: LookaheadEmbeddings | None = None
        self.setup = SetupModel(self)
        self.session.state_changed.connect(self._announce_busy)
        self.jobs.exclusive_changed.connect(self._announce_busy)
        self.session.refuse_when = lambda: self.jobs.exclusive_title
        self.jobs.refuse_when = lambda: "a generation" if self.session.running else ""

    @property
    def model(self) -> LanguageModel | None:
        """The loaded model."""
        return None if self.engine is None else self.engine.model

    @property
    def busy_with(self) -> str:
        """What holds the model now, in a person's words; "" when it is free."""
        if self.jobs.exclusive_title:
            return self.jobs.exclusive_title
        return "a generation" if self.session.running else ""

    def set_engine(self, engine: Engine | None) -> None:
        """Replace the loaded model; look-ahead embeddings of another model are dropped by the caller."""
        self.engine = engine
        self.session.set_engine(engine)
        self.model_changed.emit(self.model)

    def set_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        """Replace the look-ahead embeddings used by runs that start from now on."""
        self.lookahead = lookahead
        self.lookahead_changed.emit(lookahead)

    def apply_setup(self, setup: GenerationSetup, *, show: bool = True) -> None:
        """Take these choices, and show the Generate page; where a baseline wrote the run, a pane of Compare takes it,
        and only the sampling of `settings` is taken; a chat goes on on its own page."""
        if setup.messages:
            self._apply_chat(setup, run=False, show=show)
            return
        baseline = setup.baseline
        if baseline is not None:
            setup = replace(setup, settings=replace(self.setup.value.settings, sampling=setup.settings.sampling))
        self.setup.set(setup)
        if baseline is not None:
            self.pane_requested.emit(baseline)
        if show:
            self.page_requested.emit("generate" if baseline is None else "compare")

    def run_again(self, setup: GenerationSetup) -> None:
        """Take these choices and run them; a baseline waits for Compare to be pressed."""
        if setup.messages:
            self._apply_chat(setup, run=True, show=True)
            return
        self.apply_setup(setup)
        if setup.baseline is None and self.model is not None:
            self.run_requested.emit()

    def _apply_chat(self, setup: GenerationSetup, *, run: bool, show: bool) -> None:
        """The prompt of the Generate page stays as it is."""
        own = self.setup.value
        self.setup.set(replace(setup, prompt_text=own.prompt_text, chat=own.chat, messages=()))
        if show:
            self.page_requested.emit("chat")
        self.chat_requested.emit(setup, run)

    def request(self, setup: GenerationSetup | None = None, *, label: str = "") -> RunRequest:
        """A RunRequest of `setup` (default: the present choices) on the loaded model and look-ahead embeddings.

        Raises:
            ChatTemplateError: chat is on and the model has no usable template.
        """
        setup = setup or self.setup.value
        return RunRequest(
            prompt=self.render_prompt(setup.prompt),
            prompt_text=setup.prompt_text,
            chat=setup.chat,
            messages=setup.messages,
            seed=setup.seed,
            settings=setup.settings,
            stop=setup.stop,
            lookahead=self.lookahead,
            label=label,
        )

    def render_prompt(self, prompt: Prompt) -> str:
        """What the model reads for `prompt`.

        Raises:
            ChatTemplateError: see `request`.
        """
        from pass_core.models.prompts import rendered

        if not prompt.chat:
            return prompt.text
        if self.model is None:
            raise ChatTemplateError("No model is loaded, so there is no chat template. Load one, or switch chat off.")
        return rendered(self.model, prompt)

    def report_error(self, sentence: str, error: BaseException | None = None, way_out: WayOut | None = None) -> None:
        """Show a plain sentence in the banner, with the traceback as details to copy."""
        self.error_raised.emit(ErrorReport.of(sentence, error, way_out))

    def notify(self, sentence: str) -> None:
        """Show a passing remark in the banner."""
        self.notice_raised.emit(sentence)

    def stop_everything(self) -> None:
        """Ask all work to end, and let nothing begin any more (the window closes)."""
        self.session.stop()
        self.jobs.cancel_all()
        self.engine_thread.close()

    @property
    def working(self) -> bool:
        """Whether a generation or job has not ended."""
        return self.session.running or bool(self.jobs.running())

    def shut_down(self, seconds: float = 1.0) -> bool:
        """End the engine thread; idempotent.

        Returns:
            Whether it has ended. When it has not, the process must be ended by force.
        """
        self.stop_everything()
        self.session.drop()
        return self.engine_thread.shut_down(seconds)

    def _announce_busy(self, *_: object) -> None:
        self.busy_changed.emit(self.busy_with)
