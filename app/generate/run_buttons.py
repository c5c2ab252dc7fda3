"""Run and Stop of the Generate page: which of them shows, what they say, and whether they can be pressed."""

from __future__ import annotations

from PySide6.QtWidgets import QPushButton

from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.theme.scale import sized


class RunButtons:
    """The two buttons, for a layout of the page's."""

    def __init__(self, theme: ThemeManager) -> None:
        self.run = QPushButton("Run")
        self.run.setProperty("role", "primary")
        sized(self.run, icon=16)
        self.run.setObjectName("tall")
        set_icon(self.run, "ph.play-fill", theme, "on_accent", "on_accent")
        self.stop = QPushButton("Stop")
        self.stop.setToolTip("Esc")
        self.stop.setObjectName("tall")
        set_icon(self.stop, "ph.stop-fill", theme, "danger", "danger")

    def show(self, *, running: bool, stopping: bool, waiting: bool, can_run: bool, can_stop: bool, busy: str) -> None:
        """
        Args:
            running, stopping: the engine's state, whichever page started the run.
            waiting: a run of this page waits for the model.
            can_run, can_stop: whether the buttons can be pressed.
            busy: what else holds the model, "" for nothing.
        """
        here, there = (self.run, self.stop) if running else (self.stop, self.run)
        moves = here.hasFocus() and (can_stop if running else can_run)
        if moves:  # the focus stays at this place instead of wandering on
            there.setVisible(True)
            there.setEnabled(True)
            there.setFocus()
        self.stop.setVisible(running or waiting)
        self.run.setVisible(not running)
        self.run.setEnabled(can_run)
        self.run.setText("Waiting for the model…" if waiting else "Run")
        self.run.setToolTip(f"The model is busy with {busy}" if busy else "Ctrl+Enter")
        self.stop.setEnabled(can_stop)
        self.stop.setText("Stopping…" if stopping else "Stop")
