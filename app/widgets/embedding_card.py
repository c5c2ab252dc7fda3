"""The look-ahead embeddings: which file, what is in it, what it promises, and switches for its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, QStandardPaths, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QInputDialog,
    QLabel,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from app.theme.apply import ThemeManager
from app.theme.fonts import sans
from app.theme.scale import paint_scaled, scaled, sized
from app.widgets.basic import Card, label, menu_heading, row, set_tone, tool_button
from app.widgets.picker import Picker
from app.widgets.text_format import bytes_text, count_text
from pass_core.models.hub_names import PREFIX
from pass_core.settings import LookaheadPart

if TYPE_CHECKING:
    from pass_core.lookahead.bigrams import Bigrams
    from pass_core.lookahead.embeddings import LookaheadEmbeddings

SUFFIXES = (".safetensors", ".pt", ".pth", ".npy", ".npz")
PART_TIPS = {
    "embeddings": "L input vectors, the paper's method. Always in use.",
    "deep": "One vector per layer and look-ahead step, added to look-ahead rows.",
    "adapter": "Low-rank updates of the linear layers, for look-ahead rows only.",
    "sampler": "A small head that makes each draft fit the token before it.",
    "state": "Drafts from the last token's own state, without look-ahead rows: used where these cost too much.",
    "bigrams": "The model's own expectation after one token alone: makes each draft fit the token before it.\n"
    "Read from the model once, nothing is trained. Not used while a sampler does the same.",
    "repeats": "Drafts gain that followed the same one or two tokens before in this text.",
}


class AcceptanceBars(QWidget):
    """Held-out acceptance by draft position, as small bars with numbers."""

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._values: tuple[float, ...] = ()
        sized(self, height=44)
        theme.changed.connect(self._restyle)

    def set_values(self, values: Sequence[float]) -> None:
        """Show acceptance of positions 1..L."""
        self._values = tuple(values)[:16]
        self.setVisible(bool(values))
        self.update()

    def _restyle(self, *_: object) -> None:
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(scaled(200), scaled(44))

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._values:
            return
        theme = self._theme.current
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        gap = 4
        width = (paint_scaled(painter, self) - gap * (len(self._values) - 1)) / len(self._values)
        for i, value in enumerate(self._values):
            x = i * (width + gap)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(theme.sunken))
            painter.drawRoundedRect(round(x), 0, round(width), 26, 3, 3)
            painter.setBrush(QColor(theme.series[1]))
            height = round(26 * min(1.0, value))
            painter.drawRoundedRect(round(x), 26 - height, round(width), height, 3, 3)
            painter.setPen(QColor(theme.text_muted))
            painter.setFont(sans(8, zoomed=False))
            text = f"{100 * value:.0f}" + (" %" if width > 34 else "")
            painter.drawText(round(x), 28, round(width), 16, int(Qt.AlignmentFlag.AlignHCenter), text)


class EmbeddingCard(Card):
    """Shows what is loaded and emits what the user wants.

    Signals:
        file_requested(str): a path, or a name on the hub ("hf:…"); "" is the untrained mean embedding.
        bigrams_requested(): read the model's own bigrams.
        parts_changed(frozenset[LookaheadPart]): the parts switched off.
    """

    file_requested = Signal(str)
    bigrams_requested = Signal()
    parts_changed = Signal(object)

    def __init__(self, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__("Look-ahead embeddings", parent)
        self._options: list[Path] = []
        self._disabled: frozenset[LookaheadPart] = frozenset()
        self.picker = Picker(theme, "Look-ahead embeddings")
        self.count = label("", "chip")
        self.trained = label("", "chip")
        self._open = tool_button("ph.folder-open", "Open a look-ahead file", theme)
        self._open.clicked.connect(self.choose_file)
        self.head.addWidget(self._open)
        self.body.addWidget(self.picker)
        self.body.addLayout(row(self.count, self.trained, 1))
        self.hint = label("", "hint", wrap=True)
        self.body.addWidget(self.hint)
        self._parts = QWidget()
        self._grid = QGridLayout(self._parts)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(0, 1)
        self.body.addWidget(self._parts)
        self.checks: dict[LookaheadPart, QCheckBox] = {}
        self._needless = False
        self._promise = label("", "faint", wrap=True)
        self.bars = AcceptanceBars(theme)
        self.body.addWidget(self._promise)
        self.body.addWidget(self.bars)
        self.picker.menu().aboutToShow.connect(self._fill_menu)
        self.show_lookahead(None)

    def set_options(self, options: Sequence[Path]) -> None:
        """The shipped files that fit the loaded model."""
        self._options = list(options)

    def disabled_parts(self) -> frozenset[LookaheadPart]:
        """The parts switched off."""
        return self._disabled

    def set_disabled_parts(self, parts: frozenset[LookaheadPart]) -> None:
        """Switch parts without a signal."""
        self._disabled = parts
        for part, check in self.checks.items():
            check.blockSignals(True)
            check.setChecked(part not in parts)
            check.blockSignals(False)
        self._show_needed()

    def show_lookahead(self, lookahead: LookaheadEmbeddings | None, bigrams: Bigrams | None = None) -> None:
        """Show what is loaded, and the model's own bigrams where they were read."""
        self._clear_parts()
        self.picker.setEnabled(lookahead is not None)
        self._open.setEnabled(lookahead is not None)
        self.count.setVisible(lookahead is not None)
        self.trained.setVisible(lookahead is not None)
        self._parts.setVisible(lookahead is not None)
        self.bars.set_values(())
        self._promise.hide()
        if lookahead is None:
            self.picker.set_label("–")
            self.hint.setText("Loaded together with the model.")
            self.hint.show()
            return
        self.picker.set_label(lookahead_name(lookahead))
        self.count.setText(f"L = {lookahead.count}")
        self.count.setToolTip(f"{lookahead.count} look-ahead steps: up to {lookahead.count} drafts deep")
        unknown = not lookahead.base_fingerprint
        state, tone = training_state(lookahead)
        self.trained.setText(state)
        set_tone(self.trained, tone)
        self.hint.setVisible(not lookahead.trained)
        self.hint.setText(
            "This file does not say which model it was trained for; drafts may be poor, the text stays exact."
            if unknown
            else "No trained file for this model: drafts are poor, the text stays exact. Train one on the Train page."
        )
        self._fill_parts(lookahead)
        if bigrams is not None or lookahead.sampler is None:
            self._add_bigrams(bigrams, lookahead)
        if bigrams is not None or lookahead.sampler is not None:
            self._add_beside(self._add_part(LookaheadPart.REPEATS.value), _size("of the text"))
        training = lookahead.training
        if training is not None and training.acceptance:
            self.bars.set_values(training.acceptance)
            helped = " with the model's bigrams" if training.bigrams else ""
            self._promise.setText(
                f"Held-out acceptance by position · {training.accepted_per_iteration:.2f} drafts kept per "
                f"iteration{helped}"
            )
            self._promise.setToolTip(
                f"Measured at temperature {training.temperature:g}, top-k {training.top_k}\n"
                f"{training.steps:,} steps on {training.tokens:,} tokens: {training.data}\n{training.command}"
            )
            self._promise.show()

    def choose_file(self) -> None:
        """Ask for a file."""
        home = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.HomeLocation)
        dialog = QFileDialog(self, "Open look-ahead embeddings", home)
        dialog.setNameFilter(f"Look-ahead embeddings ({' '.join('*' + s for s in SUFFIXES)})")
        dialog.fileSelected.connect(self.file_requested)
        dialog.open()

    def ask_hub_name(self) -> QInputDialog:
        """Ask for a file's name on the hub."""
        dialog = QInputDialog(self)
        dialog.setWindowTitle("Look-ahead embeddings from the hub")
        dialog.setLabelText(
            "Name on the Hugging Face hub: user/name, or user/name/file.safetensors.\n"
            "The file is refused before the download where it is for another model."
        )
        dialog.setOkButtonText("Load")
        dialog.textValueSelected.connect(
            lambda text: self.file_requested.emit(PREFIX + text.strip().removeprefix(PREFIX)) if text.strip() else None
        )
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog

    def _fill_parts(self, lookahead: LookaheadEmbeddings) -> None:
        for part in lookahead.parts():
            check = self._add_part(part.name)
            self._add_beside(check, _size(f"{count_text(part.parameters)} · {bytes_text(part.bytes)}"))

    def _add_bigrams(self, bigrams: Bigrams | None, lookahead: LookaheadEmbeddings) -> None:
        check = self._add_part(LookaheadPart.BIGRAMS.value)
        self._needless = lookahead.sampler is not None  # unless the sampler is switched off
        if bigrams is not None:
            self._add_beside(check, _size(bytes_text(bigrams.nbytes)))
        else:
            check.setEnabled(False)
            read = QPushButton("Read…")
            read.setProperty("role", "chip")
            read.setToolTip("Some seconds for a small model, once for each model")
            read.clicked.connect(self.bigrams_requested)
            self._add_beside(check, read)
        self._show_needed()

    def _show_needed(self) -> None:
        """Bigrams wait while a sampler does their work."""
        check = self.checks.get(LookaheadPart.BIGRAMS)
        if check is not None and self._needless:
            check.setEnabled(LookaheadPart.SAMPLER in self._disabled)

    def _add_part(self, name: str) -> QCheckBox:
        check = QCheckBox(name)
        check.setToolTip(PART_TIPS.get(name, ""))
        if name == "embeddings":
            check.setChecked(True)
            check.setEnabled(False)
        else:
            part = LookaheadPart(name)
            check.setChecked(part not in self._disabled)
            check.toggled.connect(self._toggled)
            self.checks[part] = check
        return check

    def _add_beside(self, check: QCheckBox, widget: QWidget) -> None:
        line = self._grid.rowCount()
        self._grid.addWidget(check, line, 0)
        self._grid.addWidget(widget, line, 1, Qt.AlignmentFlag.AlignRight)

    def _clear_parts(self) -> None:
        self.checks.clear()
        self._needless = False
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()

    def _toggled(self) -> None:
        kept = self._disabled - set(self.checks)
        self._disabled = frozenset(kept | {p for p, c in self.checks.items() if not c.isChecked()})
        self._show_needed()
        self.parts_changed.emit(self._disabled)

    def _fill_menu(self) -> None:
        menu = self.picker.menu()
        menu.clear()
        if self._options:
            menu_heading(menu, "For this model")
            for path in self._options:
                menu.addAction(path.stem, lambda p=path: self.file_requested.emit(str(p)))
        menu.addSeparator()
        menu.addAction("Mean embedding (untrained)", lambda: self.file_requested.emit(""))
        menu.addAction("Open file…", self.choose_file)
        menu.addAction("From the Hugging Face hub…", self.ask_hub_name)


def _size(text: str) -> QLabel:
    size = label(text, "faint")
    size.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    size.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
    return size


def training_state(lookahead: LookaheadEmbeddings) -> tuple[str, str]:
    """The label of a file's training, and its tone."""
    if lookahead.trained:
        return "trained", "good"
    return ("untrained" if lookahead.base_fingerprint else "of unknown base"), "warn"


def lookahead_name(lookahead: LookaheadEmbeddings) -> str:
    """What a person calls it: the file's name, or the fallback's label."""
    origin = lookahead.origin
    return Path(origin).stem if origin.endswith(SUFFIXES) else origin or "embeddings"
