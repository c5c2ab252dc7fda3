"""The status line: state, speed, tokens per call, acceptance, time to first token, memory."""

from __future__ import annotations

import sys

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QHBoxLayout, QToolButton, QWidget

from app.engine.run import Run
from app.engine.session import EngineState
from app.state.context import AppContext
from app.theme.icons import set_icon
from app.widgets.basic import ElidedLabel, label, row
from app.widgets.figures import NOTHING, number
from app.widgets.text_format import bytes_text, seconds_text
from pass_core.decoding.events import StopReason

MEMORY_INTERVAL_MS = 1000

STOP_WORDS = {
    StopReason.MAX_NEW_TOKENS: "all tokens written",
    StopReason.END_OF_SEQUENCE: "the model ended its text",
    StopReason.STOP_STRING: "a stop string appeared",
    StopReason.CONTEXT_FULL: "the context is full",
    StopReason.CANCELLED: "stopped",
}


class StatusLine(QWidget):
    """Follows the session; shows the run of any page."""

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
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
        left = row(self._dot, self.state, spacing=4)
        left.setStretch(1, 1)
        layout.addLayout(left, 1)
        for widget in (self.speed, self.per_call, self.acceptance, self.first, self.memory):
            layout.addWidget(widget)
        session = context.session
        session.run_started.connect(self._started)
        session.steps_arrived.connect(self._steps)
        session.run_finished.connect(self._finished)
        session.state_changed.connect(self._session_state)
        self._timer = QTimer(self)
        self._timer.setInterval(MEMORY_INTERVAL_MS)
        self._timer.timeout.connect(self.show_memory)
        self._timer.start()
        self._figures(None)
        self.set_state("Starting…", "busy")

    def set_state(self, text: str, kind: str = "ready") -> None:
        """Show a state.

        Args:
            kind: "ready", "busy", "done" or "bad": the dot's colour and shape.
        """
        name, role = {
            "ready": ("ph.circle", "text_faint"),
            "busy": ("ph.circle-half", "accent"),
            "done": ("ph.check-circle", "success"),
            "bad": ("ph.warning-circle", "danger"),
        }[kind]
        set_icon(self._dot, name, self._context.theme, role, role)
        self.state.set_full_text(text)

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
        self.memory.setText(f"memory {text}")

    def _session_state(self, state: EngineState) -> None:
        if state is EngineState.STOPPING:
            self.set_state("Stopping…", "busy")

    def _started(self, run: Run) -> None:
        self._figures(None)
        self.set_state("Reading the prompt…", "busy")

    def _steps(self, run: Run, _steps: list[object]) -> None:
        self._figures(run)
        if not run.done and self._context.session.state is EngineState.RUNNING:
            self.set_state(f"Writing… {run.totals.new_tokens} of {run.request.stop.max_new_tokens} tokens", "busy")

    def _finished(self, run: Run) -> None:
        self._figures(run)
        if run.error is not None:
            self.set_state("The run failed", "bad")
        else:
            why = STOP_WORDS.get(run.totals.stop_reason, "ended") if run.totals.stop_reason else "ended"
            tokens = "1 token" if run.totals.new_tokens == 1 else f"{run.totals.new_tokens} tokens"
            self.set_state(f"Finished: {tokens}, {why}", "done")

    def _figures(self, run: Run | None) -> None:
        s = run.summary if run is not None and run.totals.new_tokens else None
        self.speed.setText(f"{number(s.tokens_per_second)} tokens/s" if s else f"{NOTHING} tokens/s")
        self.per_call.setText(f"{s.tokens_per_call:.2f} tokens/call" if s else f"{NOTHING} tokens/call")
        accepted = f"{100 * s.acceptance_rate:.0f} %" if s and s.proposed else NOTHING
        self.acceptance.setText(f"acceptance {accepted}")
        self.first.setText(f"first token {seconds_text(s.time_to_first_token) if s else NOTHING}")
