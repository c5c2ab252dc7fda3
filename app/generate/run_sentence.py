"""The line above the text that says what a run gained."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QPushButton, QWidget

from app.engine.run import Run
from app.generate.story import BEFORE, Circumstances, story
from app.theme.scale import scaled
from app.widgets.basic import label, row, write

LINES, LINES_OF_NARROW, NARROW = 2, 3, 400


class RunSentence(QWidget):
    """Keeps room for two lines (three where it is narrow), so that the text below never moves while a run goes on.

    Signals:
        explain_clicked(): how PASS works is wanted.
    """

    explain_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.sentence = label(BEFORE, "hint", wrap=True, selectable=True)
        self.sentence.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.explain = QPushButton("How it works")
        self.explain.setProperty("role", "quiet")
        self.explain.setToolTip("One step of this run, drawn and told")
        self.explain.setEnabled(False)
        self.explain.clicked.connect(self.explain_clicked)
        layout = row(self.sentence, self.explain)
        layout.setStretch(0, 1)
        self.setLayout(layout)
        self.ensurePolished()
        self.sentence.ensurePolished()
        self._keep_room()

    def changeEvent(self, event: QEvent) -> None:
        """Another size of the font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._keep_room()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._keep_room()

    def _keep_room(self) -> None:
        if (sentence := getattr(self, "sentence", None)) is not None:
            lines = LINES if sentence.width() >= scaled(NARROW) else LINES_OF_NARROW
            sentence.setFixedHeight(lines * sentence.fontMetrics().lineSpacing() + 4)

    def follow(self, run: Run) -> None:
        """A run began."""
        self.explain.setEnabled(False)
        self.sentence.setText(BEFORE)
        run.progressed.connect(partial(self._show, run))
        run.finished.connect(partial(self._finished, run))

    def _show(self, run: Run) -> None:
        if not run.events:
            return
        last = next((s for s in reversed(run.events) if s.tokens), run.events[-1])
        lookahead = run.request.lookahead
        circumstances = Circumstances(
            trained=lookahead is not None and lookahead.trained,
            temperature=last.settings.sampling.temperature,
            lookup=last.settings.prompt_lookup,
        )
        write(self.sentence, story(run.summary, circumstances) or BEFORE)

    def _finished(self, run: Run) -> None:
        self._show(run)
        self.explain.setEnabled(run.totals.new_tokens > 0)
