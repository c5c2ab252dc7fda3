"""Runs survive JSON unchanged, and broken files are refused with the field's name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from pass_core.decoding.events import Provenance, TokenEvent
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.records import runs as records
from pass_core.settings import DecodingSettings
from tests.core.records import strategies


@given(strategies.records)
@hypothesis_settings(deadline=None, max_examples=50)
def test_a_run_survives_json_exactly(record: records.RunRecord) -> None:
    assert records.loads_record(records.dumps_record(record)) == record


@given(strategies.settings)
def test_settings_survive_json_exactly(settings: DecodingSettings) -> None:
    assert records.settings_from_dict(json.loads(json.dumps(records.settings_to_dict(settings)))) == settings


def test_not_a_number_survives_as_text() -> None:
    token = TokenEvent(0, 1, b"a", "a", Provenance.MODEL, None, p_target=float("nan"))
    raw = json.loads(json.dumps(records.token_to_dict(token), allow_nan=False))
    assert raw["p_target"] == "nan"
    assert str(records.token_from_dict(raw).p_target) == "nan"


def test_a_token_carries_the_promised_fields() -> None:
    token = TokenEvent(3, 7, "é".encode()[:1], "", Provenance.ACCEPTED, 2, 0.5, 0.25)
    raw = records.token_to_dict(token)
    assert raw["bytes_hex"] == "c3"
    assert {k: raw[k] for k in ("id", "text", "provenance", "draft_position", "p_target", "p_draft")} == {
        "id": 7,
        "text": "",
        "provenance": "accepted",
        "draft_position": 2,
        "p_target": 0.5,
        "p_draft": 0.25,
    }


@pytest.fixture
def raw() -> dict[str, object]:
    record = strategies.example_record()
    return json.loads(records.dumps_record(record))


def test_unknown_fields_are_ignored(raw: dict[str, object]) -> None:
    raw["added_later"] = {"a": 1}
    assert records.record_from_dict(raw) == strategies.example_record()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("steps", 0, "tokens", 1, "provenance"), "guessed", "steps[0].tokens[1].provenance"),
        (("steps", 0, "tokens", 0, "id"), "12", "steps[0].tokens[0].id"),
        (("steps", 0, "tokens", 0, "id"), True, "steps[0].tokens[0].id"),
        (("steps", 0, "tokens", 0, "bytes_hex"), "zz", "steps[0].tokens[0].bytes_hex"),
        (("steps", 0, "seconds"), None, "steps[0].seconds"),
        (("steps", 0, "drafts", 0, "depth"), 0, "steps[0].drafts[0].depth"),
        (("steps", 0, "settings", "temperature"), 3, "temperature must be between 0 and 2"),
        (("settings", "disabled_parts"), ["all"], "settings.disabled_parts"),
        (("stop", "max_new_tokens"), 0, "stop.max_new_tokens"),
        (("steps",), {}, "steps"),
        (("created",), "yesterday", "created"),
    ],
)
def test_a_broken_field_is_named(
    raw: dict[str, object], path: tuple[str | int, ...], value: object, named: str
) -> None:
    at: object = raw
    for key in path[:-1]:
        at = at[key]  # type: ignore[index]
    at[path[-1]] = value  # type: ignore[index]
    with pytest.raises(records.BrokenRecord) as caught:
        records.record_from_dict(raw)
    assert named in str(caught.value)


@pytest.mark.parametrize("field", [f for f in strategies.example_header() if f not in ("format", "schema_version")])
def test_a_missing_field_is_named(raw: dict[str, object], field: str) -> None:
    del raw[field]
    if field in ("typed", "lookahead"):  # may be left out
        records.record_from_dict(raw)
        return
    with pytest.raises(records.BrokenRecord, match=f"“{field}” is missing"):
        records.record_from_dict(raw)


def test_a_newer_file_says_so(raw: dict[str, object]) -> None:
    raw["schema_version"] = records.SCHEMA_VERSION + 1
    with pytest.raises(records.NewerSchema, match="Update PASS Playground"):
        records.record_from_dict(raw)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    for content in (
        b"[1, 2]",
        b'{"format": "other"}',
        b'{"format": "pass-run", "steps": [',
        b"\xff\xfe",
        b"[" * 100_000,
    ):
        file.write_bytes(content)
        with pytest.raises(records.NotARunFile):
            records.load_record(file)
    with pytest.raises(records.NotARunFile, match="cannot be read"):
        records.load_record(tmp_path / "absent.json")


def test_saving_replaces_the_file_whole(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text("old")
    record = strategies.example_record()
    records.save_record(record, file)
    assert records.load_record(file) == record
    assert list(tmp_path.iterdir()) == [file]


def test_text_and_summary_come_from_the_steps(raw: dict[str, object]) -> None:
    raw["text"] = "something else"
    record = records.record_from_dict(raw)
    assert record.text == strategies.example_record().text
    assert record.summary.new_tokens == sum(len(s.tokens) for s in record.steps)


def test_the_text_ends_before_the_stop_string() -> None:
    record = strategies.example_record()
    last = dataclasses.replace(record.steps[-1], stop_overlap=3)
    assert record.text == " café is open."
    assert dataclasses.replace(record, steps=(*record.steps[:-1], last)).text == " café is op"


def test_the_lookahead_hash_depends_on_values_alone() -> None:
    values = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    a = records.describe_lookahead(LookaheadEmbeddings(values, origin="a"))
    b = records.describe_lookahead(LookaheadEmbeddings(values.bfloat16(), origin="b"))
    c = records.describe_lookahead(LookaheadEmbeddings(values + 1, origin="a"))
    assert (a.hash, a.count) == (b.hash, 3)
    assert a.hash != c.hash
    assert dataclasses.replace(a, origin="b") == b
