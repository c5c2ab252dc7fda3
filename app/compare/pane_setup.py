"""How one pane decodes: strategy, k, rule, look-ahead file, parts switched off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QCheckBox, QComboBox, QFileDialog, QMenu, QSpinBox, QToolButton, QVBoxLayout, QWidget

from app.state.setup import usual_k
from app.theme.apply import ThemeManager
from app.theme.scale import sized
from app.widgets.basic import guard_wheel, label, row
from app.widgets.choice import Choice
from pass_core.settings import (
    FALLBACK_LOOKAHEAD,
    Baseline,
    BaselineSettings,
    DecodingSettings,
    LookaheadPart,
    Method,
    RunSettings,
    Strategy,
    Verification,
    method_named,
)
from pass_core.strategy_names import TITLES, strategy_text

LOADED, UNTRAINED, CHOOSE = "loaded", "untrained", "choose"
FILTER = "Look-ahead embeddings (*.safetensors *.pt *.pth *.npy *.npz)"
MAX_K = 64


@dataclass(frozen=True, slots=True)
class PaneWish:
    """What a pane is set to.

    Attributes:
        settings: sampling is not meant: the comparison has its own.
        lookahead: "loaded" (the Generate page's), "untrained" (the mean embedding), or a file's path.
        usual_k: whether k is the usual one of the loaded file instead of the settings'.
    """

    settings: RunSettings
    lookahead: str = LOADED
    usual_k: bool = field(default=False, compare=False)


class PaneSetup(QWidget):
    """Two rows of choices.

    Signals:
        changed(): any of them.
    """

    changed = Signal()

    def __init__(self, name: str, wish: PaneWish, theme: ThemeManager, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = name
        self._usual_k = usual_k(FALLBACK_LOOKAHEAD)
        self._files: list[Path] = []
        self.strategy = Choice(theme)
        for method in (*Strategy, *Baseline):
            self.strategy.addItem(TITLES[method], method.value)
        self.strategy.setAccessibleName(f"Strategy of pane {name}")
        self.k = QSpinBox()
        self.k.setRange(0, MAX_K)
        self.k.setPrefix("k ")
        sized(self.k, width=60)
        self.k.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.k.setAccessibleName(f"Draft length of pane {name}")
        self.strategy.setItemData(
            self.strategy.findData(Baseline.TRANSFORMERS.value),
            "transformers' own generate with its prompt lookup: k tokens are copied from earlier text at a time.\n"
            "Its random numbers are its own, so only temperature 0 gives the same text.",
            Qt.ItemDataRole.ToolTipRole,
        )
        self.auto = QCheckBox("auto")
        self.auto.setToolTip("Fused: choose the tree from the measured cost of a call")
        self.verification = Choice(theme)
        for rule in Verification:
            self.verification.addItem(rule.value.capitalize(), rule.value)
        self.verification.setAccessibleName(f"Verification of pane {name}")
        self.lookahead = Choice(theme)
        self.lookahead.setAccessibleName(f"Look-ahead embeddings of pane {name}")
        self.lookahead.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.lookahead.setMinimumContentsLength(16)
        self.options = QToolButton()
        self.options.setText("Options")
        self.options.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.options)
        self.lookup = QAction("Prompt lookup as a second source", menu, checkable=True)
        menu.addAction(self.lookup)
        menu.addSeparator()
        self.parts: dict[LookaheadPart, QAction] = {}
        for part in LookaheadPart:
            action = QAction(f"Without {part.value}", menu, checkable=True)
            menu.addAction(action)
            self.parts[part] = action
        self.options.setMenu(menu)
        guard_wheel(self.k)
        self._fill_files()
        first = row(label(name, "heading"), self.strategy, self.k, self.auto, spacing=6)
        first.setStretch(1, 1)
        second = row(self.lookahead, self.verification, self.options, spacing=6)
        second.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(first)
        layout.addLayout(second)
        self.set_wish(wish)
        for box in (self.strategy, self.verification):
            box.currentIndexChanged.connect(self._changed)
        self.lookahead.activated.connect(self._chosen)
        self.k.valueChanged.connect(self._changed)
        for check in (self.auto, self.lookup, *self.parts.values()):
            check.toggled.connect(self._changed)

    def wish(self) -> PaneWish:
        """The present choices."""
        return PaneWish(self._settings(), str(self.lookahead.currentData()))

    def _settings(self) -> RunSettings:
        method, k = self._method(), self.k.value()
        if isinstance(method, Baseline):
            return BaselineSettings(method, k)
        return DecodingSettings(
            strategy=method,
            k=k,
            verification=Verification(self.verification.currentData()),
            auto=self.auto.isChecked(),
            prompt_lookup=self.lookup.isChecked() and method is Strategy.FUSED,
            disabled_parts=frozenset(p for p, a in self.parts.items() if a.isChecked()),
        )

    def _method(self) -> Method:
        return method_named(str(self.strategy.currentData()))

    def set_wish(self, wish: PaneWish) -> None:
        """Take choices without a signal."""
        s = wish.settings
        widgets = (self.strategy, self.verification, self.k, self.auto, self.lookup, *self.parts.values())
        for widget in widgets:
            widget.blockSignals(True)
        self.strategy.setCurrentIndex(self.strategy.findData(s.strategy.value))
        self.verification.setCurrentIndex(self.verification.findData(s.verification.value))
        self.k.setValue(self._usual_k if wish.usual_k else s.k)
        self.auto.setChecked(s.auto)
        self.lookup.setChecked(s.prompt_lookup)
        for part, action in self.parts.items():
            action.setChecked(part in s.disabled_parts)
        for widget in widgets:
            widget.blockSignals(False)
        if wish.lookahead not in (LOADED, UNTRAINED) and self.lookahead.findData(wish.lookahead) < 0:
            self._files.append(Path(wish.lookahead))
            self._fill_files()
        self.lookahead.setCurrentIndex(max(0, self.lookahead.findData(wish.lookahead)))
        self._enable()

    def set_files(self, files: Sequence[Path]) -> None:
        """The shipped files that fit the model; a chosen one that is not among them stays."""
        chosen = str(self.lookahead.currentData())
        self._files = list(files)
        if chosen not in (LOADED, UNTRAINED) and Path(chosen) not in self._files:
            self._files.append(Path(chosen))
        self._fill_files()
        self.lookahead.setCurrentIndex(max(0, self.lookahead.findData(chosen)))

    def set_lookahead_count(self, count: int) -> None:
        """L of the loaded file: a k that nobody has chosen becomes the file's usual one."""
        untouched = self.k.value() == self._usual_k
        self._usual_k = usual_k(count)
        if untouched:
            self.set_wish(replace(self.wish(), usual_k=True))

    def set_loaded_name(self, name: str) -> None:
        """What the Generate page has loaded."""
        self.lookahead.setItemText(0, f"Loaded: {name}" if name else "Loaded embeddings")

    def title(self) -> str:
        """A short name for legends: "PASS fused, k 5, coupled"."""
        wish = self.wish()
        s = wish.settings
        if not s.strategy.uses_lookahead:
            return f"{self.name}: {strategy_text(s.strategy, s.k)}"
        parts = [f"{TITLES[s.strategy]} k {s.k}"]
        if s.verification is Verification.REJECTION:
            parts.append("rejection")
        if wish.lookahead != LOADED:
            parts.append("untrained" if wish.lookahead == UNTRAINED else Path(wish.lookahead).stem)
        if s.disabled_parts:
            parts.append("without " + ", ".join(sorted(p.value for p in s.disabled_parts)))
        if s.prompt_lookup:
            parts.append("lookup")
        return f"{self.name}: {', '.join(parts)}"

    def _fill_files(self) -> None:
        text = self.lookahead.itemText(0) or "Loaded embeddings"
        self.lookahead.clear()
        self.lookahead.addItem(text, LOADED)
        self.lookahead.addItem("Mean embedding (untrained)", UNTRAINED)
        for path in self._files:
            self.lookahead.addItem(path.stem, str(path))
        self.lookahead.addItem("Choose a file…", CHOOSE)

    def _chosen(self, index: int) -> None:
        if self.lookahead.itemData(index) != CHOOSE:
            self._changed()
            return
        self.lookahead.setCurrentIndex(0)
        dialog = QFileDialog(self, "Look-ahead embeddings", "", FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(self._take_file)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _take_file(self, name: str) -> None:
        self.set_wish(replace(self.wish(), lookahead=name))
        self._changed()

    def _changed(self, *_: object) -> None:
        self._enable()
        self.changed.emit()

    def _enable(self) -> None:
        strategy = self._method()
        self.k.setEnabled(strategy is not Strategy.AUTOREGRESSIVE)
        for widget in (self.verification, self.lookahead, self.options):
            widget.setEnabled(strategy.uses_lookahead)
        self.auto.setEnabled(strategy is Strategy.FUSED)
        self.lookup.setEnabled(strategy is Strategy.FUSED)
