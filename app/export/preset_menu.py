"""The Presets menu: keep the present settings under a name, take them back, pass them on as a file."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QInputDialog, QMenu, QWidget

from app.export.presets import SUFFIX, Preset, PresetError, PresetFolder, load_preset, save_preset
from app.state.context import AppContext
from app.state.setup import setup_from
from app.widgets.save_dialog import ask_save

FILTER = f"PASS preset (*{SUFFIX} *.json)"


class PresetMenu(QMenu):
    """Filled anew whenever it opens, as files may have been put into the folder by hand."""

    def __init__(self, context: AppContext, folder: PresetFolder, parent: QWidget | None = None) -> None:
        super().__init__("Presets", parent)
        self._context, self._folder = context, folder
        self.aboutToShow.connect(self.fill)

    def fill(self) -> None:
        """List the presets."""
        self.clear()
        presets, problems = self._folder.presets()
        for preset in presets:
            self.addAction(preset.name, lambda p=preset: self.apply(p))
        if not presets:
            self.addAction("No presets yet").setEnabled(False)
        self.addSeparator()
        self.addAction("Save the present settings…", self._ask_name)
        self.addAction("Open a preset file…", self._ask_open)
        self.addAction("Write the present settings to a file…", self._ask_write)
        if presets:
            delete = self.addMenu("Delete")
            for preset in presets:
                delete.addAction(preset.name, lambda name=preset.name: self._folder.delete(name))
        if problems:
            self._context.report_error("A preset cannot be used. " + " ".join(problems))

    def apply(self, preset: Preset) -> None:
        """Take a preset's settings; the prompt stays."""
        setup = self._context.setup.value
        seed = setup.seed if preset.seed is None else preset.seed
        self._context.apply_setup(setup_from(setup.prompt_text, setup.chat, seed, preset.settings, preset.stop))

    def save(self, name: str) -> None:
        """Keep the present settings under a name."""
        if not name.strip():
            return
        try:
            self._folder.save(self._present(name.strip()))
        except OSError as error:
            self._context.report_error(f"The preset could not be kept in {self._folder.folder} ({error}).", error)
        else:
            self._context.notify(f"The preset “{name.strip()}” is kept.")

    def open_file(self, path: Path) -> None:
        """Take a preset from a file, and keep it."""
        try:
            preset = load_preset(path)
        except PresetError as error:
            self._context.report_error(str(error), error)
            return
        self.apply(preset)
        try:
            self._folder.save(preset)
        except OSError as error:
            self._context.report_error(f"The preset is in use, but could not be kept ({error}).", error)

    def write_file(self, path: Path) -> None:
        """Write the present settings to a file that can be passed on."""
        name = path.name.removesuffix(SUFFIX).removesuffix(".json")
        try:
            save_preset(self._present(name), path)
        except OSError as error:
            self._context.report_error(f"{path} could not be written ({error.strerror or error}).", error)
        else:
            self._context.notify(f"Written to {path}.")

    def _present(self, name: str) -> Preset:
        setup = self._context.setup.value
        return Preset(name, setup.settings, setup.stop)

    def _ask_name(self) -> None:
        dialog = QInputDialog(self.parentWidget())
        dialog.setWindowTitle("Save preset")
        dialog.setLabelText("Name of the preset:")
        dialog.textValueSelected.connect(self.save)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _ask_open(self) -> None:
        dialog = QFileDialog(self.parentWidget(), "Open a preset", str(Path.home()), FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(lambda name: self.open_file(Path(name)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _ask_write(self) -> None:
        ask_save(self.parentWidget(), "Write a preset", Path.home() / f"settings{SUFFIX}", FILTER, self.write_file)
