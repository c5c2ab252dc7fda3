"""The dialog that asks where to write a file; the window goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QWidget


def ask_save(
    parent: QWidget | None, title: str, proposed: Path, filter: str, save: Callable[[Path], object], *, suffix: str = ""
) -> QFileDialog:
    """Open the dialog.

    Args:
        proposed: the folder and name that it begins with.
        filter: kinds of files, as Qt has them ("Log (*.log *.txt)").
        save: gets the chosen path; nothing happens where the user cancels.
        suffix: what a name without one gets, such as ".json"; "" leaves names as they are.
    """
    dialog = QFileDialog(parent, title, str(proposed), filter)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(suffix.removeprefix("."))
    dialog.fileSelected.connect(lambda name: save(Path(name)))
    dialog.finished.connect(dialog.deleteLater)
    dialog.open()
    return dialog
