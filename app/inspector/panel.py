"""The inspector: one step opened up, position by position."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from app.inspector.explain import Contest, contest_of, contests, describe_call
from app.inspector.score_table import ScoreTable
from app.inspector.tree_layout import EMITTED
from app.inspector.tree_view import NODE, TreeView
from app.theme.apply import ThemeManager
from app.theme.roles import TokenRole
from app.theme.scale import scaled
from app.widgets.basic import Card, label, row
from app.widgets.legend import Swatch
from pass_core.decoding.events import DraftNode, DraftStatus, Provenance, StepEvent, TokenEvent
from pass_core.settings import Strategy


class InspectorPanel(QWidget):
    """Shows a step and one of its positions.

    Attributes:
        step, contest: what is shown now, None while nothing is.
        tree, table: the drawn tree, and the candidates with their scores.

    Signals:
        token_chosen(int): the user picked another token of the step (its index among the new tokens).
    """

    token_chosen = Signal(int)

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.step: StepEvent | None = None
        self.contest: Contest | None = None
        self._contests: list[Contest] = []
        self.title = label("", "heading")
        self.cost = label("", "hint", wrap=True)
        self.reason = label("", "faint", wrap=True)
        self.tree = TreeView(theme)
        self._tree_scroll = QScrollArea()
        self._tree_scroll.setWidget(self.tree)
        self._tree_scroll.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self._tree_scroll.setFrameShape(QFrame.Shape.NoFrame)
        self.swatch = Swatch(theme, TokenRole.MODEL)
        self.verdict_title = label("", "heading")
        self.place = label("", "faint")
        self.verdict = label("", wrap=True)
        self.arithmetic = label("", "hint", wrap=True, selectable=True)
        self.table = ScoreTable(theme)
        self._hint = label(
            "Click a token in the text, or move the scrubber, to open the step that wrote it.", "muted", wrap=True
        )
        self._hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._lay_out()
        self.tree.node_clicked.connect(self._pick)
        self.show_step(None)

    def show_step(self, step: StepEvent | None, token: TokenEvent | DraftNode | None = None, before: str = "") -> None:
        """Open a step at one of its tokens.

        Args:
            before: the token right before the step's first (the root of its tree).
        """
        if step is not self.step:
            self.step = step
            self._contests = contests(step) if step is not None else []
            root = before
            if step is not None and step.settings.strategy is Strategy.TWO_CALL and step.drafts and step.tokens:
                root = step.tokens[0].text  # the drafts of the validation pass are below the sampled token
            self.tree.show_step(step, root)
            self._size_tree()
            self._describe()
        for widget in (self._step_card, self._position_card):
            widget.setVisible(step is not None and bool(self._contests))
        self._hint.setVisible(step is None or not self._contests)
        if self._contests and step is not None:
            self._show_contest(contest_of(step, token))

    def _pick(self, item: object) -> None:
        if self.step is None or not isinstance(item, (TokenEvent, DraftNode)):
            return
        number = contest_of(self.step, item)
        self._show_contest(number)
        if isinstance(item, DraftNode):
            self.tree.select(item.index)
        self.token_chosen.emit(self._contests[number].token.index)

    def _describe(self) -> None:
        step = self.step
        if step is None:
            return
        written = "1 token" if len(step.tokens) == 1 else f"{len(step.tokens)} tokens"
        self.title.setText(f"Step {step.index + 1}: {written}")
        self.cost.setText("  ·  ".join(describe_call(step)))
        self.reason.setText(f"auto: {step.reason}" if step.reason else "")
        self.reason.setVisible(bool(step.reason))

    def _show_contest(self, number: int) -> None:
        step, contest = self.step, self._contests[number]
        if step is None:
            return
        self.contest = contest
        self.swatch.set_role(TokenRole.of(contest.token))
        self.verdict_title.setText(contest.title)
        self.place.setText(f"token {contest.token.index + 1}  ·  {number + 1} of {len(self._contests)} in this step")
        self.verdict.setText(contest.verdict)
        self.arithmetic.setText("\n".join(contest.arithmetic))
        self.arithmetic.setVisible(bool(contest.arithmetic))
        self.table.show_contest(contest)
        key: int | None = None
        if contest.token.provenance is Provenance.ACCEPTED:
            key = next((d.index for d in contest.drafts if d.status is DraftStatus.ACCEPTED), None)
        elif contest.token.provenance is not Provenance.MODEL or not step.drafts:
            key = EMITTED
        self.tree.select(key)
        if key is not None:
            rect = self.tree.rect_of(key)
            self._tree_scroll.ensureVisible(
                round(rect.center().x()), round(rect.center().y()), scaled(NODE.width()), scaled(60)
            )

    def _size_tree(self) -> None:
        self._tree_scroll.setMinimumHeight(min(self.tree.sizeHint().height() + 14, scaled(132)))

    def _lay_out(self) -> None:
        self._step_card = Card()
        self._step_card.body.addWidget(self.title)
        self._step_card.body.addWidget(self.cost)
        self._step_card.body.addWidget(self.reason)
        self._step_card.body.addWidget(self._tree_scroll, 1)
        self._position_card = Card()
        self._position_card.body.addLayout(row(self.swatch, self.verdict_title, 1, self.place))
        for widget in (self.verdict, self.arithmetic, self.table):
            self._position_card.body.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self._step_card, 1)
        layout.addWidget(self._position_card)
        layout.addWidget(self._hint, 1)
