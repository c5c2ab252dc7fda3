"""One model of the Models page."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QPushButton, QVBoxLayout, QWidget

from app.theme.apply import ThemeManager
from app.theme.icons import set_icon
from app.theme.scale import sized
from app.widgets.basic import label, row, set_tone, tool_button
from app.widgets.text_format import bytes_text, count_of, count_text
from pass_core.models.inventory import Kind, ModelEntry


class ModelRow(QFrame):
    """What is known of a model, and what can be done with it.

    Attributes:
        load, get, remove: its buttons; `load` and `remove` for one that is here, `get` for one that is not.

    Signals:
        load_clicked(str), get_clicked(str): with the source. remove_clicked(ModelEntry).
    """

    load_clicked = Signal(str)
    get_clicked = Signal(str)
    remove_clicked = Signal(object)

    def __init__(self, entry: ModelEntry, theme: ThemeManager, *, lookahead: int = 0, free: int | None = None) -> None:
        """Args:
        lookahead: look-ahead files for it.
        free: bytes of memory that a model may take.
        """
        super().__init__()
        self.entry = entry
        self.setProperty("role", "well")
        sized(self, min_height=56)  # until the page has made room for it, too
        self.name = label(entry.name, "heading")
        self.chip = label("loaded", "chip")
        set_tone(self.chip, "good")
        self.chip.hide()
        self.facts = label(" · ".join(facts_of(entry, lookahead, free)), "hint", wrap=True)
        self.note = label(entry.note, "faint", wrap=True)
        if not entry.note:
            self.note.hide()
        here = entry.folder is not None
        self.load = QPushButton("Load")
        self.get = QPushButton("Download" if not here else "Load")
        set_icon(self.get, "ph.download-simple", theme)
        self.remove = tool_button("ph.trash", f"Delete {entry.name} from this machine", theme)
        for widget in (self.get,) if here else (self.load, self.remove):
            widget.hide()
        self.setToolTip(str(entry.folder) if here else entry.source)
        text = QVBoxLayout()
        text.setSpacing(2)
        text.addLayout(row(self.name, self.chip, 1))
        text.addWidget(self.facts)
        text.addWidget(self.note)
        holder = QWidget()
        holder.setLayout(text)
        text.setContentsMargins(0, 0, 0, 0)
        layout = row(holder, self.load, self.get, self.remove)
        layout.setStretch(0, 1)
        layout.setContentsMargins(12, 8, 8, 8)
        self.setLayout(layout)
        self.load.clicked.connect(lambda: self.load_clicked.emit(entry.source))
        self.get.clicked.connect(lambda: self.get_clicked.emit(entry.source))
        self.remove.clicked.connect(lambda: self.remove_clicked.emit(entry))

    def show_loaded(self, loaded: bool) -> None:
        """Whether it is the loaded model."""
        self.chip.setVisible(loaded)
        self.load.setEnabled(not loaded)
        self.remove.setEnabled(not loaded)

    def set_downloads_free(self, free: bool) -> None:
        """Whether another download may begin."""
        self.get.setEnabled(free)


def facts_of(entry: ModelEntry, lookahead: int, free: int | None) -> list[str]:
    """Size, whether it fits, licence, look-ahead files."""
    facts: list[str] = []
    if entry.parameters:
        facts.append(f"{count_text(entry.parameters)} parameters")
    if entry.folder is not None:
        facts.append(f"{bytes_text(entry.disk_bytes)} on the disk")
    elif entry.download_bytes:
        facts.append(f"{bytes_text(entry.download_bytes)} to download")
    need = entry.weight_bytes or entry.download_bytes or 0
    if free is not None and need:
        fits = f"needs {bytes_text(need)} of memory, {bytes_text(free)} are free"
        facts.append("fits into memory" if need < free else fits)
    facts.append(entry.license or ("licence: see its own page" if entry.kind is Kind.HUB else "licence unknown"))
    if entry.gated:
        facts.append("asks for a login on the hub")
    if lookahead:
        facts.append(count_of(lookahead, "look-ahead file"))
    return facts
