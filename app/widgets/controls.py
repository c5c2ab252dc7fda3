"""How to decode: strategy, k, sampling, verification, length, seed. Yields immutable settings."""

from __future__ import annotations

import random

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QLineEdit, QSizePolicy, QSpinBox, QToolButton, QVBoxLayout, QWidget

from app.state.setup import usual_k
from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import (
    TITLE_WIDTH,
    Card,
    Segmented,
    SliderField,
    guard_wheel,
    label,
    pad_spin_box,
    row,
    tool_button,
)
from pass_core.settings import (
    MAX_TEMPERATURE,
    MAX_TOP_K,
    DecodingSettings,
    LookaheadPart,
    SamplingSettings,
    StopConditions,
    Strategy,
    Verification,
)

MAX_SEED = 2**31 - 1
MAX_NEW_TOKENS = 4096


class DecodingControls(Card):
    """Signals:
    changed(): any choice; read `settings`, `stop_conditions` and `seed`.
    """

    changed = Signal()

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__("Decoding", parent)
        self._theme = theme
        self._lookahead_count = 5
        self._pass_supported = True
        self._disabled_parts: frozenset[LookaheadPart] = frozenset()
        self.strategy = Segmented(
            (
                (
                    Strategy.AUTOREGRESSIVE.value,
                    "Plain",
                    "Autoregressive: one forward pass per token, the baseline",
                ),
                (Strategy.TWO_CALL.value, "PASS two-call", "The paper's: one forward pass drafts, one validates"),
                (Strategy.FUSED.value, "PASS fused", "One forward pass verifies and drafts the next tokens"),
            )
        )
        self.strategy.set_value(Strategy.FUSED.value)
        self.k = SliderField("Draft length k", 0, 5, tip="Look-ahead steps in use: how many tokens are drafted ahead")
        self.auto = QCheckBox("auto")
        self.auto.setToolTip(
            "Fused: choose the tree of drafts (at most k deep) by the measured cost of a forward pass and the\n"
            "acceptance so far, and fall back to plain passes when drafting does not pay.\n"
            "Off: draft in every step all the same."
        )
        self.auto.setChecked(True)
        self.k.add_beside(self.auto)
        self.temperature = SliderField(
            "Temperature", 0, MAX_TEMPERATURE, step=0.05, decimals=2, tip="0 is greedy; higher is more varied"
        )
        self.top_k = SliderField(
            "Top-k", 0, MAX_TOP_K, special="off", tip="Sample among the k likeliest tokens; off keeps the vocabulary"
        )
        self.top_p = SliderField(
            "Top-p",
            0.001,
            1,
            step=0.01,
            decimals=3,
            off_at_top=True,
            tip="Of what top-k left, keep the fewest likeliest tokens whose probabilities add up to p.\n"
            "With top-k off the whole vocabulary is counted, which takes a little longer.",
        )
        self.min_p = SliderField(
            "Min-p",
            0,
            1,
            step=0.01,
            decimals=3,
            special="off",
            tip="Of what is left, keep the tokens with at least p times the probability of the likeliest one",
        )
        self.length = SliderField("New tokens", 1, 1024, tip="The most tokens that a run writes")
        self.length.spin.setMaximum(MAX_NEW_TOKENS)
        self.verification = Segmented(
            (
                (
                    Verification.COUPLED.value,
                    "Coupled",
                    "Drafts and model share their randomness: the same seed gives the same text with any drafts",
                ),
                (
                    Verification.REJECTION.value,
                    "Rejection",
                    "The paper's rule: accept with min(1, p/q), else sample the residual",
                ),
            )
        )
        self.lookup = QCheckBox("Prompt lookup as a second source of drafts")
        self.lookup.setToolTip("Fused: merge n-gram matches from the text so far into the tree of drafts")
        self.seed_field = QSpinBox()
        self.seed_field.setRange(0, MAX_SEED)
        self.seed_field.setAccessibleName("Seed")
        self.seed_field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        guard_wheel(self.seed_field)
        pad_spin_box(self.seed_field)
        self.dice = tool_button("ph.dice-five", "Roll a new seed", theme)
        self.reuse = tool_button("ph.lock-simple", "Re-use this seed in the next run", theme, checkable=True)
        self.reuse.setChecked(True)
        self._more = QToolButton()
        self._more.setText("More")
        self._more.setCheckable(True)
        self._more.setToolTip("Top-p, min-p, row budget, stop strings, end of sequence")
        self._advanced = QWidget()
        self.rows = SliderField(
            "Rows per call", 0, 64, special="auto", tip="Fused: the most rows of a forward pass; auto lets it choose"
        )
        self.stop_strings = QLineEdit()
        self.stop_strings.setPlaceholderText(r"stop strings, separated by | (\n for a new line)")
        self.stop_strings.setAccessibleName("Stop strings")
        self.ignore_eos = QCheckBox("Continue past end-of-sequence tokens")
        self._lay_out()
        self.set_settings(DecodingSettings(), StopConditions(), 0)
        self._connect()
        self._show_more(False)
        self._enable()

    # -- values ----------------------------------------------------------------------------------------------------

    def settings(self) -> DecodingSettings:
        """The choices that may change during a run."""
        strategy = Strategy(self.strategy.value())
        return DecodingSettings(
            strategy=strategy,
            k=int(self.k.value()),
            sampling=SamplingSettings(
                temperature=self.temperature.value(),
                top_k=int(self.top_k.value()),
                top_p=self.top_p.value(),
                min_p=self.min_p.value(),
            ),
            verification=Verification(self.verification.value()),
            auto=self.auto.isChecked(),
            row_budget=int(self.rows.value()) or None,
            prompt_lookup=self.lookup.isChecked() and strategy is Strategy.FUSED,
            disabled_parts=self._disabled_parts,
        )

    def stop_conditions(self) -> StopConditions:
        """The choices that are fixed when a run starts."""
        raw = self.stop_strings.text().split("|")
        strings = tuple(s.replace("\\n", "\n").replace("\\t", "\t") for s in raw if s)
        return StopConditions(
            max_new_tokens=int(self.length.value()), stop_strings=strings, ignore_eos=self.ignore_eos.isChecked()
        )

    def seed(self) -> int:
        """The next run's seed."""
        return self.seed_field.value()

    def set_settings(self, settings: DecodingSettings, stop: StopConditions, seed: int) -> None:
        """Take choices without a signal."""
        self.strategy.set_value(settings.strategy.value)
        self.k.set_value(min(settings.k, self._lookahead_count))
        self.temperature.set_value(settings.sampling.temperature)
        self.top_k.set_value(settings.sampling.top_k)
        self.top_p.set_value(settings.sampling.top_p)
        self.min_p.set_value(settings.sampling.min_p)
        if settings.sampling.top_p < 1 or settings.sampling.min_p:
            self._more.setChecked(True)  # nothing that is in force hides
        self.verification.set_value(settings.verification.value)
        self.rows.set_value(settings.row_budget or 0)
        self._disabled_parts = settings.disabled_parts
        self.length.set_value(stop.max_new_tokens)
        for widget, value in (
            (self.auto, settings.auto),
            (self.lookup, settings.prompt_lookup),
            (self.ignore_eos, stop.ignore_eos),
        ):
            widget.blockSignals(True)
            widget.setChecked(value)
            widget.blockSignals(False)
        self.stop_strings.blockSignals(True)
        self.stop_strings.setText("|".join(s.replace("\n", "\\n").replace("\t", "\\t") for s in stop.stop_strings))
        self.stop_strings.blockSignals(False)
        self.seed_field.blockSignals(True)
        self.seed_field.setValue(seed)
        self.seed_field.blockSignals(False)
        self._enable()

    def set_lookahead_count(self, count: int) -> None:
        """L of the loaded file: the end of the k slider. A k that nobody has chosen becomes the file's usual one."""
        k = self.k.value()
        untouched = k == usual_k(self._lookahead_count)
        self._lookahead_count = count
        self.k.set_range(0, count)
        self.k.set_value(usual_k(count) if untouched else min(k, count))

    def set_disabled_parts(self, parts: frozenset[LookaheadPart]) -> None:
        """Parts of the look-ahead file that are switched off."""
        self._disabled_parts = parts

    def set_pass_supported(self, supported: bool) -> None:
        """Whether the loaded model can draft at all."""
        self._pass_supported = supported
        if not supported:
            self.strategy.set_value(Strategy.AUTOREGRESSIVE.value)
        self._enable()

    def roll_seed(self) -> None:
        """A new seed."""
        self.seed_field.setValue(random.randrange(MAX_SEED))

    def after_run(self) -> None:
        """A run ended: roll a fresh seed unless the user keeps this one."""
        if not self.reuse.isChecked():
            self.roll_seed()

    # -- parts -----------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.head.addWidget(self._more)  # first: Tab goes in the order of adding
        for widget in (self.strategy, self.k, self.temperature, self.top_k, self.length):
            self.body.addWidget(widget)
        seed_title = label("Seed")
        sized(seed_title, width=TITLE_WIDTH)
        self.body.addLayout(row(seed_title, self.seed_field, self.dice, self.reuse, spacing=4))
        rule_title = label("Verification")
        sized(rule_title, width=TITLE_WIDTH)
        rule = row(rule_title, self.verification, spacing=4)
        rule.setStretch(1, 1)
        self.body.addLayout(rule)
        self.body.addWidget(self.lookup)
        advanced = QVBoxLayout(self._advanced)
        advanced.setContentsMargins(0, 0, 0, 0)
        advanced.setSpacing(8)
        for widget in (self.top_p, self.min_p, self.rows, self.stop_strings, self.ignore_eos):
            advanced.addWidget(widget)
        self.body.addWidget(self._advanced)

    def _connect(self) -> None:
        for field in (self.k, self.temperature, self.top_k, self.top_p, self.min_p, self.length, self.rows):
            field.changed.connect(self._changed)
        for segmented in (self.strategy, self.verification):
            segmented.chosen.connect(self._changed)
        for check in (self.auto, self.lookup, self.ignore_eos):
            check.toggled.connect(self._changed)
        self.seed_field.valueChanged.connect(self._changed)
        self.stop_strings.editingFinished.connect(self._changed)
        self.dice.clicked.connect(self.roll_seed)
        self.reuse.toggled.connect(self._show_reuse)
        self._more.toggled.connect(self._show_more)

    def _changed(self, *_: object) -> None:
        self._enable()
        self.changed.emit()

    def _enable(self) -> None:
        every = {s.value for s in Strategy}
        self.strategy.set_enabled_values(every if self._pass_supported else {Strategy.AUTOREGRESSIVE.value})
        strategy = Strategy(self.strategy.value())
        drafting, fused = strategy is not Strategy.AUTOREGRESSIVE, strategy is Strategy.FUSED
        self.k.setEnabled(drafting)
        self.auto.setEnabled(fused)
        self.verification.setEnabled(drafting)
        self.lookup.setEnabled(fused)
        self.rows.setEnabled(fused)

    def _show_reuse(self, locked: bool) -> None:
        set_icon(self.reuse, "ph.lock-simple" if locked else "ph.lock-simple-open", self._theme)
        tip = "Re-use this seed in the next run" if locked else "A new seed after every run; click to keep this one"
        self.reuse.setToolTip(tip)

    def _show_more(self, on: bool) -> None:
        self._advanced.setVisible(on)
        self._more.setText("Less" if on else "More")
