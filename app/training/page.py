"""The Train page: choose, see what it takes, watch it learn, try the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from app.engine.aside import Aside
from app.state.context import AppContext
from app.state.folders import Place, folder_of
from app.theme.scale import sized
from app.training.controller import TrainingController, TrainingState
from app.training.ending import cancelled, told
from app.training.estimate_card import EstimateCard
from app.training.form import TrainingForm, readable
from app.training.own_text import Survey, survey
from app.training.plan import SELF, TrainingPlan, training_sentence
from app.training.plots import TrainingPlots
from app.training.report_panel import ReportPanel
from app.training.status_card import StatusCard
from app.training.unfinished import UnfinishedRun
from app.training.views import TRAINING, TrainingViews
from app.widgets.page import Page
from pass_core.training.config import TrainingError

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel
    from pass_core.training.events import Estimate, Finished

FORM_WIDTH = 376
CHOICES = "train/choices"


class TrainPage(Page):
    """One training run at a time, on the loaded model.

    Attributes:
        form, takes, plots, status, controller: its parts.

    Signals:
        compare_requested(str, str): two look-ahead choices for the Compare page ("untrained", "loaded" or a path).
    """

    compare_requested = Signal(str, str)

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAcceptDrops(True)
        self._context = context
        self._unfinished = UnfinishedRun(context)
        self._result: Path | None = None
        self._surveyor = Aside(self)
        self._survey = Survey("")
        self.controller = TrainingController(context, self)
        self.form = TrainingForm(context.theme)
        self.form.folder = lambda: folder_of(Place.TRAINED, context.preferences)
        self.plots = TrainingPlots(context.theme)
        self.status = StatusCard(context.theme)
        self.takes = EstimateCard(context, self.controller)
        self.report = ReportPanel(context, self._plan)
        self.views = TrainingViews((self.status, self.plots), self.report)
        self._make_actions()
        self._lay_out()
        if kept := context.preferences.get(CHOICES, {}):
            self.form.take_choices(kept)
        self._connect()
        self._model_changed(context.model)
        self._lookahead_changed(context.lookahead)

    # -- what the window and other pages call --------------------------------------------------------------------------

    def page_shown(self) -> None:
        """Became visible."""
        self._look_at_text()
        self._show_state()

    def actions_for_menu(self) -> list[QAction]:
        """Entries of the page's menu."""
        return [self.start_action, self.resume_action, self.pause_action, self.cancel_action]

    def shut_down(self) -> None:
        """The window closes: the run ends after its present step, with a checkpoint."""
        self._surveyor.shut_down()
        self.report.shut_down()
        self.controller.shut_down()

    # -- running -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Train with the present choices."""
        plan = self._plan()
        if plan is None:
            if self._context.model is None:
                self._context.report_error("No model is loaded yet. Choose one on the Generate page first.")
            elif not self.form.data():
                self._context.report_error("There is no text to train on yet. Choose a file or folder, or drop one.")
            return
        self._begin(plan)

    def resume(self) -> None:
        """Resume the run that was interrupted."""
        plan = self.unfinished()
        if plan is None:
            self._context.report_error("There is no interrupted run of this model to resume.")
            return
        self.form.take(plan)
        self._begin(replace(plan, resume=True))

    def unfinished(self) -> TrainingPlan | None:
        """The interrupted run of the loaded model, if its checkpoint is still there."""
        return self._unfinished.plan()

    def measure(self) -> None:
        """Estimate time and memory of the present choices, when the model is free."""
        plan = self._plan()
        if plan is None or self.controller.active:
            self._show_estimate()
        elif self.controller.estimate(plan):
            self.takes.show_text("Timing a step…")

    def _begin(self, plan: TrainingPlan) -> None:
        if self._context.busy_with and not self.controller.measuring:
            self._context.report_error(
                f"The model is busy with {self._context.busy_with}. Wait for it to finish, or stop it first."
            )
            return
        same = plan.resume and self.controller.plan is not None and self.controller.plan.out == plan.out
        if not same:
            self.plots.start(min(5, plan.config.lookahead), self._unfinished.untrained() if plan.resume else None)
        self._result = None
        self.views.show_view(TRAINING)
        self.status.start()
        self.status.title.setText(f"Training {plan.out.stem}")
        self.status.title.setToolTip(str(plan.out))
        if not plan.resume:
            self._unfinished.remember(plan, None)
        self.controller.start(plan)

    def _event(self, event: object) -> None:
        from pass_core.training.events import CheckpointSaved, Evaluated, Started, StateHeadEvaluated, StepDone

        if isinstance(event, Started):
            self.plots.go_on_at(event.step, event.estimate.steps)
            self.status.show_begun(event.step, event.estimate.steps, event.train_sequences, event.held_out_sequences)
            self.takes.show_figures(event.estimate, self.form.data())
        elif isinstance(event, StepDone):
            self.plots.add_loss(event.step, event.loss)
            self.status.show_step(event)
        elif isinstance(event, Evaluated):
            self.plots.add_acceptance(event.step, event.acceptance)
            self.status.show_acceptance(event.acceptance, self.plots.untrained if event.step else None)
            if event.step == 0 and self.controller.plan is not None:
                self._unfinished.remember(self.controller.plan, event.acceptance)
            elif event.best:
                self.status.set_detail(f"Best so far: step {event.step}. The file holds it.")
        elif isinstance(event, StateHeadEvaluated):
            self.status.show_state_head(event)
        elif isinstance(event, CheckpointSaved) and self.controller.state is TrainingState.RUNNING:
            self.status.detail.setToolTip(f"Checkpoint after {event.step} steps: {event.path}")

    def _ended(self, finished: Finished | None) -> None:
        if finished is None:
            self.status.show_end(
                "Train look-ahead embeddings", "The training ended before its first step.", result=False
            )
        else:
            self._result = finished.path
            self.status.show_end(*told(finished, self.plots.untrained), result=finished.path is not None)
            if not cancelled(finished):
                self._unfinished.forget()
                self.form.set_out(None)
        self._show_state()

    # -- what can be done with the result ------------------------------------------------------------------------------

    def try_now(self) -> None:
        """Load the result and show the Generate page."""
        if self._result is not None:
            self._context.load_lookahead_requested.emit(str(self._result))
            self._context.page_requested.emit("generate")

    def _compare(self, other: str) -> None:
        if self._result is not None:
            self.compare_requested.emit(other, str(self._result))

    # -- estimate ------------------------------------------------------------------------------------------------------

    def _plan(self) -> TrainingPlan | None:
        try:
            return self.form.plan(self.takes.seconds_per_step)
        except TrainingError as error:
            self.takes.show_text(training_sentence(error))
            return None

    def _estimated(self, plan: TrainingPlan, estimate: Estimate) -> None:
        self.takes.take(plan, estimate)
        self._show_estimate()

    def _not_estimated(self, sentence: str) -> None:
        if sentence:
            self.takes.show_text(sentence)
        else:
            self._show_estimate()

    def _show_estimate(self) -> None:
        if (plan := self._plan()) is not None or not self.takes.estimate.text():
            self.takes.show_plan(plan)

    # -- look ----------------------------------------------------------------------------------------------------------

    def _form_changed(self) -> None:
        self._context.preferences.set(CHOICES, self.form.choices())
        self._look_at_text()
        self._show_state()
        self._show_estimate()

    def _look_at_text(self) -> None:
        """Say what the chosen text holds; it is read again only when another one is chosen."""
        source = self.form.data()
        if source == SELF or not source:
            self._survey = Survey("")
            self.form.show_fit("")
        elif source != self._survey.source or self._survey.problem:
            self._survey = Survey(source)
            self.form.show_fit("Reading the text…")
            self._surveyor.start(lambda progress, cancel: survey(source, cancel))

    def _surveyed(self, found: Survey) -> None:
        if found.source == self.form.data():
            self._survey = found
            self.form.show_fit(found.sentence, good=not found.problem)
            self._show_state()

    def _state_changed(self) -> None:
        state = self.controller.state
        self.status.show_state(state)
        self._show_state()

    def _show_state(self) -> None:
        state, model = self.controller.state, self._context.model
        active = self.controller.active
        interrupted = None if active else self.unfinished()
        able = model is not None and model.capabilities.supports_pass
        bar = self.takes.bar
        if able and not self.form.data():
            bar.set_obstacle("Choose the text to train on.")
        elif able and self._survey.problem:
            bar.set_obstacle(self._survey.problem)
        else:
            bar.set_obstacle("" if able or model is None else model.capabilities.reason)
        bar.set_resumable(interrupted is not None)
        self.form.setEnabled(not active)
        self.takes.time_button.setVisible(not active)
        self.takes.time_button.setEnabled(bar.free and not active and not self.controller.measuring)
        self.start_action.setEnabled(bar.free and not active)
        if interrupted is not None:
            bar.resume.setToolTip(f"Continue {interrupted.out} where it stopped")
        self.resume_action.setEnabled(interrupted is not None and bar.free)
        self.pause_action.setEnabled(state in (TrainingState.RUNNING, TrainingState.PAUSED))
        self.pause_action.setText("Continue" if state is TrainingState.PAUSED else "Pause")
        self.cancel_action.setEnabled(active and state is not TrainingState.STOPPING)
        if model is not None and not able:
            self.takes.show_text(f"{model.name} cannot be trained for: {model.capabilities.reason}")

    def _busy_changed(self, busy: str) -> None:
        self._show_state()
        if not self.controller.active and not self.controller.measuring:
            self._show_estimate()

    def _model_changed(self, model: LanguageModel | None) -> None:
        self.takes.forget()
        self.form.set_model_name(model.name if model is not None else "")
        self._show_estimate()
        self._show_state()

    def _lookahead_changed(self, lookahead: LookaheadEmbeddings | None) -> None:
        training = lookahead.training if lookahead is not None else None
        name = lookahead.origin if lookahead is not None else ""
        self.plots.set_loaded(training.acceptance if training is not None else (), name)

    def _toggle_pause(self) -> None:
        if self.controller.state is TrainingState.PAUSED:
            self.controller.go_on()
        else:
            self.controller.pause()

    # -- drag and drop -------------------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if not self.controller.active and _text_path([u.toLocalFile() for u in event.mimeData().urls()]):
            event.acceptProposedAction()
        else:
            event.ignore()  # the window may know what to do with it

    def dropEvent(self, event: QDropEvent) -> None:
        path = _text_path([u.toLocalFile() for u in event.mimeData().urls()])
        if path:
            event.acceptProposedAction()
            self.form.set_data(path)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _make_actions(self) -> None:
        self.start_action = QAction("Start training", self)
        self.resume_action = QAction("Resume the interrupted run", self)
        self.pause_action = QAction("Pause", self)
        self.cancel_action = QAction("Stop", self)

    def _lay_out(self) -> None:
        body = QWidget()
        body.setObjectName("scrollBody")
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.form)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what is in it takes the keys
        scroll.setWidget(body)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        sized(scroll, min_height=200)
        side = QWidget()
        sized(side, width=FORM_WIDTH)
        left = QVBoxLayout(side)
        left.setContentsMargins(0, 0, 0, 0)
        left.setSpacing(8)
        left.addWidget(scroll, 1)
        left.addWidget(self.takes)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(8)
        layout.addWidget(side)
        layout.addWidget(self.views, 1)

    def _connect(self) -> None:
        context, controller = self._context, self.controller
        self.form.changed.connect(self._form_changed)
        self._surveyor.succeeded.connect(self._surveyed)
        self._surveyor.failed.connect(
            lambda error: self._surveyed(Survey(self.form.data(), problem=f"The text cannot be read ({error})."))
        )
        self.takes.time_clicked.connect(self.measure)
        self.takes.start_clicked.connect(self.start)
        self.takes.resume_clicked.connect(self.resume)
        self.start_action.triggered.connect(self._start_here)
        self.resume_action.triggered.connect(self._resume_here)
        self.pause_action.triggered.connect(self._toggle_pause)
        self.cancel_action.triggered.connect(controller.cancel)
        self.status.pause_clicked.connect(self._toggle_pause)
        self.status.try_clicked.connect(self.try_now)
        self.status.compare_clicked.connect(self._compare)
        controller.state_changed.connect(self._state_changed)
        controller.progressed.connect(self.status.show_progress)
        controller.reported.connect(self._event)
        controller.ended.connect(self._ended)
        controller.estimated.connect(self._estimated)
        controller.estimate_failed.connect(self._not_estimated)
        context.model_changed.connect(self._model_changed)
        context.lookahead_changed.connect(self._lookahead_changed)
        context.busy_changed.connect(self._busy_changed)

    def _start_here(self) -> None:
        self._context.page_requested.emit("train")
        self.start()

    def _resume_here(self) -> None:
        self._context.page_requested.emit("train")
        self.resume()


def _text_path(paths: list[str]) -> str:
    """The first dropped text file or folder of text; "" when there is none (a model folder is the window's)."""
    for text in paths:
        path = Path(text)
        if path.is_dir() and not (path / "config.json").exists():
            return text
        if path.is_file() and path.suffix.lower() in readable():
            return text
    return ""
