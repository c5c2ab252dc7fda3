"""The Compare page: two panes on the same prompt, seed and sampling, and what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QResizeEvent
from PySide6.QtWidgets import QSplitter, QVBoxLayout, QWidget

from app.compare.analysis import judge
from app.compare.guess_view import GuessRow
from app.compare.head import CompareHead
from app.compare.overlay import OverlayPlots
from app.compare.pane import ComparePane
from app.compare.pane_setup import PaneWish
from app.compare.preparation import read_lookaheads
from app.compare.race import Race, RaceBar
from app.compare.ready import READY
from app.compare.runner import ComparisonPlan, ComparisonRunner, PaneChoice, RoundOrder
from app.compare.verdict_strip import VerdictStrip
from app.engine.jobs import Job, JobControl
from app.engine.measurement import Measurement, MeasurementState
from app.engine.session import RunRefused
from app.state.context import AppContext
from app.state.setup import GenerationSetup
from app.theme.scale import scaled, sized
from app.widgets.actions import make_action
from app.widgets.page import Page
from pass_core.decoding.events import StepEvent, TokenEvent
from pass_core.prompt import ChatTemplateError
from pass_core.settings import BaselineSettings, DecodingSettings

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings

PLOTS_FROM_HEIGHT = 600


class ComparePage(Page):
    """Runs comparisons with the prompt, seed and sampling of the Generate page.

    Attributes:
        panes, strip, overlay, race, runner: its parts.

    Signals:
        inspect_requested(Run, int): a token of a pane was clicked.
    """

    inspect_requested = Signal(object, int)

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._setup: GenerationSetup | None = None
        self._preparation: Job | None = None
        self.runner = ComparisonRunner(context, self)
        self.panes = (ComparePane(0, READY[0][1], context), ComparePane(1, READY[0][2], context))
        self.strip = VerdictStrip(context.theme)
        self.overlay = OverlayPlots(context.theme)
        self.race = Race(self)
        self.race_bar = RaceBar(self.race, context.theme)
        self.measurement = Measurement(context, "a comparison", self._give_up, self)
        self._syncing = False
        self._make_controls()
        self._lay_out()
        self._connect()
        self._show_shared()
        self._show_state()
        self.overlay.set_runs([p.setup.title() for p in self.panes])
        self.panes[0].text.set_empty_state(
            "Press Compare", "A runs first, then B, on the same prompt, seed and sampling, after a warm-up of both."
        )

    # -- what the window and other pages call --------------------------------------------------------------------------

    def compare(self) -> None:
        """Start with the present choices."""
        context = self._context
        engine = context.engine
        if engine is None:
            context.report_error(
                "No model is loaded yet. Choose one on the Generate page, or wait until it has loaded."
            )
            return
        if self.measurement.active:
            return
        if context.busy_with:
            context.report_error(f"The model is busy with {context.busy_with}. Stop it, or wait until it has finished.")
            return
        if not context.setup.value.prompt_text.strip():
            context.report_error("The prompt is empty. Write a few words on the Generate page.")
            return
        model = engine.model
        wishes = [p.setup.wish() for p in self.panes]
        if not model.capabilities.supports_pass and any(w.settings.strategy.uses_lookahead for w in wishes):
            context.report_error(
                f"{model.name} cannot run PASS: {model.capabilities.reason} Choose Plain or transformers lookup in "
                "both panes."
            )
            return
        loaded = context.lookahead
        job = self._preparation = context.jobs.start(
            "reading look-ahead files", lambda control: read_lookaheads(control, engine, loaded, wishes), exclusive=True
        )
        job.progress.connect(lambda progress: self._show_state(f"{progress.stage}…"))
        # Once the job is done the model is free again, and not before.
        job.succeeded.connect(lambda found: job.done.connect(lambda: self._begin(wishes, found)))
        job.failed.connect(self._not_prepared)
        job.cancelled.connect(lambda: self._not_prepared(None))
        self.measurement.begin()
        self._show_state()

    def stop(self) -> None:
        """Give up the comparison that runs, or is prepared."""
        self.measurement.stop()

    def _give_up(self) -> None:
        if self._preparation is not None:
            self._preparation.cancel()
        self.runner.stop()

    def compare_lookahead(self, left: str, right: str) -> None:
        """Run both panes with the same strategy and two look-ahead choices ("untrained", "loaded" or a path)."""
        settings = DecodingSettings(auto=False)
        for pane, lookahead in zip(self.panes, (left, right)):
            pane.setup.set_wish(PaneWish(settings, lookahead, usual_k=True))
        self._context.page_requested.emit("compare")
        self.compare()

    def actions_for_menu(self) -> list[QAction]:
        """Entries of the page's menu."""
        return [self.compare_action, self.stop_action, self.race_action]

    def shut_down(self) -> None:
        """The window closes: no other pane begins."""
        self.stop()

    def page_hidden(self) -> None:
        """Nobody looks: the race rests."""
        self.race.pause()

    # -- running -------------------------------------------------------------------------------------------------------

    def _begin(self, wishes: list[PaneWish], found: list[LookaheadEmbeddings | None]) -> None:
        context = self._context
        if self.measurement.state is MeasurementState.STOPPING:
            self._not_prepared(None)
            return
        self._preparation = None
        self._setup = setup = context.setup.value  # what is shown now; a slider may have moved while files were read
        try:
            prompt = context.render_prompt(setup.prompt)
        except ChatTemplateError as error:
            self._not_prepared(error)
            return
        titles = [p.setup.title() for p in self.panes]
        choices = [PaneChoice(w.settings, f, t) for w, f, t in zip(wishes, found, titles)]
        plan = ComparisonPlan(
            prompt=prompt,
            prompt_text=setup.prompt_text,
            chat=setup.chat,
            seed=setup.seed,
            sampling=setup.settings.sampling,
            stop=setup.stop,
            panes=(choices[0], choices[1]),
            order=RoundOrder(self.head.order.currentText()),
            rounds=self.head.rounds.value(),
        )
        shown = setup.prompt_text + ("\n\n" if setup.chat else "")
        self.race.load([])
        for pane in self.panes:
            pane.begin(shown)
        self._align_texts()
        self.strip.clear()
        self.overlay.set_runs(titles)
        try:
            self.runner.start(plan)
        except RunRefused as error:
            self._not_prepared(error)
        self._show_state()

    def _not_prepared(self, error: BaseException | None) -> None:
        self._preparation = None
        if not self.runner.running:
            self.measurement.end()
        self._show_state()
        if error is not None:
            from app.state.errors import plain_sentence

            self._context.report_error(plain_sentence(error, "The comparison could not start"), error)

    def _arrived(self, pane: int, number_: int, steps: list[StepEvent]) -> None:
        run = self.runner.runs[pane]
        if number_ == 0 and run is not None:
            self.panes[pane].add_steps(steps, run.summary)
            self._align_texts()
            self.overlay.add_steps(pane, steps)

    def _round_finished(self, pane: int, number_: int) -> None:
        a, b = self.runner.results
        if a and b:
            rounds = min(len(a), len(b))
            self.strip.show_verdict(judge(a[:rounds], b[:rounds], self.runner.void))
            self._mark_divergence()

    def _finished(self) -> None:
        a, b = self.runner.results
        rounds = min(len(a), len(b))
        if rounds:
            self.strip.show_verdict(judge(a[:rounds], b[:rounds], self.runner.void))
            self._mark_divergence()
            self.race.load([a[0].steps, b[0].steps])
            for pane, result in zip(self.panes, (a[0], b[0])):
                pane.raced = len(result.tokens)
        elif self.runner.void:
            self.strip.clear(f"This comparison is void: {self.runner.void}.")
        self.overlay.redraw()
        self.measurement.end()
        self._show_state()

    def _mark_divergence(self) -> None:
        a, b = self.runner.results
        exact = judge(a[:1], b[:1]).exactness
        for pane in self.panes:
            pane.text.mark_tokens([] if exact.identical else [exact.tokens])
            if not exact.identical:
                pane.text.reveal(exact.tokens)

    def _take_baseline(self, settings: BaselineSettings) -> None:
        """Take the settings of a run that a baseline wrote."""
        if not self.runner.running:
            self.panes[1].setup.set_wish(PaneWish(settings))
            self._pane_changed()
            self._context.notify("transformers' prompt lookup runs in a pane: B is set to it. Press Compare.")

    def _setup_changed(self, setup: GenerationSetup) -> None:
        before = self._setup
        self._show_shared()
        if not self.runner.running or before is None or setup == before:
            return
        if setup.settings.sampling != before.settings.sampling:
            self.runner.change_sampling(setup.settings.sampling)
            self._setup = replace(before, settings=replace(before.settings, sampling=setup.settings.sampling))

    def _pane_changed(self) -> None:
        if self.runner.running:
            self.runner.set_void("the choices of a pane were changed while it ran")
        else:
            self.overlay.set_runs([p.setup.title() for p in self.panes])
            self.race.load([])

    # -- race ----------------------------------------------------------------------------------------------------------

    def _race_moved(self, clock: float) -> None:
        plan = self.runner.plan
        prompt = "" if plan is None else plan.prompt_text + ("\n\n" if plan.chat else "")
        for pane, timeline, shown in zip(self.panes, self.race.timelines, self.race.shown()):
            pane.show_race(timeline, shown, clock, prompt)
        self._align_texts()
        if clock >= self.race.duration:
            self._mark_divergence()

    # -- look ----------------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.overlay.setVisible(self.height() >= scaled(PLOTS_FROM_HEIGHT))  # the texts go before the plots
        self._align_texts()

    def _align_texts(self) -> None:
        """Both legends take the same number of lines, so that the texts below them begin at the same height."""
        height = max(p.legend.room(p.legend.width()) for p in self.panes)
        for pane in self.panes:
            pane.legend.setFixedHeight(height)

    def _show_shared(self) -> None:
        setup = self._context.setup.value
        s = setup.settings.sampling
        text = " ".join(setup.prompt_text.split())
        self.head.shared.set_full_text(
            f"{'  ·  '.join(s.described)}  ·  {setup.stop.max_new_tokens} tokens  ·  seed {setup.seed}  ·  “{text}”"
        )

    def _show_state(self, stage: str = "") -> None:
        busy = self.measurement.active
        if busy:
            self._context.activity.tell(stage.removesuffix("…"))
        self.compare_action.setEnabled(self.head.bar.free and not busy)
        self.stop_action.setEnabled(busy)
        self.race_action.setEnabled(not busy and self.race.duration > 0)
        self.head.stage.setText(stage or ("Reading look-ahead files…" if self._preparation is not None else ""))
        for widget in (self.head.order, self.head.rounds, self.head.ready, self.race_bar):
            widget.setEnabled(not busy)
        self.race_bar.setEnabled(not busy and self.race.duration > 0)

    def _model_changed(self, model: object) -> None:
        self._show_state()

    def _lookahead_changed(self, lookahead: LookaheadEmbeddings | None) -> None:
        self._show_state()
        model = self._context.model
        for pane in self.panes:
            pane.setup.set_loaded_name(Path(lookahead.origin).stem if lookahead is not None else "")
            if lookahead is not None:
                pane.setup.set_lookahead_count(lookahead.count)
        if model is None:
            return

        def work(control: JobControl) -> list[Path]:
            from pass_core.models.shipped import shipped_lookahead

            return shipped_lookahead(model)

        job = self._context.jobs.start("looking for look-ahead files", work)
        job.succeeded.connect(lambda files: [p.setup.set_files(files) for p in self.panes])

    def _take_ready(self, index: int) -> None:
        if index > 0:
            for pane, wish in zip(self.panes, READY[index - 1][1:]):
                pane.setup.set_wish(wish)
            self.head.ready.setCurrentIndex(0)
            self._pane_changed()

    def _clicked(self, pane: int, item: object) -> None:
        run = self.runner.runs[pane]
        if run is not None and isinstance(item, TokenEvent):
            self.inspect_requested.emit(run, item.index)

    def _scrolled(self, source: int, value: int) -> None:
        """Both texts scroll together, at the same share of their length."""
        mine = self.panes[source].text.verticalScrollBar()
        other = self.panes[1 - source].text.verticalScrollBar()
        if self._syncing or self.runner.running or self.race.playing or mine.maximum() == 0:
            return
        self._syncing = True
        other.setValue(value if mine.maximum() == other.maximum() else round(value * other.maximum() / mine.maximum()))
        self._syncing = False

    def _make_controls(self) -> None:
        self.head = CompareHead(self._context, self.measurement)
        self.compare_action = make_action(self, "Compare", self._compare_here, "Ctrl+Shift+Return", "Ctrl+Shift+Enter")
        # Enabled only while comparing, as Generate's is for its runs.
        self.stop_action = make_action(self, "Stop comparing", self.stop, "Esc")
        self.race_action = make_action(self, "Race", self.race.toggle)

    def _lay_out(self) -> None:
        panes = QSplitter(Qt.Orientation.Horizontal)
        panes.setChildrenCollapsible(False)
        panes.setHandleWidth(8)
        for pane in self.panes:
            sized(pane, min_width=360)
            panes.addWidget(pane)
        below = QWidget()
        column = QVBoxLayout(below)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(GuessRow(self.race_bar, self.runner, self._context.theme))
        column.addWidget(self.overlay, 1)
        self.splitter = QSplitter(Qt.Orientation.Vertical)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.setHandleWidth(8)
        self.splitter.addWidget(panes)
        self.splitter.addWidget(below)
        self.splitter.setStretchFactor(0, 3)
        self.splitter.setStretchFactor(1, 1)
        self.splitter.setSizes([400, 200])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.setSpacing(8)
        layout.addWidget(self.head)
        layout.addWidget(self.strip)
        layout.addWidget(self.splitter, 1)

    def _connect(self) -> None:
        context, runner = self._context, self.runner
        self.head.bar.run_clicked.connect(self.compare)
        self.head.ready.activated.connect(self._take_ready)
        runner.stage_changed.connect(self._show_state)
        runner.steps_arrived.connect(self._arrived)
        runner.round_finished.connect(self._round_finished)
        runner.finished.connect(self._finished)
        runner.failed.connect(self._not_prepared)
        self.race.moved.connect(self._race_moved)
        self.race.loaded.connect(self._show_state)
        context.setup.changed.connect(self._setup_changed)
        context.pane_requested.connect(self._take_baseline)
        context.busy_changed.connect(lambda _: self._show_state(self.head.stage.text()))
        context.model_changed.connect(self._model_changed)
        context.lookahead_changed.connect(self._lookahead_changed)
        for i, pane in enumerate(self.panes):
            pane.setup.changed.connect(self._pane_changed)
            pane.text.token_clicked.connect(lambda _step, item, i=i: self._clicked(i, item))
            pane.text.verticalScrollBar().valueChanged.connect(lambda value, i=i: self._scrolled(i, value))

    def _compare_here(self) -> None:
        self._context.page_requested.emit("compare")
        self.compare()
