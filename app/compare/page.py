"""The Compare page: two panes on the same prompt, seed and sampling, and what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QKeySequence, QResizeEvent
from PySide6.QtWidgets import QFrame, QPushButton, QSpinBox, QSplitter, QVBoxLayout, QWidget

from app.compare.analysis import judge
from app.compare.overlay import LineSample, OverlayPlots
from app.compare.pane_setup import LOADED, UNTRAINED, PaneSetup, PaneWish
from app.compare.race import Race, RaceBar
from app.compare.runner import ComparisonRunner, Order, PaneChoice, Plan
from app.compare.verdict_strip import VerdictStrip
from app.engine.jobs import Job, JobControl
from app.engine.session import RunRefused
from app.state.context import AppContext
from app.state.setup import GenerationSetup
from app.theme.icons import set_icon
from app.widgets.basic import Card, ElidedLabel, guard_wheel, label, row
from app.widgets.choice import Choice
from app.widgets.figures import number
from app.widgets.legend import Legend
from app.widgets.page import Page
from app.widgets.token_view import TokenView
from pass_core.decoding.events import StepEvent, TokenEvent
from pass_core.prompt import ChatTemplateError
from pass_core.settings import FALLBACK_LOOKAHEAD, DecodingSettings, Strategy, Verification

if TYPE_CHECKING:
    from pass_core.engine import Engine
    from pass_core.lookahead.embeddings import LookaheadEmbeddings

MAX_ROUNDS = 20
PLOTS_FROM_HEIGHT = 600
LOOKUP_TOKENS = 10  # as in transformers' documentation
PLAIN = DecodingSettings(strategy=Strategy.AUTOREGRESSIVE)
READY: tuple[tuple[str, PaneWish, PaneWish], ...] = (
    ("Plain against PASS", PaneWish(PLAIN), PaneWish(DecodingSettings())),
    (
        "Two-call against fused",
        PaneWish(DecodingSettings(strategy=Strategy.TWO_CALL)),
        PaneWish(DecodingSettings()),
    ),
    (
        "Prompt lookup against PASS",
        PaneWish(DecodingSettings(strategy=Strategy.PROMPT_LOOKUP, k=LOOKUP_TOKENS)),
        PaneWish(DecodingSettings()),
    ),
    (
        "k 2 against k 5",
        PaneWish(DecodingSettings(k=2, auto=False)),
        PaneWish(DecodingSettings(k=5, auto=False)),
    ),
    (
        "Untrained against trained",
        PaneWish(DecodingSettings(auto=False), UNTRAINED),
        PaneWish(DecodingSettings(auto=False)),
    ),
    (
        "Coupled against rejection",
        PaneWish(DecodingSettings(strategy=Strategy.TWO_CALL)),
        PaneWish(DecodingSettings(strategy=Strategy.TWO_CALL, verification=Verification.REJECTION)),
    ),
)


class ComparePane(Card):
    """One side: its choices, its speed, its text with a legend that counts."""

    def __init__(self, number_: int, wish: PaneWish, context: AppContext) -> None:
        super().__init__()
        self.number = number_
        self.setup = PaneSetup("AB"[number_], wish, context.theme)
        self.text = TokenView(context.theme)
        self.text.set_empty_state("", "")
        self.state = label("", "faint")
        self.legend = Legend(context.theme, short=True)
        self.body.setContentsMargins(1, 8, 1, 1)
        self.body.setSpacing(6)
        top = row(self.setup)
        top.setContentsMargins(12, 0, 12, 0)
        self.body.addLayout(top)
        foot = row(LineSample(context.theme, number_), self.state, 1)
        foot.setContentsMargins(12, 0, 12, 0)
        self.body.addLayout(foot)
        key = row(self.legend)
        key.setContentsMargins(12, 0, 12, 0)
        self.body.addLayout(key)
        line = QFrame()
        line.setProperty("role", "line")
        self.body.addWidget(line)
        self.body.addWidget(self.text, 1)


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
        self._raced = [0, 0]
        self._busy = False
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
        if self.runner.running or self._preparation is not None:
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
            "reading look-ahead files", lambda control: _lookaheads(control, engine, loaded, wishes), exclusive=True
        )
        job.progress.connect(lambda progress: self._show_state(f"{progress.stage}…"))
        # Once the job is done the model is free again, and not before.
        job.succeeded.connect(lambda found: job.done.connect(lambda: self._begin(wishes, found)))
        job.failed.connect(self._not_prepared)
        job.cancelled.connect(lambda: self._not_prepared(None))
        self._show_state()

    def stop(self) -> None:
        """Give up the comparison that runs, or is prepared."""
        if self._preparation is not None:
            self._preparation.cancel()
        self.runner.stop()

    def compare_lookahead(self, left: str, right: str) -> None:
        """Run both panes with the same strategy and two look-ahead choices ("untrained", "loaded" or a path)."""
        settings = DecodingSettings(k=5, auto=False)
        for pane, lookahead in zip(self.panes, (left, right)):
            pane.setup.set_wish(PaneWish(settings, lookahead))
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
        self._preparation = None
        self._setup = setup = context.setup.value  # what is shown now; a slider may have moved while files were read
        try:
            prompt = context.render_prompt(setup.prompt_text, chat=setup.chat)
        except ChatTemplateError as error:
            self._not_prepared(error)
            return
        titles = [p.setup.title() for p in self.panes]
        choices = [PaneChoice(w.settings, f, t) for w, f, t in zip(wishes, found, titles)]
        plan = Plan(
            prompt=prompt,
            prompt_text=setup.prompt_text,
            chat=setup.chat,
            seed=setup.seed,
            sampling=setup.settings.sampling,
            stop=setup.stop,
            panes=(choices[0], choices[1]),
            order=Order(self.order.currentText()),
            rounds=self.rounds.value(),
        )
        shown = setup.prompt_text + ("\n\n" if setup.chat else "")
        self.race.load([])
        for pane in self.panes:
            pane.text.set_empty_state("", "")
            pane.text.start(shown)
            pane.legend.reset()
            pane.state.setText("")
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
        self._show_state()
        if error is not None:
            from app.state.errors import plain_sentence

            self._context.report_error(plain_sentence(error, "The comparison could not start"), error)

    def _arrived(self, pane: int, number_: int, steps: list[StepEvent]) -> None:
        run = self.runner.runs[pane]
        if number_ == 0 and run is not None:
            self.panes[pane].text.append_steps(steps)
            self.panes[pane].legend.add_steps(steps)
            self._align_texts()
            self.overlay.add_steps(pane, steps)
            s = run.summary
            facts = (
                f"{s.new_tokens} tokens",
                f"{number(s.tokens_per_second)} tokens/s",
                f"{s.tokens_per_call:.2f} a call",
            )
            self.panes[pane].state.setText("  ·  ".join(facts))

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
            self._raced = [len(r.tokens) for r in (a[0], b[0])]
        elif self.runner.void:
            self.strip.clear(f"This comparison is void: {self.runner.void}.")
        self.overlay.redraw()
        self._show_state()

    def _mark_divergence(self) -> None:
        a, b = self.runner.results
        exact = judge(a[:1], b[:1]).exactness
        for pane in self.panes:
            pane.text.mark_tokens([] if exact.identical else [exact.tokens])
            if not exact.identical:
                pane.text.reveal(exact.tokens)

    def _take_setup(self, setup: GenerationSetup) -> None:
        """A run is to be repeated whose strategy only panes have."""
        if not self.runner.running:
            self.panes[1].setup.set_wish(PaneWish(setup.settings))
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
        for i, (pane, timeline, shown) in enumerate(zip(self.panes, self.race.timelines, self.race.shown())):
            if shown < self._raced[i]:
                plan = self.runner.plan
                prompt = "" if plan is None else plan.prompt_text + ("\n\n" if plan.chat else "")
                pane.text.start(prompt)
                pane.legend.reset()
                self._raced[i] = 0
            if shown > self._raced[i]:
                parts = timeline.part(self._raced[i], shown)  # whole steps: their tokens appear together
                pane.text.append_steps(parts)
                pane.legend.add_steps(parts)
                self._align_texts()
            self._raced[i] = shown
            seconds = min(clock, timeline.duration)
            done = f"  ·  done after {timeline.duration:.1f} s" if shown == timeline.tokens else ""
            rate = number(shown / seconds) if seconds > 0 else "–"
            pane.state.setText(f"{shown} of {timeline.tokens} tokens  ·  {rate} tokens/s{done}")
        if clock >= self.race.duration:
            self._mark_divergence()

    # -- look ----------------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.overlay.setVisible(self.height() >= PLOTS_FROM_HEIGHT)  # the texts go before the plots
        self._align_texts()

    def _align_texts(self) -> None:
        """Both legends take the same number of lines, so that the texts below them begin at the same height."""
        height = max(p.legend.heightForWidth(p.legend.width()) for p in self.panes)
        for pane in self.panes:
            pane.legend.setFixedHeight(height)

    def _show_shared(self) -> None:
        setup = self._context.setup.value
        s = setup.settings.sampling
        text = " ".join(setup.prompt_text.split())
        self.shared.set_full_text(
            f"temperature {s.temperature:g}  ·  top-k {s.top_k or 'off'}  ·  {setup.stop.max_new_tokens} tokens  ·  "
            f"seed {setup.seed}  ·  “{text}”"
        )

    def _show_state(self, stage: str = "") -> None:
        busy = self.runner.running or self._preparation is not None
        if busy != self._busy:
            self._busy = busy
            if busy:
                self._context.activity.begin("a comparison", self.stop)
            else:
                self._context.activity.end()
        if busy:
            self._context.activity.tell(stage.removesuffix("…"))
        self.compare_button.setVisible(not busy)
        self.stop_button.setVisible(busy)
        free = not busy and not self._context.busy_with and self._context.model is not None
        self.compare_action.setEnabled(free)
        self.compare_button.setEnabled(free)
        self.stop_action.setEnabled(busy)
        self.stop_button.setEnabled(busy)
        self.race_action.setEnabled(not busy and self.race.duration > 0)
        self.stage.setText(stage or ("Reading look-ahead files…" if self._preparation is not None else ""))
        for widget in (self.order, self.rounds, self.ready, self.race_bar):
            widget.setEnabled(not busy)
        self.race_bar.setEnabled(not busy and self.race.duration > 0)

    def _model_changed(self, model: object) -> None:
        self._show_state()

    def _lookahead_changed(self, lookahead: LookaheadEmbeddings | None) -> None:
        self._show_state()
        model = self._context.model
        for pane in self.panes:
            pane.setup.set_loaded_name(Path(lookahead.origin).stem if lookahead is not None else "")
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
            self.ready.setCurrentIndex(0)
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
        theme = self._context.theme
        self.shared = ElidedLabel("", "hint")
        self.stage = label("", "hint")
        self.ready = Choice(theme)
        self.ready.addItem("Ready comparisons")
        for title, _, _ in READY:
            self.ready.addItem(title)
        self.order = Choice(theme)
        for order in Order:
            self.order.addItem(order.value)
        self.order.setToolTip("Which pane runs first")
        self.rounds = QSpinBox()
        self.rounds.setRange(1, MAX_ROUNDS)
        self.rounds.setSuffix(" round")
        self.rounds.valueChanged.connect(lambda n: self.rounds.setSuffix(" round" if n == 1 else " rounds"))
        self.rounds.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.rounds.setFixedWidth(88)
        self.rounds.setToolTip("How often both panes run; figures are medians over the rounds")
        guard_wheel(self.rounds)
        self.compare_button = QPushButton("Compare")
        self.compare_button.setProperty("role", "primary")
        self.compare_button.setToolTip("Ctrl+Shift+Enter")
        set_icon(self.compare_button, "ph.columns-fill", theme, "on_accent", "on_accent")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip("Esc")
        set_icon(self.stop_button, "ph.stop-fill", theme, "danger", "danger")
        self.compare_action = QAction("Compare", self)
        self.compare_action.setShortcuts([QKeySequence("Ctrl+Shift+Return"), QKeySequence("Ctrl+Shift+Enter")])
        self.stop_action = QAction("Stop comparing", self)
        self.stop_action.setShortcut(QKeySequence("Esc"))  # enabled only while comparing, as Generate's is for its runs
        self.race_action = QAction("Race", self)

    def _lay_out(self) -> None:
        head = row(self.shared, self.stage, self.ready, self.order, self.rounds, self.compare_button, self.stop_button)
        head.setStretch(0, 1)
        panes = QSplitter(Qt.Orientation.Horizontal)
        panes.setChildrenCollapsible(False)
        panes.setHandleWidth(8)
        for pane in self.panes:
            pane.setMinimumWidth(360)
            panes.addWidget(pane)
        below = QWidget()
        column = QVBoxLayout(below)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.race_bar)
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
        layout.addLayout(head)
        layout.addWidget(self.strip)
        layout.addWidget(self.splitter, 1)

    def _connect(self) -> None:
        context, runner = self._context, self.runner
        self.compare_action.triggered.connect(self._compare_here)
        self.stop_action.triggered.connect(self.stop)
        self.race_action.triggered.connect(self.race.toggle)
        self.compare_button.clicked.connect(self.compare)
        self.stop_button.clicked.connect(self.stop)
        self.ready.activated.connect(self._take_ready)
        runner.stage_changed.connect(self._show_state)
        runner.steps_arrived.connect(self._arrived)
        runner.round_finished.connect(self._round_finished)
        runner.finished.connect(self._finished)
        runner.failed.connect(self._not_prepared)
        self.race.moved.connect(self._race_moved)
        self.race.loaded.connect(self._show_state)
        context.setup.changed.connect(self._setup_changed)
        context.pane_requested.connect(self._take_setup)
        context.busy_changed.connect(lambda _: self._show_state(self.stage.text()))
        context.model_changed.connect(self._model_changed)
        context.lookahead_changed.connect(self._lookahead_changed)
        for i, pane in enumerate(self.panes):
            pane.setup.changed.connect(self._pane_changed)
            pane.text.token_clicked.connect(lambda _step, item, i=i: self._clicked(i, item))
            pane.text.verticalScrollBar().valueChanged.connect(lambda value, i=i: self._scrolled(i, value))

    def _compare_here(self) -> None:
        self._context.page_requested.emit("compare")
        self.compare()


def _lookaheads(
    control: Any, engine: Engine, loaded: LookaheadEmbeddings | None, wishes: list[PaneWish]
) -> list[LookaheadEmbeddings | None]:
    """Read what the panes want (in a background thread); a file that does not fit raises its plain error."""
    from pass_core.lookahead.format import load_lookahead
    from pass_core.models.shipped import untrained_lookahead

    model = engine.model

    def read(wish: PaneWish) -> LookaheadEmbeddings | None:
        if not wish.settings.strategy.uses_lookahead:
            return None
        if wish.lookahead == LOADED:
            return loaded
        if wish.lookahead == UNTRAINED:
            return untrained_lookahead(model, loaded.count if loaded is not None else FALLBACK_LOOKAHEAD)
        lookahead = load_lookahead(wish.lookahead)
        lookahead.check(model)
        return lookahead

    found = [read(w) for w in wishes]
    for wish, lookahead in zip(wishes, found, strict=True):
        if lookahead is not None:
            disabled = wish.settings.disabled_parts
            engine.prepare(lookahead, disabled=disabled, progress=control.progress, cancel=control.cancel)
    return found
