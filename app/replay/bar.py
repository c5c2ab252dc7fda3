"""The strip under a recorded run: play, step, scrub, speed, granularity."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QSlider, QVBoxLayout, QWidget

from app.replay.controller import ReplayController
from app.replay.player import SpeedChoice
from app.replay.timeline import Granularity
from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.widgets.basic import label, row, tool_button
from app.widgets.choice import Choice


class ReplayBar(QWidget):
    """Controls one ReplayController; Space plays, the arrow keys step (in the page that owns it)."""

    def __init__(self, controller: ReplayController, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self._theme = controller, theme
        self.start = tool_button("ph.skip-back", "To the start (Home)", theme)
        self.back = tool_button("ph.caret-left", "One back (Left)", theme)
        self.play = tool_button("ph.play", "Play (Space)", theme)
        self.forward = tool_button("ph.caret-right", "One forward (Right)", theme)
        self.end = tool_button("ph.skip-forward", "To the end (End)", theme)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Position in the run")
        self.slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.place = label("", "hint")
        self.granularity = Choice(theme)
        self.granularity.addItem("by token", Granularity.TOKEN.value)
        self.granularity.addItem("by call", Granularity.CALL.value)
        self.granularity.setToolTip("What one step of the replay is")
        self.speed = SpeedChoice(controller, theme)
        for box in (self.granularity, self.speed):
            box.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        above = row(self.slider, self.place, spacing=8)
        above.setStretch(0, 1)
        layout.addLayout(above)
        buttons = (self.start, self.back, self.play, self.forward, self.end)
        below = row(*buttons, 1, self.granularity, self.speed, spacing=4)
        layout.addLayout(below)
        self._connect()
        self._loaded()

    def _connect(self) -> None:
        c = self._controller
        c.loaded.connect(self._loaded)
        c.moved.connect(self._moved)
        c.playing_changed.connect(self._playing)
        self.start.clicked.connect(lambda: self._jump(0))
        self.end.clicked.connect(lambda: self._jump(c.timeline.tokens))
        self.back.clicked.connect(lambda: c.step(-1))
        self.forward.clicked.connect(lambda: c.step(1))
        self.play.clicked.connect(c.toggle)
        self.slider.valueChanged.connect(self._scrubbed)
        self.granularity.currentIndexChanged.connect(self._choose)

    def _choose(self) -> None:
        self._controller.granularity = Granularity(self.granularity.currentData())

    def _jump(self, to: int) -> None:
        self._controller.pause()
        self._controller.seek(to)

    def _scrubbed(self, value: int) -> None:
        if value != self._controller.shown:
            self._controller.pause()
            self._controller.seek(value)

    def _loaded(self) -> None:
        self.slider.setRange(0, self._controller.timeline.tokens)
        self.setEnabled(self._controller.timeline.tokens > 0)
        self._moved(self._controller.shown)

    def _moved(self, shown: int) -> None:
        t = self._controller.timeline
        self.slider.blockSignals(True)
        self.slider.setValue(shown)
        self.slider.blockSignals(False)
        seconds = t.times[shown - 1] if shown else 0.0
        self.place.setText(f"{shown} of {t.tokens} tokens  ·  {seconds:.1f} s" if t.tokens else "nothing recorded")

    def _playing(self, playing: bool) -> None:
        set_icon(self.play, "ph.pause" if playing else "ph.play", self._theme)
        self.play.setToolTip("Pause (Space)" if playing else "Play (Space)")
