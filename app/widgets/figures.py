"""The figures of a run in large type: speed, tokens per call, acceptance, time to first token."""

from __future__ import annotations

import math

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.widgets.basic import Card, label, write
from app.widgets.series import RunSeries
from app.widgets.text_format import count_of, seconds_text

NOTHING = "–"


class Figure(QWidget):
    """A name, a large number, and a remark below it."""

    def __init__(self, name: str, tip: str) -> None:
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self.name = label(name, "hint")
        self.value = label(NOTHING, "figure")
        self.remark = label(" ", "faint")
        self.setToolTip(tip)
        for widget in (self.name, self.value, self.remark):
            layout.addWidget(widget)

    def set(self, value: str, remark: str = "") -> None:
        """Show a value."""
        write(self.value, value)
        write(self.remark, remark or " ")


class Figures(Card):
    """Four figures side by side."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.speed = Figure("Tokens per second", "Decoding speed, the prompt's processing apart")
        self.per_call = Figure("Tokens per call", "Tokens for each forward pass of the model; plain decoding has 1")
        self.acceptance = Figure("Acceptance", "Accepted drafts / proposed drafts")
        self.first = Figure("First token", "Time from the start of the prompt's processing to the first token")
        layout = QHBoxLayout()
        layout.setSpacing(16)
        for figure in (self.speed, self.per_call, self.acceptance, self.first):
            layout.addWidget(figure, 1)
        self.body.addLayout(layout)

    def start(self) -> None:
        """Nothing counted yet."""
        for figure in (self.speed, self.per_call, self.acceptance, self.first):
            figure.set(NOTHING)

    def show_series(self, series: RunSeries) -> None:
        """Show a run's figures so far."""
        t = series.totals
        if not series.tokens:
            return
        overall = number(t.new_tokens / t.decode_seconds if t.decode_seconds else math.nan)
        self.speed.set(overall, f"now {number(series.speed[-1])}")
        self.per_call.set(f"{t.new_tokens / t.calls:.2f}" if t.calls else NOTHING, count_of(t.calls, "call"))
        if t.proposed:
            self.acceptance.set(f"{100 * t.accepted / t.proposed:.0f} %", f"of {count_of(t.proposed, 'draft')}")
            self.acceptance.setToolTip(
                f"{t.accepted} of {t.proposed} proposed drafts were accepted.\n"
                "A tree proposes several drafts for one place, of which at most one can be.\n"
                f"{t.accepted / t.steps:.2f} were kept per step."
            )
        else:
            self.acceptance.set(NOTHING, "no drafts")
        self.first.set(seconds_text(t.time_to_first_token), f"prompt of {count_of(t.prompt_tokens, 'token')}")


def number(value: float) -> str:
    """A speed with as many digits as it deserves."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
