"""The status line: the activity, its progress, and Stop; figures of the run that the page shows; memory."""

from __future__ import annotations

import sys
from collections.abc import Callable

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QToolButton, QWidget

from app.engine.run import Run
from app.state.activity import Doing
from app.state.context import AppContext
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import ElidedLabel, label, row, show_progress, thousandths, write
from app.widgets.figures import NOTHING, number
from app.widgets.progress_strip import describe_progress
from app.widgets.text_format import bytes_text, seconds_text, sentence_case
from pass_core.decoding.events import StopReason
from pass_core.progress import Progress

MEMORY_INTERVAL_MS = 1000
LINE_HEIGHT = 24

STOP_WORDS = {
    StopReason.MAX_NEW_TOKENS: "all tokens written",
    StopReason.END_OF_SEQUENCE: "the model ended its text",
    StopReason.STOP_STRING: "a stop string appeared",
    StopReason.CONTEXT_FULL: "the context is full",
}


class StatusLine(QWidget):
    """The one place that says what the window does.

    Attributes:
        stop: ends the activity, whichever page began it.
        shown_run: which run's figures to show: that of the page in front.
    """

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.shown_run: Callable[[], Run | None] = lambda: None
        self._idle = ("", "ready")
        self._icon = ("", "")
        self._closing = False
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        sized(self.bar, width=96)
        sized(self, height=LINE_HEIGHT)  # nothing moves when something begins
        self.bar.setAccessibleName("Progress of the activity")
        self.stop = QToolButton()
        self.stop.setText("Stop")
        self.stop.setObjectName("statusStop")
        sized(self.stop, height=LINE_HEIGHT)
        self.stop.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        set_icon(self.stop, "ph.stop-fill", context.theme, "danger", "danger")
        self.stop.clicked.connect(context.activity.stop)
        self._dot = QToolButton()
        self._dot.setEnabled(True)
        self._dot.setObjectName("statusDot")
        self.state = ElidedLabel("", "hint")
        self.speed, self.per_call = label("", "hint"), label("", "hint")
        self.acceptance, self.first, self.memory = label("", "hint"), label("", "hint"), label("", "hint")
        self.memory.setToolTip("Memory of this process, and of the model's device")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 0, 12, 0)
        layout.setSpacing(20)
        left = row(self._dot, self.state, self.bar, self.stop, spacing=4)
        left.setStretch(1, 1)
        layout.addLayout(left, 1)
        for widget in (self.speed, self.per_call, self.acceptance, self.first, self.memory):
            layout.addWidget(widget)
        session = context.session
        session.run_progressed.connect(self.show_figures)
        session.run_finished.connect(self._finished)
        context.activity.changed.connect(self._show)
        self._timer = QTimer(self)
        self._timer.setInterval(MEMORY_INTERVAL_MS)
        self._timer.timeout.connect(self.show_memory)
        self._timer.start()
        self.show_figures()
        self.set_state("Starting…", "busy")

    def set_state(self, text: str, kind: str = "ready") -> None:
        """What to show while there is no activity.

        Args:
            kind: "ready", "busy", "done" or "bad": the dot's colour and shape.
        """
        self._idle = (text, kind)
        self._show()

    def set_closing(self) -> None:
        """The window waits for the activity to end."""
        self._closing = True
        self._show()

    def _show(self) -> None:
        doing = self._context.activity.now
        text, kind = self._idle
        if doing is not None:
            text, kind = describe(doing), "busy"
        if self._closing:
            text, kind = "Closing…", "busy"
        name, role = {
            "ready": ("ph.circle", "text_faint"),
            "busy": ("ph.circle-half", "accent"),
            "done": ("ph.check-circle", "success"),
            "bad": ("ph.warning-circle", "danger"),
        }[kind]
        if (name, role) != self._icon:
            self._icon = (name, role)
            set_icon(self._dot, name, self._context.theme, role, role)
        self.state.set_full_text(text)
        self.bar.setVisible(doing is not None)
        self.stop.setVisible(doing is not None)
        if doing is not None:
            known = doing.total is not None and doing.total > 0
            self.bar.setRange(0, 1000 if known else 0)
            if known:
                show_progress(self.bar, thousandths(doing.done, doing.total or 1.0))
            self.stop.setEnabled(not doing.stopping and not self._closing)

    def show_memory(self) -> None:
        """Read the memory counters."""
        if "torch" not in sys.modules:  # the loader's thread is about to import it; the window must not wait for that
            return
        from pass_core.models.memory import memory_in_use

        model = self._context.model
        use = memory_in_use(model.device if model is not None else "cpu")
        text = bytes_text(use.process)
        if use.device is not None:
            text += f"  ·  {bytes_text(use.device)} on {model.device if model is not None else 'device'}"
        write(self.memory, f"memory {text}")

    def _finished(self, run: Run) -> None:
        self.show_figures()
        if run.error is not None:
            self.set_state("The run failed", "bad")
            return
        reason = run.totals.stop_reason
        tokens = "1 token" if run.totals.new_tokens == 1 else f"{run.totals.new_tokens} tokens"
        if reason is StopReason.CANCELLED:
            self.set_state(f"Stopped after {tokens}")
        elif not run.totals.new_tokens:
            self.set_state("Nothing was written: the context is full", "bad")
        else:
            why = STOP_WORDS.get(reason, "ended") if reason else "ended"
            self.set_state(f"Finished: {tokens}, {why}", "done")

    def show_figures(self, *_: object) -> None:
        """The figures of the run that the page in front shows; none beside a page that shows none."""
        run = self.shown_run()
        for widget in (self.speed, self.per_call, self.acceptance, self.first):
            widget.setVisible(run is not None)
        s = run.summary if run is not None and run.totals.new_tokens else None
        write(self.speed, f"{number(s.tokens_per_second)} tokens/s" if s else f"{NOTHING} tokens/s")
        write(self.per_call, f"{s.tokens_per_call:.2f} tokens/call" if s else f"{NOTHING} tokens/call")
        accepted = f"{100 * s.acceptance_rate:.0f} %" if s and s.proposed else NOTHING
        of = f" of {s.proposed}" if s and s.proposed else ""
        write(self.acceptance, f"acceptance {accepted}{of}")
        self.acceptance.setToolTip("Drafts accepted, of all that were proposed")
        write(self.first, f"first token {seconds_text(s.time_to_first_token) if s else NOTHING}")


def describe(doing: Doing) -> str:
    """ "Training: step 12 of 300, 40 s left" """
    text = sentence_case(doing.title)
    if doing.stopping:
        return f"{text}: stopping…"
    parts = [doing.detail[:1].lower() + doing.detail[1:]] if doing.detail else []
    if doing.total is not None or doing.done:
        parts.append(describe_progress(Progress("", doing.done, doing.total, doing.unit, doing.seconds_left)))
    return f"{text}: {', '.join(parts)}" if parts else f"{text}…"
