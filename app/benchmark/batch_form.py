"""What a batch runs: seeds and lists of settings, on the prompt of the Generate page."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QGridLayout, QLineEdit, QVBoxLayout, QWidget

from app.benchmark.bench_form import spin
from app.state.setup import GenerationSetup
from app.theme.scale import sized
from app.widgets.basic import Card, ElidedLabel, label
from app.widgets.text_format import count_of
from pass_core.evaluation.batch.plan import BatchError, BatchPlan, grid
from pass_core.evaluation.number_lists import NumberListError, decimals, numbers
from pass_core.settings import SettingsError, Strategy
from pass_core.strategy_names import TITLES

REFUSALS = (BatchError, NumberListError, SettingsError)
USUAL = {"seeds": "0-4", "ks": "3, 6", "temperatures": "0.8", "top_ks": "10"}
USUAL_TOKENS = 64


class BatchForm(QWidget):
    """Attributes:
    seeds, ks, temperatures, top_ks, strategies, tokens, go_on: the choices.

    Signals:
    changed(): any of them was changed.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._setup = GenerationSetup()
        self.prompt = ElidedLabel("", "hint")
        self.seeds, self.ks, self.temperatures, self.top_ks = (QLineEdit(text) for text in USUAL.values())
        self.strategies = {
            s: QCheckBox(TITLES[s]) for s in (Strategy.AUTOREGRESSIVE, Strategy.FUSED, Strategy.TWO_CALL)
        }
        self.strategies[Strategy.AUTOREGRESSIVE].setChecked(True)
        self.strategies[Strategy.FUSED].setChecked(True)
        self.tokens = spin(2, 4096)
        self.tokens.setValue(USUAL_TOKENS)
        self.go_on = QCheckBox("Go on past the end of the text")
        self.go_on.setToolTip("All runs get the same length, which makes their times easier to compare")
        self.estimate = label("", "faint", wrap=True)
        self._lay_out()
        for box in (*self.strategies.values(), self.go_on):
            box.toggled.connect(self._changed)
        for field in (self.seeds, self.ks, self.temperatures, self.top_ks):
            field.textChanged.connect(self._changed)
        self.tokens.valueChanged.connect(self._changed)
        self._changed()

    def show_setup(self, setup: GenerationSetup) -> None:
        """Whatever is not listed here is as on the Generate page."""
        self._setup = setup
        self.prompt.set_full_text(" ".join(setup.prompt_text.split()) or "The prompt of the Generate page is empty.")
        self._changed()

    def plan(self, lookahead_count: int) -> BatchPlan:
        """The choices as a plan.

        Raises:
            BatchError, NumberListError, SettingsError: a choice is missing or cannot be used.
        """
        strategies = [s for s, box in self.strategies.items() if box.isChecked()]
        if not self._setup.prompt_text.strip():
            raise BatchError("The prompt is empty. Write a few words on the Generate page.")
        ks = list(dict.fromkeys(min(k, lookahead_count) for k in numbers(self.ks.text(), "k")))
        cells = grid(
            self._setup.settings,
            strategies,
            ks,
            decimals(self.temperatures.text(), "temperatures"),
            numbers(self.top_ks.text(), "top-k"),
        )
        return BatchPlan(
            self._setup.prompt,
            cells,
            tuple(numbers(self.seeds.text(), "seeds")),
            self.tokens.value(),
            self.go_on.isChecked(),
        )

    def _changed(self, *_: object) -> None:
        try:
            plan = self.plan(64)
        except REFUSALS as error:
            self.estimate.setText(f"{str(error)[:1].upper()}{str(error)[1:]}")
        else:
            self.estimate.setText(
                f"{count_of(len(plan.cells), 'setting')} with {count_of(len(plan.seeds), 'seed')} each: "
                f"{count_of(plan.runs, 'run')} of up to {plan.new_tokens} tokens."
            )
        self.changed.emit()

    def _lay_out(self) -> None:
        card = Card("What to run")
        card.body.addWidget(label("Prompt of the Generate page", "section"))
        card.body.addWidget(self.prompt)
        card.body.addWidget(label("Ways of decoding", "section"))
        for box in self.strategies.values():
            card.body.addWidget(box)
        grid_ = QGridLayout()
        grid_.setHorizontalSpacing(8)
        grid_.setVerticalSpacing(6)
        grid_.setColumnStretch(0, 1)
        fields: tuple[tuple[str, QWidget], ...] = (
            ("seeds", self.seeds),
            ("k", self.ks),
            ("temperatures", self.temperatures),
            ("top-k", self.top_ks),
            ("new tokens at most", self.tokens),
        )
        for index, (title, field) in enumerate(fields):
            grid_.addWidget(label(title), index, 0)
            field.setAccessibleName(title)
            sized(field, max_width=150)
            grid_.addWidget(field, index, 1)
        card.body.addLayout(grid_)
        card.body.addWidget(self.go_on)
        card.body.addWidget(self.estimate)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(card)
