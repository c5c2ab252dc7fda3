"""Several runs in one file: exactly as each alone, and a file of one run is read, too."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pass_core.records.collection import dumps_records, load_records, save_records
from pass_core.records.runs import BrokenRecord, NewerSchema, NotARunFile, save_record
from tests.core.records import strategies


def test_runs_come_back_exactly(tmp_path: Path) -> None:
    runs = [replace(strategies.example_record(), id=f"{n:032x}", title=f"run {n}") for n in range(3)]
    path = tmp_path / "runs.json"
    save_records(runs, path)
    assert load_records(path) == runs
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    save_record(runs[1], path)
    assert load_records(path) == [runs[1]]
    save_records([], path)
    assert load_records(path) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"schema_version": 2}, NewerSchema),
        ({"schema_version": "1"}, BrokenRecord),
        ({"runs": {}}, BrokenRecord),
        ({"runs": [{"format": "pass-run"}]}, BrokenRecord),
        ({"runs": ["no run"]}, NotARunFile),
        ({"format": "something"}, NotARunFile),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: dict[str, object], error: type[Exception]) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(json.loads(dumps_records([strategies.example_record()])) | change))
    with pytest.raises(error):
        load_records(path)
