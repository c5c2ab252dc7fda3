"""Several runs in one file: the runs' own JSON, one after the other in a list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pass_core.files import write_atomically
from pass_core.records.codec import JsonDict
from pass_core.records.errors import BrokenRecord, NewerSchema
from pass_core.records.runs import SCHEMA_VERSION, read_json, record_from_dict, record_to_dict
from pass_core.records.types import RunRecord

RUNS_FORMAT = "pass-runs"


def dumps_records(records: Sequence[RunRecord]) -> str:
    """JSON text of several runs."""
    whole: JsonDict = {
        "format": RUNS_FORMAT,
        "schema_version": SCHEMA_VERSION,
        "runs": [record_to_dict(r) for r in records],
    }
    return json.dumps(whole, allow_nan=False)


def save_records(records: Sequence[RunRecord], path: str | Path) -> None:
    """Write several runs into one file, atomically and for the user's eyes only.

    Raises:
        WriteError: with the reason.
    """
    write_atomically(path, dumps_records(records) + "\n", private=True)


def load_records(path: str | Path) -> list[RunRecord]:
    """Read a file of one run or of several.

    Raises:
        RecordError: a subclass that names what is wrong.
    """
    raw = read_json(path)
    if not isinstance(raw, Mapping) or cast(Mapping[str, object], raw).get("format") != RUNS_FORMAT:
        return [record_from_dict(raw)]
    fields = cast(Mapping[str, object], raw)
    version, runs = fields.get("schema_version"), fields.get("runs")
    if type(version) is int and version > SCHEMA_VERSION:
        raise NewerSchema(
            f"This file of runs has schema version {version}, and this program reads versions up to {SCHEMA_VERSION}. "
            "Update PASS Playground to open it."
        )
    if type(version) is not int or version < 1 or not isinstance(runs, list):
        raise BrokenRecord("The file of runs is broken: “runs” is missing or no list. Export the runs again.")
    return [record_from_dict(run) for run in cast(list[object], runs)]
