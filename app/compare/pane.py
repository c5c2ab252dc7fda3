"""One side of a comparison."""

from __future__ import annotations

from PySide6.QtWidgets import QFrame

from app.compare.overlay import LineSample
from app.compare.pane_setup import PaneSetup, PaneWish
from app.replay.timeline import Timeline
from app.state.context import AppContext
from app.widgets.basic import Card, label, row
from app.widgets.figures import number
from app.widgets.legend import Legend
from app.widgets.text_format import count_of
from app.widgets.token_view import TokenView
from pass_core.decoding.events import StepEvent
from pass_core.decoding.summary import Summary


class ComparePane(Card):
    """One side: its choices, its speed, its text with a legend that counts.

    Attributes:
        raced: tokens that the race shows now.
    """

    def __init__(self, number_: int, wish: PaneWish, context: AppContext) -> None:
        super().__init__()
        self.number = number_
        self.raced = 0
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

    def begin(self, prompt: str) -> None:
        """A comparison begins."""
        self.text.set_empty_state("", "")
        self.text.start(prompt)
        self.legend.reset()
        self.state.setText("")

    def add_steps(self, steps: list[StepEvent], summary: Summary) -> None:
        """Steps of the first round; later rounds write the same."""
        self.text.append_steps(steps)
        self.legend.add_steps(steps)
        s = summary
        facts = (
            count_of(s.new_tokens, "token"),
            f"{number(s.tokens_per_second)} tokens/s",
            f"{s.tokens_per_call:.2f} a call",
        )
        self.state.setText("  ·  ".join(facts))

    def show_race(self, timeline: Timeline, shown: int, clock: float, prompt: str) -> None:
        """Show the first tokens of the recorded run."""
        if shown < self.raced:
            self.text.start(prompt)
            self.legend.reset()
            self.raced = 0
        if shown > self.raced:
            parts = timeline.part(self.raced, shown)  # whole steps: their tokens appear together
            self.text.append_steps(parts)
            self.legend.add_steps(parts)
        self.raced = shown
        seconds = min(clock, timeline.duration)
        done = f"  ·  done after {timeline.duration:.1f} s" if shown == timeline.tokens else ""
        rate = number(shown / seconds) if seconds > 0 else "–"
        self.state.setText(f"{shown} of {timeline.tokens} tokens  ·  {rate} tokens/s{done}")
