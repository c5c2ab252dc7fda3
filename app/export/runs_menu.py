"""The Export menu of several runs: all of them go into one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from PySide6.QtWidgets import QMenu, QWidget

from app.export.tables import runs_csv
from app.state.context import AppContext
from app.widgets.save_dialog import ask_save
from app.widgets.text_format import count_of
from pass_core.files import write_atomically
from pass_core.records.collection import save_records
from pass_core.records.runs import RunRecord

Load = Callable[[Callable[[Sequence[RunRecord]], None]], None]
KINDS = (
    ("JSON: all events of all runs…", ".json", "PASS runs (*.json)"),
    ("CSV: one line a run…", ".csv", "Table (*.csv)"),
)


def runs_menu(context: AppContext, parent: QWidget, load: Load) -> QMenu:
    """The menu; `load(then)` calls `then` with the runs to export, once they are loaded."""
    menu = QMenu("Export", parent)
    for title, suffix, filter_ in KINDS:
        menu.addAction(title, lambda s=suffix, f=filter_: load(lambda runs: _ask(context, parent, runs, s, f)))
    return menu


def write_runs(records: Sequence[RunRecord], path: Path) -> None:
    """Write several runs as `path`'s suffix says: .csv a table, else JSON.

    Raises:
        WriteError: with the reason.
    """
    if path.suffix == ".csv":
        write_atomically(path, runs_csv(records), private=True)
    else:
        save_records(records, path)


def _ask(context: AppContext, parent: QWidget, records: Sequence[RunRecord], suffix: str, filter_: str) -> None:
    folder = Path(context.preferences.get("export/folder", str(Path.home())))
    proposed = folder / f"pass-runs-{datetime.now():%Y%m%d-%H%M%S}{suffix}"

    def save(path: Path) -> None:
        context.preferences.set("export/folder", str(path.parent))
        try:
            write_runs(records, path)
        except OSError as error:
            context.report_error(str(error), error)
        else:
            context.notify(f"Exported {count_of(len(records), 'run')} to {path}.")

    ask_save(parent, "Export", proposed, filter_, save, suffix=suffix)
