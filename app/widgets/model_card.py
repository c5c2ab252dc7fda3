"""The model: pick one, watch it load, see what is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QStandardPaths, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QFileDialog, QInputDialog, QMenu, QToolButton, QWidget

from app.state.loader import LOADING, ModelChoice
from app.state.machine import why_no_device, why_no_weights
from app.theme.apply import ThemeManager
from app.widgets.basic import Card, ElidedLabel, label, menu_heading, row, set_tone, tool_button
from app.widgets.embedding_card import training_state
from app.widgets.picker import Picker
from app.widgets.progress_strip import ProgressStrip
from app.widgets.text_format import bytes_text, count_text, sentence_case
from pass_core.models.catalog import default_model, known_models
from pass_core.progress import Progress
from pass_core.runtime.native.build import reason_missing

if TYPE_CHECKING:
    from pass_core.lookahead.embeddings import LookaheadEmbeddings
    from pass_core.models.language_model import LanguageModel
    from pass_core.runtime.forward_weights import ForwardWeights

DEVICES = (("auto", "Automatic"), ("cpu", "CPU"), ("cuda", "CUDA"), ("mps", "Apple GPU (MPS)"))
DTYPES = (("auto", "Automatic"), ("float32", "float32 (exact)"), ("bfloat16", "bfloat16"), ("float16", "float16"))
QUANTIZATIONS = (
    ("none", "Automatic"),
    ("gguf", "As in the GGUF file (CPU)"),
    ("int8", "int8 (rounded)"),
    ("int4", "int4 (bitsandbytes, CUDA)"),
)


class ModelCard(Card):
    """Shows the model and its load, and emits what the user wants.

    Signals:
        load_requested(ModelChoice), unload_requested(), cancel_requested().
    """

    load_requested = Signal(object)
    unload_requested = Signal()
    cancel_requested = Signal()

    def __init__(self, theme: ThemeManager, recent: list[str], parent: QWidget | None = None) -> None:
        super().__init__("Model", parent)
        self._choice = ModelChoice()
        self._recent = recent  # the loader's own list: it grows
        self.picker = Picker(theme, "Model")
        self.facts = ElidedLabel("", "hint")
        self.weights = label("", "hint")
        self.weights.setWordWrap(True)
        self.weights.hide()
        self.warning = ElidedLabel("", "hint")
        self.warning.setWordWrap(False)
        self.warning.hide()
        self.strip = ProgressStrip(theme)
        self.strip.cancelled.connect(self.cancel_requested)
        self._tune = tool_button("ph.sliders-horizontal", "Device, number format and weights", theme)
        self._tune.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._unload = tool_button("ph.eject", "Unload the model and free its memory", theme)
        self._unload.clicked.connect(self.unload_requested)
        self.head.addWidget(self._tune)
        self.head.addWidget(self._unload)
        self.body.addWidget(self.picker)
        self.body.addWidget(self.facts)
        self.body.addWidget(self.weights)
        self.body.addWidget(self.warning)
        self.lookahead = label("", "chip")
        self.trained = label("", "chip")
        self._summary = QWidget()
        summary = row(self.lookahead, self.trained, 1, spacing=4)
        self._summary.setLayout(summary)
        self.body.addWidget(self._summary)
        self.body.addWidget(self.strip)
        self._device = self._choices_menu()
        self.picker.menu().aboutToShow.connect(self._fill_menu)
        self.show_model(None)
        self.show_lookahead(None)

    def choice_of(self, source: str | None) -> ModelChoice:
        """Another model on the device and in the format chosen here."""
        return replace(self._choice, source=source)

    def set_choice(self, choice: ModelChoice) -> None:
        """What is loaded, or being loaded."""
        self._choice = choice
        values = (choice.device, choice.dtype, choice.quantize)
        for group, value in zip(self._groups, values, strict=True):
            for action in group.actions():
                action.setChecked(action.data() == value)
        self.picker.set_label(choice_name(choice.source))

    def show_model(self, model: LanguageModel | None, weights: ForwardWeights | None = None) -> None:
        """Show what is loaded, and what its forward passes compute with."""
        self._unload.setEnabled(model is not None)
        self.warning.setVisible(False)
        reason = model.weights_reason if model is not None else ""
        self.weights.setText(f"Computes with {reason}." if reason else "")
        self.weights.setVisible(bool(reason))
        if model is None:
            self.picker.set_label("No model")
            self.facts.set_full_text("Nothing loaded. Pick a model, or drop a folder or GGUF file here.")
            return
        self.picker.set_label(model.name)
        dtype = str(model.dtype).removeprefix("torch.")
        name, size = (weights.name, weights.nbytes) if weights is not None else (dtype, model.weight_bytes())
        self.facts.set_full_text(f"{count_text(model.parameter_count)} · {name}, {bytes_text(size)} · {model.device}")
        self.facts.setAccessibleDescription("Parameters, what forward passes compute with, device")
        if not model.capabilities.supports_pass:
            self.warning.set_full_text(f"Autoregressive only: {model.capabilities.reason}")
            self.warning.show()
        elif model.device.type == "cpu" and reason_missing():
            self.warning.set_full_text(reason_missing())
            self.warning.show()

    def show_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        """One line about the look-ahead embeddings; their own card tells the rest."""
        self._summary.setVisible(lookahead is not None)
        if lookahead is not None:
            self.lookahead.setText(f"L = {lookahead.count}")
            self.lookahead.setToolTip(f"Up to {lookahead.count} tokens are drafted ahead")
            text, tone = training_state(lookahead)
            self.trained.setText(f"look-ahead {text}")
            set_tone(self.trained, tone)

    def show_loading(self, title: str) -> None:
        """A load began (or, with "", ended)."""
        if title:
            self.facts.hide()
            self.weights.hide()
            named = f"Loading {choice_name(self._choice.source)}…"
            self.strip.begin(named if title == LOADING else sentence_case(title) + "…")
        else:
            self.strip.end()
            self.facts.show()
            self.weights.setVisible(bool(self.weights.text()))

    def show_progress(self, progress: Progress) -> None:
        """The load's progress."""
        self.strip.show_progress(progress)

    def choose_folder(self) -> None:
        """Ask for a model folder."""
        self._file_dialog("Choose a model folder", folder=True)

    def choose_gguf(self) -> None:
        """Ask for a GGUF file."""
        self._file_dialog("Choose a GGUF file", folder=False)

    def choose_hub_id(self) -> None:
        """Ask for a Hugging Face id."""
        dialog = QInputDialog(self)
        dialog.setWindowTitle("Load from Hugging Face")
        dialog.setLabelText("Model id, such as HuggingFaceTB/SmolLM2-360M-Instruct")
        dialog.textValueSelected.connect(lambda text: text.strip() and self._ask(text.strip()))
        dialog.resize(420, dialog.sizeHint().height())
        dialog.open()

    def _file_dialog(self, title: str, *, folder: bool) -> None:
        home = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.HomeLocation)
        dialog = QFileDialog(self, title, home)
        if folder:
            dialog.setFileMode(QFileDialog.FileMode.Directory)
        else:
            dialog.setNameFilter("GGUF models (*.gguf)")
        dialog.fileSelected.connect(self._ask)
        dialog.open()

    def _ask(self, source: str) -> None:
        default = source == default_model().id
        self.load_requested.emit(self.choice_of(None if default else source))

    def _fill_menu(self) -> None:
        menu = self.picker.menu()
        menu.clear()
        menu_heading(menu, "Known models")
        for known in known_models():
            action = menu.addAction(f"{known.name}\t{bytes_text(known.bytes)}")
            action.setToolTip(known.note)
            action.triggered.connect(lambda _=False, s=known.id: self._ask(s))
        if self._recent:
            menu_heading(menu, "Recent")
            for source in self._recent:
                action = menu.addAction(choice_name(source))
                action.setToolTip(source)
                action.triggered.connect(lambda _=False, s=source: self._ask(s))
        menu.addSeparator()
        menu.addAction("Model folder…", self.choose_folder)
        menu.addAction("GGUF file…", self.choose_gguf)
        menu.addAction("Hugging Face id…", self.choose_hub_id)

    def _choices_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self._groups: list[QActionGroup] = []
        for title, options in (("Device", DEVICES), ("Number format", DTYPES), ("Weights", QUANTIZATIONS)):
            group = QActionGroup(self)
            self._groups.append(group)
            menu_heading(menu, title)
            for value, text in options:
                action = QAction(text, menu, checkable=True)
                action.setData(value)
                action.setChecked(value == options[0][0])
                if why := why_no_device(value) or why_no_weights(value):
                    action.setEnabled(False)
                    action.setText(f"{text}: not here")
                    action.setToolTip(why)
                group.addAction(action)
                menu.addAction(action)
            group.triggered.connect(self._retune)
        self._tune.setMenu(menu)
        return menu

    def _retune(self) -> None:
        self.load_requested.emit(ModelChoice(self._choice.source, *(g.checkedAction().data() for g in self._groups)))


def choice_name(source: str | None) -> str:
    """What a person calls a source."""
    if source is None:
        return default_model().name
    for known in known_models():
        if source == known.id:
            return known.name
    path = Path(source)
    return path.name if path.is_absolute() else source
