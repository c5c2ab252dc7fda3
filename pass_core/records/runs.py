"""The run file: versioned JSON, documented in docs/schema.md, an exact round trip.

Every number survives unchanged (Python's shortest float form). Readers ignore keys that they do not know, so a later
writer may add some without a new version; a new version means that an old reader would misunderstand the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from pass_core.decoding.events import Candidate, DraftNode, StepEvent, TokenEvent
from pass_core.files import write_atomically
from pass_core.records.codec import LARGEST, Codec, JsonDict, finite
from pass_core.records.environment import describe_environment, describe_lookahead, new_record
from pass_core.records.errors import BrokenRecord, NewerSchema, NotARunFile, RecordError
from pass_core.records.standard_names import standard_figures
from pass_core.records.types import Environment, LookaheadInfo, ModelInfo, RunRecord, RunStatus
from pass_core.settings import (
    MAX_NEW_TOKENS,
    MAX_ROWS,
    Baseline,
    BaselineSettings,
    DecodingSettings,
    RunSettings,
    SamplingSettings,
    StopConditions,
)

__all__ = [
    "BrokenRecord",
    "Environment",
    "LookaheadInfo",
    "ModelInfo",
    "NewerSchema",
    "NotARunFile",
    "RecordError",
    "RunRecord",
    "RunStatus",
    "describe_environment",
    "describe_lookahead",
    "new_record",
]

RUN_FORMAT = "pass-run"
SCHEMA_VERSION = 1
LARGEST_FILE = 1_000_000_000  # bytes

_ANY_SEED = 10**39  # beyond 2^128; the engine takes seeds modulo 2^64
_CODEC = Codec(
    bounds={
        (DraftNode, "depth"): (1, MAX_ROWS),
        (TokenEvent, "draft_position"): (1, MAX_ROWS),
        (StopConditions, "max_new_tokens"): (1, MAX_NEW_TOKENS),
        (DecodingSettings, "row_budget"): (1, MAX_ROWS),
        (RunRecord, "seed"): (-_ANY_SEED, _ANY_SEED),
    },
    inline=frozenset({(DecodingSettings, "sampling"), (BaselineSettings, "sampling")}),
    unions={RunSettings: lambda raw: BaselineSettings if raw.get("strategy") in list(Baseline) else DecodingSettings},
    optional=frozenset({(StepEvent, "stop_overlap"), (RunRecord, "messages")}),
    left_out=frozenset({(SamplingSettings, "top_p"), (SamplingSettings, "min_p")}),
)


def settings_to_dict(settings: RunSettings) -> JsonDict:
    """Flat: temperature and top_k are beside the rest, and so are top_p and min_p where they are on."""
    return _CODEC.write(settings)


def settings_keys() -> list[str]:
    """Every key that the settings of a decoding may have."""
    return _CODEC.keys(DecodingSettings)


def settings_from_dict(raw: object, path: str = "settings") -> RunSettings:
    """Raises:
    BrokenRecord: naming the field, the value and the range.
    """
    return cast(RunSettings, _CODEC.read_either(RunSettings, raw, path))


def stop_to_dict(stop: StopConditions) -> JsonDict:
    """The three conditions by name."""
    return _CODEC.write(stop)


def stop_from_dict(raw: object, path: str = "stop") -> StopConditions:
    """Raises:
    BrokenRecord: naming the field, the value and the range.
    """
    return _CODEC.read(StopConditions, raw, path)


def candidate_to_dict(candidate: Candidate) -> JsonDict:
    """One likely token."""
    return _CODEC.write(candidate)


def token_to_dict(token: TokenEvent) -> JsonDict:
    """`bytes_hex` carries the exact bytes, two hex digits each."""
    return _CODEC.write(token)


def token_from_dict(raw: object, path: str = "token") -> TokenEvent:
    """Raises:
    BrokenRecord: naming the field.
    """
    return _CODEC.read(TokenEvent, raw, path)


def step_to_dict(step: StepEvent) -> JsonDict:
    """One step with its tokens and drafts."""
    return _CODEC.write(step)


def step_from_dict(raw: object, path: str = "step") -> StepEvent:
    """Raises:
    BrokenRecord: naming the field.
    """
    return _CODEC.read(StepEvent, raw, path)


def header_to_dict(record: RunRecord) -> JsonDict:
    """Everything of a run but its steps and summary."""
    fields = _CODEC.write(replace(record, steps=()))
    del fields["steps"]
    if not record.messages:
        del fields["messages"]  # only a chat of several messages has them
    return {"format": RUN_FORMAT, "schema_version": SCHEMA_VERSION} | fields


def header_from_dict(raw: object) -> RunRecord:
    """A run without its steps.

    Raises:
        RecordError: a subclass that names what is wrong.
    """
    return _CODEC.read(RunRecord, {**_checked(raw), "steps": []})


def record_to_dict(record: RunRecord) -> JsonDict:
    """The whole run; `text`, `summary` and `figures` are for other readers and are worked out anew on import."""
    return header_to_dict(record) | {
        "text": record.text,
        "summary": {k: finite(v) for k, v in record.summary.as_dict().items()},
        "figures": {
            program: {k: finite(v) for k, v in f.items()} for program, f in standard_figures(record.steps).items()
        },
        "steps": [step_to_dict(s) for s in record.steps],
    }


def record_from_dict(raw: object) -> RunRecord:
    """Raises:
    RecordError: a subclass that names what is wrong.
    """
    return _CODEC.read(RunRecord, _checked(raw))


def _checked(raw: object) -> dict[str, object]:
    """
    Raises:
        NotARunFile, NewerSchema, BrokenRecord: it is no run of a version that this program reads.
    """
    if not isinstance(raw, Mapping) or cast(Mapping[str, object], raw).get("format") != RUN_FORMAT:
        raise NotARunFile(
            f"This is not a run file: “format” is not “{RUN_FORMAT}”. Choose a file that was exported as JSON from "
            "the History page or by the generate command's --json."
        )
    fields = dict(cast(Mapping[str, object], raw))
    version = fields.get("schema_version")
    if type(version) is not int or not 1 <= version <= LARGEST:
        raise BrokenRecord(
            "The run file is broken: “schema_version” is missing or no whole number from 1. Export the run again."
        )
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"This run file has schema version {version}, and this program reads versions up to {SCHEMA_VERSION}. "
            "Update PASS Playground to open it."
        )
    return fields


def dumps_record(record: RunRecord) -> str:
    """JSON text of a run."""
    return json.dumps(record_to_dict(record), allow_nan=False)


def loads_record(text: str) -> RunRecord:
    """Raises:
    RecordError: a subclass that names what is wrong.
    """
    return record_from_dict(_parsed(text))


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotARunFile(f"This is not a run file, or it is cut short: it is no valid JSON ({error}).") from error


def save_record(record: RunRecord, path: str | Path) -> None:
    """Write a run file atomically, for the user's eyes only: it holds prompts.

    Raises:
        WriteError: with the reason.
    """
    write_atomically(path, dumps_record(record) + "\n", private=True)


def load_record(path: str | Path) -> RunRecord:
    """Read a run file.

    Raises:
        RecordError: a subclass that names what is wrong.
    """
    return record_from_dict(read_json(path))


def read_json(path: str | Path) -> object:
    """The JSON value of a file.

    Raises:
        NotARunFile: it cannot be read, is too large or no JSON.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise NotARunFile(f"{path.name} has {size / 1e9:.1f} GB; run files have at most 1 GB. Choose another file.")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotARunFile(f"{path.name} is not a run file: it is no UTF-8 text.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise NotARunFile(f"{path} cannot be read: {reason}. Choose another file.") from error
    return _parsed(text)
