"""The strip that says how a comparison came out."""

from __future__ import annotations

from PySide6.QtCore import QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from app.compare.analysis import ComparisonVerdict, Reason, Spread
from app.theme.apply import ThemeManager
from app.widgets.basic import Card, label, set_tone
from app.widgets.figures import NOTHING, Figure, number
from app.widgets.text_format import bytes_text, seconds_text

ONE_ROW_FROM_WIDTH = 1100
RUNS_FOR_AN_INTERVAL = 5


class VerdictStrip(Card):
    """Six figures and the exactness badge."""

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.body.setContentsMargins(12, 8, 12, 8)
        self.body.setSpacing(4)
        self.speed_up = Figure("Speed-up of B", "Seconds per token of A divided by those of B, the prompt apart")
        self.speed = Figure("Tokens per second", "A and B, medians over the rounds")
        self.per_call = Figure("Tokens per call", "A and B")
        self.acceptance = Figure("Acceptance", "Accepted / proposed drafts of A and B")
        self.first = Figure("First token", "Time to the first token of A and B, medians")
        self.memory = Figure("Memory", "Most memory in use while A and B ran")
        self._figures = (self.speed_up, self.speed, self.per_call, self.acceptance, self.first, self.memory)
        self.badge = label("", "chip")
        self.detail = label("", "hint", wrap=True)
        self.busy = label("", "faint", wrap=True)
        exact = QVBoxLayout()
        exact.setSpacing(2)
        exact.addWidget(label("Exactness", "hint"))
        exact.addWidget(self.badge)
        exact.addStretch(1)
        badge = QWidget()
        badge.setLayout(exact)
        exact.setContentsMargins(0, 0, 0, 0)
        self._cells = (*self._figures, badge)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(20)
        self._grid.setVerticalSpacing(6)
        self._columns = 0
        self._arrange(len(self._cells))
        self.body.addLayout(self._grid)
        self.body.addWidget(self.detail)
        self.body.addWidget(self.busy)
        self.clear()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """One row, or two where seven figures beside each other would be cut."""
        super().resizeEvent(event)
        self._arrange(len(self._cells) if self.width() >= ONE_ROW_FROM_WIDTH else 4)

    def minimumSizeHint(self) -> QSize:
        """Narrower than one row needs: `resizeEvent` breaks it."""
        return QSize(4 * 120, super().minimumSizeHint().height())

    def _arrange(self, columns: int) -> None:
        if columns == self._columns:
            return
        self._columns = columns
        for place, cell in enumerate(self._cells):
            self._grid.addWidget(cell, place // columns, place % columns)
        for column in range(len(self._cells)):
            self._grid.setColumnStretch(column, int(column < columns))

    def clear(self, text: str = "") -> None:
        """Nothing is known yet; `text` says what is being done."""
        for figure in self._figures:
            figure.set(NOTHING)
        self.badge.setText("not compared yet")
        set_tone(self.badge, "")
        self.busy.hide()
        self.detail.setText(text)
        self.detail.setVisible(bool(text))

    def show_verdict(self, verdict: ComparisonVerdict) -> None:
        """Show how it came out."""
        a, b = verdict.a, verdict.b
        if verdict.speed_up is not None:
            self.speed_up.set(f"{verdict.speed_up.median:.2f}×", _spread(verdict.speed_up, "{:.2f}"))
        else:
            self.speed_up.set(NOTHING)
        speeds = a.tokens_per_second, b.tokens_per_second
        rounds = speeds[0].count
        remark = f"medians of {rounds} rounds" if rounds > 1 else "one round"
        self.speed.set(f"{number(speeds[0].median)} │ {number(speeds[1].median)}", remark)
        self.per_call.set(f"{a.tokens_per_call:.2f} │ {b.tokens_per_call:.2f}", f"of {a.calls:,} │ {b.calls:,} calls")
        self.acceptance.set(
            f"{_share(a.acceptance)} │ {_share(b.acceptance)}", f"of {a.proposed:,} │ {b.proposed:,} drafts"
        )
        self.first.set(f"{seconds_text(a.first_token.median)} │ {seconds_text(b.first_token.median)}", remark)
        self.busy.setText(verdict.busy)
        self.busy.setVisible(bool(verdict.busy))
        memory = [NOTHING if m is None else bytes_text(m) for m in (a.memory, b.memory)]
        self.memory.set(" │ ".join(memory), "most in use")
        self._show_exactness(verdict)

    def _show_exactness(self, verdict: ComparisonVerdict) -> None:
        exact = verdict.exactness
        self.badge.setText(exact.badge)
        lines: list[str] = []
        if exact.identical:
            set_tone(self.badge, "good")
        else:
            expected = exact.reason in (Reason.REJECTION, Reason.OTHER_IMPLEMENTATION, Reason.ENDED_EARLY)
            set_tone(self.badge, "accent" if expected else "warn")
            lines.append("     ".join(x for x in (exact.candidates, exact.explanation) if x))
        if verdict.void:
            self.badge.setText("void")
            set_tone(self.badge, "bad")
            lines.insert(0, f"This comparison is void: {verdict.void}. Compare again.")
        self.detail.setText("  ".join(lines))
        self.detail.setVisible(bool(lines))


def _spread(spread: Spread, form: str) -> str:
    if spread.count == 1:
        return "one round"
    if spread.count < RUNS_FOR_AN_INTERVAL:
        return f"median of {spread.count} rounds"
    return f"{form.format(spread.low)} to {form.format(spread.high)} in {spread.count} rounds"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f} %"
