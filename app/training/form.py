"""What to train, on what, how long, and where to: the left side of the Train page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QDoubleSpinBox, QFileDialog, QPushButton, QSpinBox, QVBoxLayout, QWidget

from app.state.folders import Place, default_folder
from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.training.plan import SELF, TrainingPlan, suggested_file
from app.widgets.basic import (
    Card,
    ElidedLabel,
    Segmented,
    SliderField,
    guard_wheel,
    label,
    pad_spin_box,
    row,
    set_tone,
    tool_button,
)
from pass_core.training.config import TrainingConfig, TrainingKind

KIND_HINTS = {
    TrainingKind.EMBEDDINGS: "L input vectors, the paper's method: tiny, and quick to train.",
    TrainingKind.DEEP: "Besides, one vector for every layer and look-ahead step.",
    TrainingKind.ADAPTER: "Besides, low-rank updates that act on look-ahead rows only: better drafts, longer training.",
    TrainingKind.ALL: "Embeddings, deep vectors and adapters together: the best drafts, the longest training.",
}
MINUTES, STEPS = "minutes", "steps"
EVALUATIONS, EVALUATION_CONTEXTS = 12, 192  # often enough to watch, for a tenth of the time


class TrainingForm(QWidget):
    """Yields immutable plans.

    Attributes:
        folder: where a file goes that nobody named.

    Signals:
        changed(): any choice; read `plan`.
    """

    changed = Signal()

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._model_name = ""
        self._path = ""
        self._out: Path | None = None
        self.folder: Callable[[], Path] = lambda: default_folder(Place.TRAINED)
        self._base = TrainingConfig()
        self._make_what()
        self._make_data()
        self._make_budget()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for card in (self._what, self._data, self._run):
            layout.addWidget(card)
        self._connect()
        self._show_dependent()

    # -- values --------------------------------------------------------------------------------------------------------

    def plan(self, seconds_per_step: float = 0.0) -> TrainingPlan | None:
        """The present choices; None while there is no text or no model to train for.

        Args:
            seconds_per_step: as estimated, so that a budget in minutes is evaluated often enough (0: unknown).
        """
        data = self.data()
        if not data or not self._model_name:
            return None
        by_time = self.budget.value() == MINUTES
        minutes = self.minutes.value() if by_time else 0.0
        base = self._base
        steps = base.steps if by_time else self.steps.value()
        expected = round(minutes * 60 / seconds_per_step) if by_time and seconds_per_step > 0 else steps
        config = replace(
            base,
            kind=TrainingKind(self.kind.value()),
            with_sampler=self.sampler.isChecked(),
            lookahead=int(self.count.value()),
            rank=int(self.rank.value()),
            rows=max(base.rows, int(self.count.value())),
            steps=steps,
            minutes=minutes,
            evaluate_every=max(5, min(50, expected // EVALUATIONS)),
            evaluate_contexts=min(base.evaluate_contexts, EVALUATION_CONTEXTS),
        )
        return TrainingPlan(config, data, int(self.texts.value()), self.out(), self.state_head.isChecked())

    def data(self) -> str:
        """ "self", a path, or "" while none is chosen."""
        return SELF if self.source.value() == SELF else self._path

    def out(self) -> Path:
        """Where the file goes."""
        return self._out or suggested_file(self.folder(), self._model_name, self.kind.value(), self.sampler.isChecked())

    def set_model_name(self, name: str) -> None:
        """The model that is trained for; "" while none is loaded."""
        if name != self._model_name:
            self._model_name, self._out = name, None
            self._show_dependent()

    def set_data(self, path: str) -> None:
        """Train on the text of a file or folder."""
        self._path = path
        self.source.set_value("files" if path else SELF)
        self._touch()

    def show_fit(self, sentence: str, *, good: bool = True) -> None:
        """What the chosen text holds, or why it cannot be trained on."""
        self.fit.setText(sentence)
        self.fit.setVisible(bool(sentence))
        set_tone(self.fit, "" if good else "bad")

    def choices(self) -> dict[str, Any]:
        """Everything that is chosen, as JSON values for `take_choices`."""
        return {
            "kind": self.kind.value(),
            "sampler": self.sampler.isChecked(),
            "state_head": self.state_head.isChecked(),
            "lookahead": int(self.count.value()),
            "rank": int(self.rank.value()),
            "source": self.source.value(),
            "path": self._path,
            "texts": int(self.texts.value()),
            "budget": self.budget.value(),
            "minutes": self.minutes.value(),
            "steps": self.steps.value(),
        }

    def take_choices(self, kept: dict[str, Any]) -> None:
        """Show what `choices` gave; what is missing or of another type stays as it is."""

        def take(key: str, kind: type, show: Callable[[Any], object]) -> None:
            if isinstance(value := kept.get(key), kind):
                show(value)

        for key, choice in (("kind", self.kind), ("source", self.source), ("budget", self.budget)):
            take(key, str, choice.set_value)
        for key, field in (("lookahead", self.count), ("rank", self.rank), ("texts", self.texts)):
            take(key, int, field.set_value)
        take("sampler", bool, self.sampler.setChecked)
        take("state_head", bool, self.state_head.setChecked)
        take("path", str, lambda path: setattr(self, "_path", path))
        take("minutes", float, self.minutes.setValue)
        take("steps", int, self.steps.setValue)
        self._touch()

    def set_out(self, path: Path | None) -> None:
        """Write to `path`; None: suggest a new name."""
        self._out = path
        self._touch()

    def set_base(self, config: TrainingConfig) -> None:
        """What the form does not show (batch, rows, length, …) is taken from `config`."""
        self._base = config
        self._touch()

    def take(self, plan: TrainingPlan) -> None:
        """Show the choices of a plan."""
        c = plan.config
        self._base = c
        self.kind.set_value(c.kind.value)
        self.sampler.setChecked(c.with_sampler)
        self.state_head.setChecked(plan.state_head)
        self.count.set_value(c.lookahead)
        self.rank.set_value(c.rank)
        self.texts.set_value(plan.sequences)
        self.source.set_value(SELF if plan.data == SELF else "files")
        self._path = "" if plan.data == SELF else plan.data
        self.budget.set_value(MINUTES if c.minutes else STEPS)
        if c.minutes:
            self.minutes.setValue(c.minutes)
        else:
            self.steps.setValue(c.steps)
        self._out = plan.out
        self._touch()

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _make_what(self) -> None:
        self._what = Card("What learns")
        self.kind = Segmented(
            [
                (kind.value, title, KIND_HINTS[kind])
                for kind, title in (
                    (TrainingKind.EMBEDDINGS, "Embeddings"),
                    (TrainingKind.DEEP, "+ Deep"),
                    (TrainingKind.ADAPTER, "+ Adapter"),
                    (TrainingKind.ALL, "All"),
                )
            ]
        )
        self.hint = label("", "hint", wrap=True)
        sized(self.hint, min_height=32)
        self.sampler = QCheckBox("Coherent drafts (sampler head)")
        self.sampler.setToolTip("A small head that makes each draft fit the token before it; it helps most at depth")
        self.state_head = QCheckBox("State head (drafts without look-ahead rows)")
        self.state_head.setToolTip(
            "Drafts from the last token's own state, where look-ahead rows cost too much; trained last, in a fifth of "
            "the time"
        )
        self.count = SliderField("Look-ahead L", 1, 16, tip="Drafts that a chain can have")
        self.count.set_value(TrainingConfig().lookahead)
        self.rank = SliderField("Adapter rank", 1, 64, tip="Rank of the low-rank updates: more learns more, slower")
        self.rank.set_value(TrainingConfig().rank)
        for widget in (self.kind, self.hint, self.sampler, self.state_head, self.count, self.rank):
            self._what.body.addWidget(widget)

    def _make_data(self) -> None:
        self._data = Card("Text")
        self.source = Segmented(
            (
                (SELF, "The model writes it", "Text that the model samples itself: the best to learn drafts from"),
                ("files", "My text", "A text or code file, JSONL, Parquet, or a folder of them"),
            )
        )
        self.path = ElidedLabel("", "hint")
        self.fit = label("", "faint", wrap=True)
        self.fit.hide()
        self._file = tool_button("ph.file-text", "Choose a file", self._theme)
        self._folder = tool_button("ph.folder-open", "Choose a folder", self._theme)
        self.texts = SliderField("Texts", 12, 1000, tip="Pieces of text to train on, at most; some more are held out")
        self.texts.set_value(96)
        line = row(self.path, self._file, self._folder)
        line.setStretch(0, 1)
        self._data.body.addWidget(self.source)
        self._data.body.addLayout(line)
        self._data.body.addWidget(self.fit)
        self._data.body.addWidget(self.texts)

    def _make_budget(self) -> None:
        self._run = Card("Budget and file")
        self.budget = Segmented(
            ((MINUTES, "Minutes", "Train for this time"), (STEPS, "Steps", "Train this many steps"))
        )
        self.minutes = QDoubleSpinBox()
        self.minutes.setRange(0.5, 6000)
        self.minutes.setDecimals(1)
        self.minutes.setValue(5)
        self.steps = QSpinBox()
        self.steps.setRange(1, 1_000_000)
        self.steps.setValue(300)
        for spin, name in ((self.minutes, "Minutes"), (self.steps, "Steps")):
            sized(spin, width=84)
            spin.setAlignment(Qt.AlignmentFlag.AlignRight)
            spin.setAccessibleName(name)
            pad_spin_box(spin)
            guard_wheel(spin)
        line = row(self.budget, self.minutes, self.steps)
        line.setStretch(0, 1)
        self.file = ElidedLabel("", "hint")
        self._choose_out = QPushButton("Save as…")
        self._choose_out.setToolTip("Choose the look-ahead file to write")
        set_icon(self._choose_out, "ph.floppy-disk", self._theme)
        target = row(self.file, self._choose_out)
        target.setStretch(0, 1)
        self._run.body.addLayout(line)
        self._run.body.addLayout(target)

    def _connect(self) -> None:
        for choice in (self.kind, self.source, self.budget):
            choice.chosen.connect(self._touch)
        for field in (self.count, self.rank, self.texts):
            field.changed.connect(self._touch)
        self.sampler.toggled.connect(self._touch)
        self.state_head.toggled.connect(self._touch)
        self.minutes.valueChanged.connect(self._touch)
        self.steps.valueChanged.connect(self._touch)
        self._file.clicked.connect(self._ask_file)
        self._folder.clicked.connect(self._ask_folder)
        self._choose_out.clicked.connect(self._ask_out)

    def _touch(self, *_: object) -> None:
        self._show_dependent()
        self.changed.emit()

    def _show_dependent(self) -> None:
        kind = TrainingKind(self.kind.value())
        self.hint.setText(KIND_HINTS[kind])
        self.rank.setEnabled(kind in (TrainingKind.ADAPTER, TrainingKind.ALL))
        own = self.source.value() == SELF
        self._file.setEnabled(not own)
        self._folder.setEnabled(not own)
        if own:
            self.path.set_full_text("Sampled once for each model, then kept.")
        else:
            self.path.set_full_text(self._path or "Choose a file or folder, or drop one here.")
        by_time = self.budget.value() == MINUTES
        self.minutes.setVisible(by_time)
        self.steps.setVisible(not by_time)
        self._choose_out.setEnabled(bool(self._model_name))
        self.file.set_full_text(self.out().name if self._model_name else "Load a model first.")
        if self._model_name:
            self.file.setToolTip(str(self.out()))

    def _ask_file(self) -> None:
        self._ask("Text to train on", QFileDialog.FileMode.ExistingFile)

    def _ask_folder(self) -> None:
        self._ask("Folder of text to train on", QFileDialog.FileMode.Directory)

    def _ask(self, title: str, mode: QFileDialog.FileMode) -> None:
        dialog = QFileDialog(self, title, str(Path(self._path).parent) if self._path else str(Path.home()))
        dialog.setFileMode(mode)
        if mode is QFileDialog.FileMode.ExistingFile:
            dialog.setNameFilter(f"Text and code ({' '.join('*' + s for s in readable())})")
        dialog.fileSelected.connect(self.set_data)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _ask_out(self) -> None:
        out = self.out()
        out.parent.mkdir(parents=True, exist_ok=True)
        dialog = QFileDialog(self, "Save look-ahead embeddings", str(out), "Look-ahead embeddings (*.safetensors)")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("safetensors")
        dialog.fileSelected.connect(lambda name: self.set_out(Path(name).with_suffix(".safetensors")))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()


def readable() -> tuple[str, ...]:
    """Suffixes of files that can be trained on (asked for late: the trainer is not loaded at the start)."""
    from pass_core.training.corpus import CODE, PROSE, TABLES

    return PROSE + CODE + TABLES
