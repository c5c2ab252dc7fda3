"""The Compare page: two panes on the same prompt, seed and sampling, and what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QResizeEvent
from PySide6.QtWidgets import QSplitter, QVBoxLayout, QWidget

from app.compare.analysis import judge
from app.compare.head import CompareHead
from app.compare.overlay import OverlayPlots
from app.compare.pane import ComparePane
from app.compare.pane_setup import PaneWish
from app.compare.preparation import read_lookaheads
from app.compare.race import Race, RaceBar
from app.compare.ready import READY
from app.compare.runner import ComparisonRunner, Order, PaneChoice, Plan
from app.compare.verdict_strip import VerdictStrip
from app.engine.jobs import Job, JobControl
from app.engine.session import RunRefused
from app.state.context import AppContext
from app.state.setup import GenerationSetup
from app.widgets.actions import make_action
from app.widgets.page import Page
from pass_core.decoding.events import StepEvent, TokenEvent
from pass_core.prompt import ChatTemplateError
from pass_core.settings import DecodingSettings

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
