"""Asking where to write: the chosen path arrives with its suffix, and a cancelled dialog writes nothing."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QWidget
from pytestqt.qtbot import QtBot
from shiboken6 import isValid

from app.widgets.save_dialog import ask_save


def test_the_chosen_path_arrives_and_the_dialog_goes(qtbot: QtBot, tmp_path: Path) -> None:
    parent, written = QWidget(), list[Path]()
    qtbot.addWidget(parent)
    dialog = ask_save(parent, "Export", tmp_path / "a.json", "*.json", written.append, suffix=".json")
    assert dialog.acceptMode() is QFileDialog.AcceptMode.AcceptSave
    dialog.setOption(QFileDialog.Option.DontUseNativeDialog)
    dialog.selectFile("b")
    dialog.accept()
    qtbot.waitUntil(lambda: not isValid(dialog))
    assert written == [tmp_path / "b.json"]


def test_cancelling_writes_nothing(qtbot: QtBot, tmp_path: Path) -> None:
    parent, written = QWidget(), list[Path]()
    qtbot.addWidget(parent)
    dialog = ask_save(parent, "Save the log", tmp_path / "a.log", "Log (*.log)", written.append)
    dialog.reject()
    qtbot.waitUntil(lambda: not isValid(dialog))
    assert written == []
