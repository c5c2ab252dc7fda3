"""A recorded run, whole: text, legend, replay, plots and inspector, all following one position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QSplitter, QTabWidget, QVBoxLayout, QWidget

from app.inspector.panel import InspectorPanel
from app.replay.bar import ReplayBar
from app.replay.controller import ReplayController
from app.theme.apply import ThemeManager
from app.theme.scale import sized
from app.widgets.basic import Card, row
from app.widgets.figures import Figures
from app.widgets.legend import Legend
from app.widgets.live_plots import LivePlots
from app.widgets.token_view import TokenView
from pass_core.decoding.events import DraftNode, StepEvent, TokenEvent
from pass_core.settings import FALLBACK_LOOKAHEAD

FALLBACK_DEPTHS = FALLBACK_LOOKAHEAD
STEP_TAB, PLOTS_TAB = range(2)


class RunViewer(QWidget):
    """Feeds the shown prefix of a run to everything that shows it; nothing here knows how the run came to be.

    Attributes:
        replay: the position; text, legend, plots, figures, inspector: its followers.

    Signals:
        step_opened(): the inspector shows another step, or none.
    """

    step_opened = Signal()

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.replay = ReplayController(self)
        self.text = TokenView(theme)
        self.legend = Legend(theme)
        self.bar = ReplayBar(self.replay, theme)
        self.figures = Figures()
        self.plots = LivePlots(theme)
        self.inspector = InspectorPanel(theme)
        self._prompt = ""
        self._shown = 0
        self._opened: int | None = None
        self._plotted = 0
        self._depths = FALLBACK_DEPTHS
        self._lay_out()
        self.replay.moved.connect(self._moved)
        self.text.token_clicked.connect(self._clicked)
        self.plots.token_hovered.connect(self._point_out)
        self.inspector.token_chosen.connect(self._mark)
        self.tabs.currentChanged.connect(self._follow_plots)

    def show_run(
        self, prompt: str, steps: Sequence[StepEvent], at: int | None = None, depths: int | None = None
    ) -> None:
        """Show another run, `at` tokens of it (all by default).

        Args:
            depths: how many draft positions the plots leave room for.
        """
        self._prompt = prompt
        self._depths = depths or max((s.settings.k for s in steps), default=FALLBACK_DEPTHS) or FALLBACK_DEPTHS
        self._restart()
        self.replay.load(steps, at)

    def extend(self, steps: Sequence[StepEvent]) -> None:
        """The run that is shown has grown to `steps`."""
        self.replay.extend(steps)

    def inspect_token(self, index: int) -> None:
        """Open the step of a token; the text up to the shown position stays as it is."""
        t = self.replay.timeline
        if not 0 <= index < t.tokens:
            return
        if index >= self.replay.shown:
            self.replay.pause()
            self.replay.seek(index + 1)
        self._open(index)
        self.text.reveal(index)
        self.tabs.setCurrentIndex(STEP_TAB)

    def _restart(self) -> None:
        self._shown = self._plotted = 0
        self.text.start(self._prompt)
        self.legend.reset()
        self.figures.start()
        self.plots.start(self._depths)
        self.inspector.show_step(None)

    def _moved(self, shown: int) -> None:
        t = self.replay.timeline
        if shown < self._shown:
            self._go_back(shown)
        parts = t.part(self._shown, shown)
        if parts:
            self.text.append_steps(parts)
            self._count(parts, self._shown)
        self._shown = shown
        self._follow_plots()
        if shown:
            self._open(shown - 1)
        else:
            self.inspector.show_step(None)
            self.text.mark_tokens([])

    def _go_back(self, shown: int) -> None:
        if shown == 0:
            self.text.start(self._prompt)
        else:
            self.text.truncate(shown)
        self.legend.reset()
        self._count(self.replay.timeline.part(0, shown), 0)
        self._shown = shown

    def _count(self, parts: list[StepEvent], since: int) -> None:
        """Count parts in the legend; a step's rejected drafts go with its first token."""
        self.legend.add_steps([p if self._first_of(p) >= since else replace(p, drafts=()) for p in parts])

    def _follow_plots(self) -> None:
        """Plots and figures show whole calls; nothing is folded while their tab is hidden."""
        if self.tabs.currentIndex() != PLOTS_TAB:
            return
        t = self.replay.timeline
        finished = t.finished_steps(self._shown)
        if finished < self._plotted:
            self.plots.start(self._depths)
            self.figures.start()
            self._plotted = 0
        if finished > self._plotted:
            self.plots.add_steps(list(t.steps[self._plotted : finished]))
            self._plotted = finished
            self.figures.show_series(self.plots.series)

    def _first_of(self, part: StepEvent) -> int:
        """Place of the first token of the step that a part belongs to."""
        t = self.replay.timeline
        number = t.step_of(part.tokens[0].index)
        return t.ends[number] - len(t.steps[number].tokens)

    def _open(self, index: int) -> None:
        t = self.replay.timeline
        number = t.step_of(index)
        step = t.steps[number]
        first = t.ends[number] - len(step.tokens)
        before = t.token(first - 1).text if first else self._prompt[-12:]
        self.inspector.show_step(step, t.token(index), before)
        self._mark(index)
        self.step_opened.emit()

    def _mark(self, index: int) -> None:
        self._opened = index
        self.text.mark_tokens([index])
        self.plots.show_token(index)

    def _point_out(self, index: int | None) -> None:
        """The mouse is over a curve: the text shows where, and then again what is open."""
        shown = self._opened if index is None else index
        self.text.mark_tokens([] if shown is None else [shown])

    def _clicked(self, step: StepEvent, item: object) -> None:
        if isinstance(item, TokenEvent):
            self.inspect_token(item.index)
        elif isinstance(item, DraftNode):
            corrected = next((t.index for t in step.tokens if t.draft_position == item.depth), None)
            if corrected is not None:
                self.inspect_token(corrected)

    def _lay_out(self) -> None:
        card = Card()
        card.body.setContentsMargins(1, 10, 1, 6)
        card.body.setSpacing(6)
        top = row(self.legend)
        top.setContentsMargins(16, 0, 16, 0)
        card.body.addLayout(top)
        card.body.addWidget(_line())
        card.body.addWidget(self.text, 1)
        card.body.addWidget(_line())
        foot = row(self.bar)
        foot.setContentsMargins(8, 0, 8, 0)
        card.body.addLayout(foot)
        plots = QWidget()
        column = QVBoxLayout(plots)
        column.setContentsMargins(0, 8, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.figures)
        column.addWidget(self.plots, 1)
        inspect = QWidget()
        inner = QVBoxLayout(inspect)
        inner.setContentsMargins(0, 8, 0, 0)
        inner.addWidget(self.inspector)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setDrawBase(False)
        self.tabs.addTab(inspect, "Step")
        self.tabs.addTab(plots, "Plots and figures")
        self.splitter = QSplitter(Qt.Orientation.Horizontal)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.setHandleWidth(8)
        sized(card, min_width=360)
        sized(self.tabs, min_width=440)
        self.splitter.addWidget(card)
        self.splitter.addWidget(self.tabs)
        self.splitter.setStretchFactor(0, 1)
        self.splitter.setStretchFactor(1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.splitter)


def _line() -> QFrame:
    line = QFrame()
    line.setProperty("role", "line")
    return line
