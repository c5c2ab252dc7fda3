"""The common text of a comparison, each token marked by the side that guessed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QPushButton, QTextEdit, QVBoxLayout, QWidget

from app.compare.guesses import Guessed, GuessedToken, common_tokens, how
from app.compare.race import RaceBar
from app.compare.runner import ComparisonRunner
from app.theme.apply import ThemeManager
from app.theme.roles import Theme, Underline
from app.theme.scale import sized
from app.widgets.basic import label, row
from app.widgets.text_format import visible
from pass_core.decoding.events import StepEvent


class GuessRow(QWidget):
    """The race's bar with a button beside it that opens the view, once both sides wrote a text."""

    def __init__(self, race_bar: RaceBar, runner: ComparisonRunner, theme: ThemeManager) -> None:
        super().__init__()
        self._runner, self._theme = runner, theme
        self.button = QPushButton("Who guessed what")
        self.button.setToolTip("The common text, token by token: which side's drafts guessed it")
        layout = row(race_bar, self.button)
        layout.setStretch(0, 1)
        self.setLayout(layout)
        self.button.clicked.connect(self.open)
        runner.finished.connect(self._refresh)
        runner.run_started.connect(self._refresh)
        self._refresh()

    def open(self) -> None:
        """Show the view."""
        (a, b), plan = self._runner.results, self._runner.plan
        if a and b and plan is not None:
            names = (plan.panes[0].label, plan.panes[1].label)
            dialog = GuessDialog(a[0].steps, b[0].steps, names, self._theme, self)
            dialog.finished.connect(dialog.deleteLater)
            dialog.open()

    def _refresh(self, *_: object) -> None:
        a, b = self._runner.results
        self.button.setEnabled(bool(a and b) and not self._runner.running)


class GuessDialog(QDialog):
    """Attributes:
    tokens: the common text.
    counts: how many tokens each side guessed.
    text: shows it; the mouse over a token tells how it came to be in A and in B.
    """

    def __init__(
        self,
        a: Sequence[StepEvent],
        b: Sequence[StepEvent],
        names: tuple[str, str],
        theme: ThemeManager,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Who guessed what")
        self.resize(760, 520)
        self.tokens = common_tokens(a, b)
        self.counts = Counter(t.by for t in self.tokens)
        self.text = QTextEdit()
        self.text.setReadOnly(True)
        self.text.setAccessibleName("The common text")
        sized(self.text, mono=11)
        self._theme = theme
        whole = max(sum(len(s.tokens) for s in side) for side in (a, b))
        more = "" if len(self.tokens) == whole else f" The texts part after {len(self.tokens)} tokens."
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 12)
        layout.setSpacing(8)
        layout.addWidget(label("Who guessed what", "heading"))
        layout.addWidget(
            label(f"{names[0]}.  {names[1]}.  Both wrote the same {len(self.tokens)} tokens.{more}", wrap=True)
        )
        self.legend = QTextEdit()
        self.legend.setReadOnly(True)
        self.legend.setAccessibleName("Legend")
        sized(self.legend, height=36)
        self.legend.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        layout.addWidget(self.legend)
        layout.addWidget(self.text, 1)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout.addWidget(buttons)
        theme.changed.connect(self._draw)
        self._draw()

    def _draw(self, *_: object) -> None:
        theme = self._theme.current
        self.legend.clear()
        cursor = QTextCursor(self.legend.document())
        for by in Guessed:
            cursor.insertText(f"{by.value} {self.counts[by]}", look(by, theme))
            cursor.insertText("     ", QTextCharFormat())
        self.text.clear()
        cursor = QTextCursor(self.text.document())
        cursor.beginEditBlock()
        for token in self.tokens:
            shape = look(token.by, theme)
            shape.setToolTip(tip(token))
            cursor.insertText(token.a.text, shape)
        cursor.endEditBlock()


def look(by: Guessed, theme: Theme) -> QTextCharFormat:
    """Colour and underline of a mark; the curves of A and B have the same colours."""
    color, underline = {
        Guessed.BOTH: (theme.text, Underline.SingleUnderline),
        Guessed.A: (theme.series[0], Underline.SingleUnderline),
        Guessed.B: (theme.series[1], Underline.DashUnderline),
        Guessed.NEITHER: (theme.text_faint, Underline.NoUnderline),
    }[by]
    shape = QTextCharFormat()
    shape.setForeground(QColor(color))
    shape.setUnderlineStyle(underline)
    if by is Guessed.BOTH:
        shape.setBackground(QColor(theme.accent_soft))
    return shape


def tip(token: GuessedToken) -> str:
    """One token in words."""
    return f"“{visible(token.a.text)}”\nA: {how(token.a)}\nB: {how(token.b)}"
