"""The folders of the program, one line each: shown, opened, and changed where they can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog, QGridLayout, QPushButton, QWidget

from app.state.folders import PLACES, Place, default_folder, folder_of, is_chosen
from app.state.preferences import Preferences
from app.widgets.basic import ElidedLabel, label


class FolderRows(QWidget):
    """Shows every place.

    Args:
        choose: puts a place elsewhere; None is its default folder.

    Attributes:
        paths, open_buttons: for every place; change_buttons, default_buttons: for those that can be chosen.

    Signals:
        chosen(): somebody chose a folder.
    """

    chosen = Signal()

    def __init__(self, preferences: Preferences, choose: Callable[[Place, Path | None], None]) -> None:
        super().__init__()
        self._preferences, self._choose = preferences, choose
        self.paths: dict[Place, ElidedLabel] = {}
        self.open_buttons: dict[Place, QPushButton] = {}
        self.change_buttons: dict[Place, QPushButton] = {}
        self.default_buttons: dict[Place, QPushButton] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(1, 1)
        for number, (place, info) in enumerate(PLACES.items()):
            title = label(info.title)
            title.setToolTip(info.tip)
            grid.addWidget(title, number, 0)
            path = self.paths[place] = ElidedLabel("", "hint", Qt.TextElideMode.ElideMiddle)
            grid.addWidget(path, number, 1)
            self.open_buttons[place] = self._button(grid, number, 2, "Open", self._opener(place))
            self.open_buttons[place].setAccessibleName(f"Open {info.title}")
            if info.chosen_here:
                change = self._button(grid, number, 3, "Change…", lambda p=place: self._ask(p))
                change.setAccessibleName(f"Change {info.title}")
                default = self._button(grid, number, 4, "Default", lambda p=place: self._take(p, None))
                default.setAccessibleName(f"Default folder of {info.title}")
                self.change_buttons[place], self.default_buttons[place] = change, default
            elif info.variable:
                grid.addWidget(label(info.variable, "faint"), number, 3, 1, 2)
                title.setToolTip(f"{info.tip} Set {info.variable} to put it elsewhere.")
        self.refresh()

    def refresh(self) -> None:
        """Show the folders as they are chosen now."""
        for place, shown in self.paths.items():
            folder = folder_of(place, self._preferences)
            shown.set_full_text(str(folder))
            there = folder.is_dir()
            self.open_buttons[place].setEnabled(there)
            self.open_buttons[place].setToolTip("" if there else "Nothing was written there yet")
            if place in self.default_buttons:
                self.default_buttons[place].setEnabled(is_chosen(place, self._preferences))
                self.default_buttons[place].setToolTip(str(default_folder(place)))

    def take(self, place: Place, folder: Path | None) -> None:
        """Put a place into a folder; None is the default one."""
        self._take(place, folder)

    def _take(self, place: Place, folder: Path | None) -> None:
        self._choose(place, folder)
        self.refresh()
        self.chosen.emit()

    def _ask(self, place: Place) -> None:
        dialog = QFileDialog(self, PLACES[place].title, str(folder_of(place, self._preferences)))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(lambda name: self._take(place, Path(name)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _opener(self, place: Place) -> Callable[[], None]:
        def show() -> None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder_of(place, self._preferences))))

        return show

    def _button(self, grid: QGridLayout, line: int, column: int, text: str, work: Callable[[], None]) -> QPushButton:
        button = QPushButton(text)
        button.setProperty("role", "quiet")
        button.setAutoDefault(False)
        button.clicked.connect(work)
        grid.addWidget(button, line, column)
        return button
