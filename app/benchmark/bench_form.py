"""What to measure: the choices of the Benchmark page, as a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QLineEdit, QPushButton, QSpinBox, QWidget

from app.theme.apply import ThemeManager
from app.theme.scale import sized
from app.widgets.basic import Card, Segmented, guard_wheel, label, pad_spin_box, row
from app.widgets.text_format import seconds_text
from pass_core.evaluation.baselines.llamacpp import llama_cpp_installed
from pass_core.evaluation.number_lists import NumberListError, decimals, numbers
from pass_core.evaluation.prompts import BUILT_IN, BenchmarkPrompt, PromptFileError, built_in, read_prompts
from pass_core.evaluation.speed.plan import BenchmarkPlan, PlanError, contestants_for
from pass_core.settings import Strategy

SIZES = (
    ("quick", "Quick", "A useful answer within about a minute"),
    ("standard", "Standard", "A few k, more prompts: some ten minutes on a CPU"),
    ("full", "Full", "All k, 20 prompts of every set, two temperatures: leave it alone for an hour"),
)


@dataclass(frozen=True, slots=True)
class _Extent:
    ks: str
    temperatures: str
    prompts: int
    tokens: int
    two_call: bool
    minutes: int


_EXTENTS = {
    "quick": _Extent("5", "0.8", 4, 48, False, 1),
    "standard": _Extent("1, 3, 5", "0.8", 6, 96, True, 0),
    "full": _Extent("1, 2, 3, 4, 5, 6", "0, 0.8", 20, 128, True, 0),
}


class BenchForm(QWidget):
    """Signals:
    changed(): any choice was changed.
    """

    changed = Signal()

    def __init__(self, theme: ThemeManager) -> None:
        super().__init__()
        self.extent = Segmented(SIZES)
        self.two_call = QCheckBox("two-call PASS (the paper's)")
        self.fused = QCheckBox("PASS (one call)")
        self.lookup = QCheckBox("PASS with prompt lookup")
        self.transformers = QCheckBox("transformers")
        self.transformers.setToolTip("Its plain generate, and its own speculative method, prompt lookup.")
        self.llama = QCheckBox("llama.cpp")
        self.ks = QLineEdit()
        self.ks.setAccessibleName("k")
        self.temperatures = QLineEdit()
        self.temperatures.setAccessibleName("temperatures")
        self.sets = {name: QCheckBox(name) for name in BUILT_IN}
        self.prompts, self.tokens, self.minutes = spin(1, 1000), spin(8, 4096), spin(0, 10000)
        self.minutes.setSpecialValueText("no limit")
        self.minutes.setToolTip("No new round begins after these minutes; finished rounds count.")
        self.file = QPushButton("Own prompts…")
        self.file.setProperty("role", "quiet")
        self.gguf = QPushButton("GGUF file…")
        self.gguf.setProperty("role", "quiet")
        self._file: Path | None = None
        self._gguf: Path | None = None
        self.estimate = label("", "faint", wrap=True)
        self._lay_out()
        self._take(_EXTENTS["quick"])
        for box in (self.fused, self.lookup, self.transformers, *self.sets.values()):
            box.setChecked(True)
        self.llama.setEnabled(llama_cpp_installed())
        self.gguf.setEnabled(llama_cpp_installed())
        self.llama.setToolTip(
            "Needs the same model as a GGUF file."
            if llama_cpp_installed()
            else "Not installed: python -m pip install “pass-playground[llamacpp]”."
        )
        self._connect()
        self._show_estimate()

    def plan(self, count: int, supports_pass: bool) -> BenchmarkPlan:
        """The choices as a plan for look-ahead embeddings of L = `count`, labelled "loaded".

        Raises:
            PlanError, PromptFileError: a choice is missing or cannot be used.
        """
        prompts: list[BenchmarkPrompt] = []
        if self._file is not None:
            prompts += read_prompts(self._file)
        else:
            for name, box in self.sets.items():
                prompts += built_in(name)[: self.prompts.value()] if box.isChecked() else ()
        if not prompts:
            raise PlanError("Choose at least one prompt set, or a file of your own prompts.")
        try:
            ks = sorted({min(k, count) for k in numbers(self.ks.text(), "k")})
            temperatures = tuple(decimals(self.temperatures.text(), "temperatures"))
        except NumberListError as error:
            raise PlanError(str(error)) from None
        if ks[0] < 1:
            raise PlanError("k counts look-ahead steps: at least 1. Plain decoding is always measured besides.")
        strategies: list[Strategy] = []
        if supports_pass:
            strategies += [Strategy.TWO_CALL] if self.two_call.isChecked() else []
            strategies += [Strategy.FUSED] if self.fused.isChecked() else []
        if self.llama.isChecked() and self._gguf is None:
            raise PlanError("llama.cpp needs the model as a GGUF file. Choose one, or leave llama.cpp out.")
        return BenchmarkPlan(
            contestants=contestants_for(
                strategies,
                ks,
                embeddings=("loaded",),
                lookup=self.lookup.isChecked() and self.fused.isChecked(),
                transformers=self.transformers.isChecked(),
                llama_cpp=self.llama.isChecked(),
            ),
            prompts=tuple(prompts),
            temperatures=temperatures,
            new_tokens=self.tokens.value(),
            minutes=float(self.minutes.value()) or None,
        )

    @property
    def gguf_file(self) -> Path | None:
        """The GGUF file for llama.cpp, where it is asked for."""
        return self._gguf if self.llama.isChecked() else None

    def use_prompt_file(self, path: Path | None) -> None:
        """Measure with a user's prompts; None goes back to the built-in sets."""
        self._file = path
        self.file.setText(path.name if path is not None else "Own prompts…")
        for box in self.sets.values():
            box.setEnabled(path is None)
        self._changed()

    def _lay_out(self) -> None:
        card = Card("What to measure")
        card.body.addWidget(self.extent)
        card.body.addWidget(label("Ways of decoding", "section"))
        card.body.addWidget(label("Plain decoding is always measured.", "faint"))
        for box in (self.fused, self.lookup, self.two_call):
            card.body.addWidget(box)
        card.body.addLayout(row(self.transformers, self.llama, self.gguf, 1))
        card.body.addWidget(label("Prompts", "section"))
        card.body.addLayout(row(*self.sets.values(), 1))
        card.body.addLayout(row(self.file, 1))
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(6)
        fields: tuple[tuple[str, QWidget], ...] = (
            ("k", self.ks),
            ("temperatures", self.temperatures),
            ("prompts of each set", self.prompts),
            ("new tokens at most", self.tokens),
            ("minutes at most", self.minutes),
        )
        for index, (title, field) in enumerate(fields):
            grid.addWidget(label(title), index, 0)
            sized(field, max_width=130)
            grid.addWidget(field, index, 1)
        grid.setColumnStretch(0, 1)
        card.body.addLayout(grid)
        card.body.addWidget(self.estimate)
        layout = row(card)
        self.setLayout(layout)

    def _connect(self) -> None:
        self.extent.chosen.connect(lambda value: self._take(_EXTENTS[value]))
        for box in (self.two_call, self.fused, self.lookup, self.transformers, self.llama, *self.sets.values()):
            box.toggled.connect(self._changed)
        for field in (self.ks, self.temperatures):
            field.textChanged.connect(self._changed)
        for spin in (self.prompts, self.tokens, self.minutes):
            spin.valueChanged.connect(self._changed)
        self.file.clicked.connect(self._choose_file)
        self.gguf.clicked.connect(self._choose_gguf)

    def _take(self, extent: _Extent) -> None:
        self.ks.setText(extent.ks)
        self.temperatures.setText(extent.temperatures)
        self.prompts.setValue(extent.prompts)
        self.tokens.setValue(extent.tokens)
        self.minutes.setValue(extent.minutes)
        self.two_call.setChecked(extent.two_call)

    def _changed(self, *_: object) -> None:
        self._show_estimate()
        self.changed.emit()

    def _show_estimate(self) -> None:
        """Say how much the choices ask for, at 30 ms per token."""
        try:
            plan = self.plan(64, True)
        except (PlanError, PromptFileError, ValueError) as error:
            self.estimate.setText(str(error))
            return
        runs = len(plan.rounds) * len(plan.contestants)
        seconds = runs * plan.new_tokens * 0.03
        if plan.minutes is not None:
            seconds = min(seconds, 60 * plan.minutes)
        self.estimate.setText(
            f"{runs} runs of up to {plan.new_tokens} tokens; at 30 ms per token {seconds_text(seconds)}."
        )

    def _choose_file(self) -> None:
        if self._file is not None:
            self.use_prompt_file(None)
            return
        self._ask("Own prompts", "Prompts (*.toml *.jsonl *.txt);;All files (*)", self.use_prompt_file)

    def _choose_gguf(self) -> None:
        self._ask("GGUF file of the same model", "GGUF (*.gguf)", self._use_gguf)

    def _use_gguf(self, path: Path) -> None:
        self._gguf = path
        self.gguf.setText(path.name)
        self.llama.setChecked(True)

    def _ask(self, title: str, kinds: str, use: Callable[[Path], None]) -> None:
        dialog = QFileDialog(self, title, str(Path.home()), kinds)
        dialog.fileSelected.connect(lambda file: use(Path(file)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()


def spin(low: int, high: int) -> QSpinBox:
    """A field for a whole number."""
    field = QSpinBox()
    field.setRange(low, high)
    pad_spin_box(field)
    guard_wheel(field)
    return field
