"""One proof of the Losslessness page: its checks as they come, in plain words."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy

from app.theme.scale import sized
from app.widgets.basic import Card, label, set_tone
from pass_core.evaluation.losslessness.report import Check, Divergence

_MARK, _TEXT = 0, 1


class ProofCard(Card):
    """Attributes:
    state: the chip beside the heading.
    checks: what has been shown.
    """

    def __init__(self, title: str, explanation: str) -> None:
        super().__init__(title)
        self.checks: list[Check] = []
        self.state = label("not yet checked", "chip")
        self.head.addWidget(self.state)
        self.body.addWidget(label(explanation, "hint", wrap=True))
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(_TEXT, 1)
        self.body.addLayout(self._grid)

    def clear(self) -> None:
        """Forget all checks."""
        self.checks.clear()
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self._show_state()

    def add(self, check: Check) -> None:
        """Show one more check."""
        self.checks.append(check)
        at = self._grid.rowCount()
        mark = label("holds" if check.passed else "fails", "chip")
        set_tone(mark, "good" if check.passed else "bad")
        sized(mark, width=46)
        mark.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._grid.addWidget(mark, at, _MARK, Qt.AlignmentFlag.AlignTop)
        self._grid.addWidget(label(check.subject, wrap=True), at, _TEXT)
        verdict = label(check.verdict, "hint", wrap=True, selectable=True)
        verdict.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding)
        self._grid.addWidget(verdict, at + 1, _TEXT)
        for divergence in check.divergences[:3]:
            self._grid.addWidget(_divergence_label(divergence), self._grid.rowCount(), _TEXT)
        self._show_state()

    def _show_state(self) -> None:
        failed = sum(not c.passed for c in self.checks)
        if not self.checks:
            self.state.setText("not yet checked")
            set_tone(self.state, "")
        elif failed:
            self.state.setText(f"{failed} of {len(self.checks)} fail")
            set_tone(self.state, "bad")
        else:
            self.state.setText(f"{len(self.checks)} hold")
            set_tone(self.state, "good")


def _divergence_label(divergence: Divergence) -> QLabel:
    """Where two texts part, and what the model says about it."""
    d = divergence
    if d.tie.near:
        why = f"only {d.tie.gap:.2g} apart, rounding moves logits by {d.tie.rounding:.2g} here"
    else:
        why = f"{d.tie.gap:.2g} apart, far beyond rounding ({d.tie.rounding:.2g})"
    return label(f"“{d.prompt}”, token {d.at}: {d.found} instead of {d.expected}; {why}.", "faint", wrap=True)
