"""The Benchmark page: speed against other ways of decoding, HumanEval, and batches of one's own."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from app.benchmark.batch_panel import BatchPanel
from app.benchmark.humaneval_panel import HumanEvalPanel
from app.benchmark.speed_panel import SpeedPanel
from app.state.context import AppContext
from app.state.folders import Place, folder_of
from app.widgets.page import Page


class BenchmarkPage(Page):
    """Attributes:
    speed, humaneval, batch: its tabs.
    """

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        folder: Path | None = None
        if context.preferences.remembers:
            folder = folder_of(Place.MEASUREMENTS, context.preferences)
        self.speed = SpeedPanel(context, folder)
        self.humaneval = HumanEvalPanel(context, folder)
        self.batch = BatchPanel(context)
        tabs = QTabWidget()
        tabs.setDocumentMode(True)
        tabs.addTab(self.speed, "Speed")
        tabs.addTab(self.humaneval, "HumanEval")
        tabs.addTab(self.batch, "Batch")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 8, 12, 12)
        layout.addWidget(tabs)

    def shut_down(self) -> None:
        """Stop measuring; finished work is kept."""
        self.speed.stop()
        self.humaneval.stop()
        self.batch.stop()
