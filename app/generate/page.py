"""The Generate page: choices on the left, the streaming text in the middle, live plots on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction, QGuiApplication, QResizeEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app.engine.run import Run
from app.engine.session import EngineState, RunRefused
from app.export.menu import copy_present_command
from app.generate.columns import GenerateColumns
from app.generate.empty_state import empty_state
from app.generate.file_actions import file_actions
from app.generate.prompt_room import PromptRoom
from app.generate.proof_badge import ProofBadge
from app.generate.run_buttons import RunButtons
from app.generate.run_sentence import RunSentence
from app.prompts import greeting
from app.state.context import AppContext
from app.state.loader import Loader
from app.state.preferences import Preferences
from app.state.setup import GenerationSetup
from app.tour.explain import explain_run
from app.widgets.actions import make_action
from app.widgets.basic import ElidedLabel, tool_button
from app.widgets.controls import DecodingControls
from app.widgets.embedding_card import EmbeddingCard
from app.widgets.figures import Figures
from app.widgets.legend import Legend
from app.widgets.live_plots import LivePlots
from app.widgets.model_card import ModelCard
from app.widgets.page import Page
from app.widgets.prompt_editor import PromptEditor
from app.widgets.token_view import TokenView
from pass_core.decoding.events import DraftNode, StepEvent, StopReason, TokenEvent
from pass_core.prompt import ChatTemplateError
from pass_core.settings import FALLBACK_LOOKAHEAD

if TYPE_CHECKING:
    from app.widgets.token_layout import Piece
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel


class GeneratePage(Page):
    """Runs what the controls say, and shows it.

    Attributes:
        run_action, stop_action, ghosts_action, copy_action, plots_action: for menus and shortcuts.

    Signals:
        run_started(Run): this page's run has begun.
        inspect_requested(int | None): the token of that index was clicked; None for a draft.
    """

    run_started = Signal(object)
    inspect_requested = Signal(object)

    def __init__(self, context: AppContext, loader: Loader, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._loader = loader
        self._pending_run = False
        self._run: Run | None = None
        self._untold: list[StepEvent] = []
        theme = context.theme
        self.model_card = ModelCard(theme, loader.recent)
        self.embedding_card = EmbeddingCard(theme)
        self.prompt = PromptEditor(theme)
        self._room = PromptRoom(context, self.prompt, self.setup, self._prompt_changed)
        self.controls = DecodingControls(theme)
        self.figures = Figures()
        self.text = TokenView(theme)
        self.legend = Legend(theme)
        self.reason = ElidedLabel("", "faint")
        self.plots = LivePlots(theme)
        self.sentence = RunSentence()
        self.proof = ProofBadge(context)
        self._make_actions()
        self._lay_out()
        self._connect()
        self._greet()

    # -- what the window and other pages call ----------------------------------------------------------------------

    def run(self) -> None:
        """Start a run with the present choices; waits for a model that is being loaded."""
        context = self._context
        if self._loader.loading and (context.model is None or context.jobs.exclusive_title):
            self._pending_run = True
            self._show_run_button()
            self.text.set_empty_state("Starting as soon as the model has loaded", "Esc takes it back.")
            return
        self._pending_run = False
        self._publish()
        if not context.setup.value.prompt_text.strip():
            context.report_error("The prompt is empty. Write a few words, or pick a ready prompt.")
            return
        if self._room.refuses():
            return
        try:
            run = context.session.start(context.request())
        except (RunRefused, ChatTemplateError) as error:
            context.report_error(str(error))
            return
        self._follow(run)

    def stop(self) -> None:
        """Stop the run, or take back one that waits for the model."""
        if self._pending_run:
            self._pending_run = False
            self._show_empty_state()
            self._show_run_button()
        if self.running:
            self._context.session.stop()

    def _show_setup(self, setup: GenerationSetup) -> None:
        """Somebody set other choices ("run again", presets); those that the controls do not take are set again."""
        if setup == self.setup():
            return
        self.prompt.set_text(setup.prompt_text)
        self.prompt.chat.setChecked(setup.chat and self.prompt.chat.isEnabled())
        self.controls.set_settings(setup.settings, setup.stop, setup.seed)
        self.embedding_card.set_disabled_parts(setup.settings.disabled_parts)
        self._publish()

    def explain(self) -> None:
        """Show one step of the newest run, drawn and told."""
        explain_run(self._context, self._run, self)

    def setup(self) -> GenerationSetup:
        """What the controls show."""
        return GenerationSetup(
            prompt_text=self.prompt.text(),
            chat=self.prompt.chat.isChecked(),
            seed=self.controls.seed(),
            settings=self.controls.settings(),
            stop=self.controls.stop_conditions(),
        )

    def actions_for_menu(self) -> list[QAction]:
        """Entries of the page's menu."""
        copies = [self.copy_action, self.command_action]
        return [self.run_action, self.stop_action, *copies, self.ghosts_action, self.plots_action]

    def actions_for_file_menu(self) -> list[QAction]:
        """What can be opened."""
        return file_actions(self, self.model_card, self.embedding_card)

    def page_shown(self) -> None:
        """Became visible."""
        self.plots.redraw()

    def shown_run(self) -> Run | None:
        """The newest run."""
        return self._run

    def remember(self, preferences: Preferences) -> None:
        """The width of the columns."""
        preferences.set_bytes("window/splitter", self.splitter.saveState())

    def restore(self, preferences: Preferences) -> None:
        """The width of the columns, and whether rejected drafts show."""
        splitter = preferences.get_bytes("window/splitter")
        if not splitter.isEmpty():
            self.splitter.restoreState(splitter)
        self.ghosts_action.setChecked(preferences.get("view/ghosts", False))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_plots()

    def _fit_plots(self) -> None:
        self.splitter.fit(self.width(), wanted=self.plots_action.isChecked())

    # -- run -------------------------------------------------------------------------------------------------------

    def _run_here(self) -> None:
        """Show this page and run: Ctrl+Enter may come from any page."""
        self._context.page_requested.emit("generate")
        self.run()

    @property
    def running(self) -> bool:
        """Whether this page's run is in progress."""
        return self._run is not None and not self._run.done

    def _follow(self, run: Run) -> None:
        self._run = run
        prompt = run.request.prompt_text
        self.text.set_empty_state("", "")
        self.text.start(prompt + "\n\n" if run.request.chat else prompt)
        self.legend.reset()
        self.figures.start()
        lookahead = run.request.lookahead
        self.plots.start(lookahead.count if lookahead is not None else FALLBACK_LOOKAHEAD)
        self.reason.set_full_text("")
        run.steps_arrived.connect(self._arrived)
        run.progressed.connect(self._progressed)
        self._untold = []
        run.finished.connect(self._finished)
        self._show_run_button()
        self.run_started.emit(run)

    def _arrived(self, steps: list[StepEvent]) -> None:
        self.text.append_steps(steps)
        self.plots.add_steps(steps)
        self._untold += steps

    def _progressed(self) -> None:
        if not self._untold:
            return
        self.legend.add_steps(self._untold)
        self.figures.show_series(self.plots.series)
        reason = self._untold[-1].reason
        self.reason.set_full_text(f"auto: {reason}" if reason else "")
        self._untold = []

    def _finished(self) -> None:
        run = self._run
        if run is None:
            return
        self.plots.redraw()
        self.controls.after_run()
        if not run.totals.new_tokens and run.totals.stop_reason is StopReason.CONTEXT_FULL:
            self._room.report(run.totals.prompt_tokens)
        if run.error is not None:
            from app.state.errors import plain_sentence

            self._context.report_error(plain_sentence(run.error, "The run ended early"), run.error)

    def _clicked(self, _step: StepEvent, item: TokenEvent | DraftNode) -> None:
        self.inspect_requested.emit(item.index if isinstance(item, TokenEvent) else None)

    def _hovered(self, piece: Piece | None) -> None:
        """The mouse is over the text: the curves show where."""
        self.plots.show_token(piece.token.index if piece is not None and piece.token is not None else None)

    def _point_out(self, index: int | None) -> None:
        """The mouse is over a curve: the text shows where."""
        self.text.mark_tokens([] if index is None else [index])

    # -- choices ---------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        setup = self.setup()
        self._context.setup.set(setup)
        if self.running:
            self._context.session.set_settings(setup.settings)

    def _prompt_changed(self) -> None:
        self._publish()
        self._room.count()

    def _parts_changed(self, parts: object) -> None:
        self.controls.set_disabled_parts(self.embedding_card.disabled_parts())
        self._publish()

    # -- model -----------------------------------------------------------------------------------------------------

    def _model_changed(self, model: LanguageModel | None) -> None:
        self._show_model()
        if model is not None:
            self.controls.set_pass_supported(model.capabilities.supports_pass)
            self.prompt.set_chat_available(bool(getattr(model.tokenizer, "chat_template", None)))
        self._room.count()
        self._show_run_button()
        self._show_empty_state()

    def _show_model(self) -> None:
        engine = self._context.engine
        self.model_card.show_model(self._context.model, engine.forward_weights if engine is not None else None)

    def _lookahead_changed(self, lookahead: LookaheadEmbeddings | None) -> None:
        engine = self._context.engine
        self.embedding_card.show_lookahead(lookahead, engine.bigrams if engine is not None else None)
        self.model_card.show_lookahead(lookahead)
        if lookahead is None:
            return
        self.controls.set_lookahead_count(lookahead.count)
        training = lookahead.training
        self.plots.positions.show_reference(training.acceptance if training is not None else ())
        self.plots.positions.show_data([], [], lookahead.count)
        self._publish()
        if self._pending_run:
            self.run()

    def _loading_changed(self, title: str) -> None:
        self.model_card.show_loading(title)
        self._show_empty_state()
        self._show_run_button()

    def _load_failed(self, sentence: str) -> None:
        self._pending_run = False
        self.model_card.set_choice(self._loader.choice)
        self._show_model()
        self._show_run_button()
        self._show_empty_state()

    # -- look ------------------------------------------------------------------------------------------------------

    def _greet(self) -> None:
        self.prompt.set_text(greeting())
        self._publish()
        self._show_empty_state()
        self._show_run_button()

    def _show_empty_state(self) -> None:
        if self.text.steps or self._context.session.running:
            return
        loaded = self._context.model is not None
        self.text.set_empty_state(*empty_state(loaded=loaded, loading=bool(self._loader.loading)))

    def _show_run_button(self) -> None:
        session, waiting = self._context.session, self._pending_run
        ready = self._context.model is not None or bool(self._loader.loading)
        busy = self._context.jobs.exclusive_title if not self._loader.loading else ""
        self.run_action.setEnabled(ready and not session.running and not busy and not waiting)
        # Esc stops what another page runs, where it has Esc too
        self.stop_action.setEnabled(waiting or (self.running and session.state is EngineState.RUNNING))
        self.buttons.show(
            running=session.running,
            stopping=session.stopping,
            waiting=waiting,
            can_run=self.run_action.isEnabled(),
            can_stop=self.stop_action.isEnabled(),
            busy=busy,
        )

    def _make_actions(self) -> None:
        self.run_action = make_action(self, "Run", self._run_here, "Ctrl+Return", "Ctrl+Enter")
        self.stop_action = make_action(self, "Stop", self.stop, "Esc")
        self.copy_action = make_action(self, "Copy text", self._copy, "Ctrl+Shift+C")
        self.command_action = make_action(self, "Copy as command line", lambda: copy_present_command(self._context))
        self.ghosts_action = make_action(self, "Show rejected drafts", None, "Ctrl+G", checkable=True)
        self.ghosts_action.toggled.connect(self._show_ghosts)
        self.plots_action = make_action(self, "Show plots", None, "Ctrl+P", checkable=True)
        self.plots_action.setChecked(True)

    def _show_ghosts(self, on: bool) -> None:
        self.text.set_ghosts(on)
        self._context.preferences.set("view/ghosts", on)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.text.plain_text())
        self._context.notify("The generated text is in the clipboard.")

    def _lay_out(self) -> None:
        theme = self._context.theme
        self.buttons = RunButtons(theme)
        self.run_button, self.stop_button = self.buttons.run, self.buttons.stop
        cards = (self.model_card, self.prompt, self.controls, self.embedding_card)
        self.splitter = GenerateColumns()
        self.splitter.set_choices(cards, (self.run_button, self.stop_button))
        ghosts = tool_button("ph.ghost", "Show rejected drafts beside corrections (Ctrl+G)", theme, checkable=True)
        ghosts.toggled.connect(self.ghosts_action.setChecked)
        self.ghosts_action.toggled.connect(ghosts.setChecked)
        copy = tool_button("ph.copy", "Copy the generated text (Ctrl+Shift+C)", theme)
        copy.clicked.connect(self.copy_action.trigger)
        self.export_button = tool_button("ph.export", "Export this run", theme)
        head, tools = (self.sentence, self.legend), (self.proof, ghosts, copy, self.export_button)
        self.splitter.set_text(self.figures, head, self.text, self.reason, tools)
        self.splitter.set_plots(self.plots)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.splitter)

    def _connect(self) -> None:
        context, loader = self._context, self._loader
        context.session.state_changed.connect(self._show_run_button)
        context.model_changed.connect(self._model_changed)
        context.lookahead_changed.connect(self._lookahead_changed)
        context.setup.changed.connect(self._show_setup)
        context.run_requested.connect(self.run)
        context.busy_changed.connect(self._show_run_button)
        loader.loading_changed.connect(self._loading_changed)
        loader.progress.connect(self.model_card.show_progress)
        loader.requested.connect(self.model_card.set_choice)
        loader.choice_changed.connect(self.model_card.set_choice)
        loader.failed.connect(self._load_failed)
        loader.lookahead_options_changed.connect(self.embedding_card.set_options)
        self.model_card.load_requested.connect(loader.load)
        self.model_card.unload_requested.connect(loader.unload)
        self.model_card.cancel_requested.connect(loader.cancel)
        self.embedding_card.file_requested.connect(loader.load_lookahead)
        self.embedding_card.bigrams_requested.connect(loader.read_bigrams)
        self.embedding_card.parts_changed.connect(self._parts_changed)
        self.prompt.changed.connect(self._prompt_changed)
        self.controls.changed.connect(self._publish)
        self.run_button.clicked.connect(self.run_action.trigger)
        self.stop_button.clicked.connect(self.stop_action.trigger)
        self.plots_action.toggled.connect(self._fit_plots)
        self.text.token_clicked.connect(self._clicked)
        self.text.token_hovered.connect(self._hovered)
        self.plots.token_hovered.connect(self._point_out)
        self.run_started.connect(self.sentence.follow)
        self.run_started.connect(self.proof.follow)
        self.sentence.explain_clicked.connect(self.explain)
