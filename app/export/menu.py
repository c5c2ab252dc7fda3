"""The Export menu of a run: where each kind goes, and the dialogs that ask for the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QMenu, QWidget

from app.export.clipboard import copy_coloured, copy_plain
from app.export.command_line import command_of_record, command_of_setup
from app.export.page import run_page
from app.export.tables import steps_csv, tokens_csv
from app.state.context import AppContext
from pass_core.files import write_atomically
from pass_core.records.runs import RunRecord, dumps_record, save_record


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file: menu title, suffix, the dialog's filter, and what writes it."""

    title: str
    suffix: str
    filter: str
    render: Callable[[RunRecord], str]


KINDS = (
    Kind("JSON: all events…", ".json", "PASS run (*.json)", dumps_record),
    Kind("Web page: coloured text…", ".html", "Web page (*.html)", run_page),
    Kind("CSV: one line a token…", ".tokens.csv", "Table (*.csv)", tokens_csv),
    Kind("CSV: one line a step…", ".steps.csv", "Table (*.csv)", steps_csv),
)


def file_name(record: RunRecord, suffix: str) -> str:
    """A name made of the run's title or time, safe on every file system."""
    stem = record.title or f"pass-run-{record.created:%Y%m%d-%H%M%S}"
    return (re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "pass-run")[:80] + suffix


def write(record: RunRecord, kind: Kind, path: Path) -> None:
    """Write a run's file.

    Raises:
        WriteError: with the reason.
    """
    if kind.suffix == ".json":
        save_record(record, path)
    else:
        write_atomically(path, kind.render(record), private=True)


def export_menu(context: AppContext, parent: QWidget, record: Callable[[Callable[[RunRecord], None]], None]) -> QMenu:
    """The menu; `record(then)` calls `then` with the run to export, once it is loaded."""
    menu = QMenu("Export", parent)
    for kind in KINDS:
        menu.addAction(kind.title, lambda k=kind: record(lambda r: _ask_and_write(context, parent, k, r)))
    menu.addSeparator()
    menu.addAction("Copy text", lambda: record(lambda r: _copy(context, r, coloured=False)))
    menu.addAction("Copy coloured text", lambda: record(lambda r: _copy(context, r, coloured=True)))
    menu.addAction("Copy as command line", lambda: record(lambda r: copy_command(context, command_of_record(r))))
    return menu


def copy_present_command(context: AppContext) -> None:
    """Put the command that does what Run would do now into the clipboard."""
    if context.model is None:
        context.report_error("No model is loaded, so there is no command to copy. Load one first.")
    else:
        copy_command(context, command_of_setup(context.setup.value, context.model, context.lookahead))


def copy_command(context: AppContext, command: str) -> None:
    """Put a command into the clipboard, and say so."""
    QGuiApplication.clipboard().setText(command)
    context.notify("The command line is in the clipboard.")


def _copy(context: AppContext, record: RunRecord, *, coloured: bool) -> None:
    (copy_coloured if coloured else copy_plain)(record.steps)
    context.notify("The text is in the clipboard" + (", in colour." if coloured else "."))


def _ask_and_write(context: AppContext, parent: QWidget, kind: Kind, record: RunRecord) -> None:
    folder = Path(context.preferences.get("export/folder", str(Path.home())))
    dialog = QFileDialog(parent, "Export", str(folder / file_name(record, kind.suffix)), kind.filter)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(kind.suffix.rsplit(".", 1)[-1])

    def chosen(name: str) -> None:
        path = Path(name)
        context.preferences.set("export/folder", str(path.parent))
        try:
            write(record, kind, path)
        except OSError as error:
            context.report_error(str(error), error)
        else:
            context.notify(f"Exported to {path}.")

    dialog.fileSelected.connect(chosen)
    dialog.finished.connect(dialog.deleteLater)
    dialog.open()
