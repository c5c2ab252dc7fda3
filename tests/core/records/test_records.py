"""Runs survive JSON unchanged, and broken files are refused with the field's name."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from pass_core.decoding.events import Provenance, StopReason, TokenEvent
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.records import runs as records
from pass_core.settings import (
    Baseline,
    BaselineSettings,
    DecodingSettings,
    LookaheadPart,
    RunSettings,
    SamplingSettings,
    StopConditions,
    Strategy,
    Verification,
)
from tests.core.records import strategies


@given(strategies.records)
@hypothesis_settings(deadline=None, max_examples=50)
def test_a_run_survives_json_exactly(record: records.RunRecord) -> None:
    assert records.loads_record(records.dumps_record(record)) == record


@given(strategies.settings)
def test_settings_survive_json_exactly(settings: RunSettings) -> None:
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


HUGE = 2**70


@pytest.mark.parametrize(
    "path",
    [
        ("steps", 0, "index"),
        ("steps", 0, "calls"),
        ("steps", 0, "rows", 0),
        ("steps", 0, "context_length"),
        ("steps", 0, "prefill", "prompt_tokens"),
        ("steps", 0, "tokens", 0, "id"),
        ("steps", 0, "tokens", 1, "draft_position"),
        ("steps", 0, "drafts", 0, "depth"),
        ("steps", 0, "drafts", 0, "index"),
        ("steps", 0, "settings", "k"),
        ("steps", 2, "stop_overlap"),
        ("stop", "max_new_tokens"),
        ("lookahead", "count"),
        ("environment", "threads"),
        ("schema_version",),
    ],
)
@pytest.mark.parametrize("value", [HUGE, -1, 10**4000, 1.0, "1", [1]])
def test_no_number_is_without_bounds(raw: dict[str, object], path: tuple[str | int, ...], value: object) -> None:
    at: Any = raw
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(records.RecordError) as caught:
        records.record_from_dict(raw)
    assert str(path[-1]) in str(caught.value)
    assert len(str(caught.value)) < 300


def test_depths_are_small_enough_to_count_through(raw: Any) -> None:
    for depth, fits in ((256, True), (257, False), (2**31, False)):
        raw["steps"][0]["drafts"][0]["depth"] = depth
        if fits:
            assert len(records.record_from_dict(raw).summary.accepted_by_position) == depth
        else:
            with pytest.raises(records.BrokenRecord, match=r"steps\[0\].drafts\[0\].depth"):
                records.record_from_dict(raw)


@pytest.mark.parametrize("value", [10**400, "NaN", None, True, [0.5]])
def test_a_number_that_no_double_can_be_is_refused(raw: Any, value: object) -> None:
    raw["steps"][0]["tokens"][0]["p_target"] = value
    with pytest.raises(records.BrokenRecord, match="p_target"):
        records.record_from_dict(raw)


def test_lone_surrogates_become_the_replacement_character_and_pairs_their_character(raw: Any) -> None:
    raw["prompt"], raw["title"], raw["steps"][0]["tokens"][0]["text"] = "a\ud800b", "\ud83d\ude00", "\udfff"
    record = records.record_from_dict(raw)
    assert (record.prompt, record.title, record.steps[0].tokens[0].text) == ("a\ufffdb", "😀", "\ufffd")
    json.dumps(records.record_to_dict(record), ensure_ascii=False).encode()


def test_a_run_file_is_for_the_user_alone(tmp_path: Path) -> None:
    records.save_record(strategies.example_record(), tmp_path / "run.json")
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600


FIXTURES = Path(__file__).parents[2] / "fixtures"


def test_a_run_file_of_before_still_reads() -> None:
    """Written by the code of November 2026, before the codec."""
    record = records.load_record(FIXTURES / "run-of-2026-11.json")
    expected = strategies.example_record()
    assert (record.title, record.typed, record.seed, record.group) == ("from before", "Wo ist das Café?", -5, "g1")
    assert record.stop == StopConditions(64, ("\n\n", "END"), True)
    assert record.status is records.RunStatus.INTERRUPTED
    odd = record.steps[0].settings
    assert odd == DecodingSettings(
        strategy=Strategy.TWO_CALL,
        k=3,
        sampling=SamplingSettings(0.0, 0),
        verification=Verification.REJECTION,
        auto=False,
        row_budget=17,
        prompt_lookup=True,
        disabled_parts=frozenset(LookaheadPart) - {LookaheadPart.STATE},  # which came later
    )
    assert record.steps[0].seconds == math.inf
    assert dataclasses.replace(record.steps[0], settings=expected.steps[0].settings, seconds=0.5) == expected.steps[0]
    assert record.steps[1] == expected.steps[1]
    assert (record.steps[2].stop_reason, record.steps[2].stop_overlap) == (StopReason.STOP_STRING, 2)
    assert (record.model, record.lookahead, record.environment) == (
        expected.model,
        expected.lookahead,
        expected.environment,
    )
    written = json.loads((FIXTURES / "run-of-2026-11.json").read_text(encoding="utf-8"))
    again = json.loads(records.dumps_record(record))
    del again["figures"]  # added since
    assert again == written


def test_a_run_of_before_without_lookahead_and_steps_still_reads() -> None:
    record = records.load_record(FIXTURES / "run-without-steps-of-2026-11.json")
    assert record.settings == BaselineSettings(Baseline.TRANSFORMERS, 10, SamplingSettings(0.8, 10))
    written = json.loads((FIXTURES / "run-without-steps-of-2026-11.json").read_text(encoding="utf-8"))
    assert records.settings_to_dict(record.settings) == written["settings"]  # an older program reads it, too
    assert (record.lookahead, record.steps) == (None, ())


def test_settings_of_before_still_read() -> None:
    written = json.loads((FIXTURES / "settings-of-2026-11.json").read_text(encoding="utf-8"))
    assert records.settings_to_dict(records.settings_from_dict(written["settings"])) == written["settings"]
    assert records.stop_to_dict(records.stop_from_dict(written["stop"])) == written["stop"]


@pytest.mark.parametrize("field", [f for f in strategies.example_header() if f not in ("format", "schema_version")])
def test_a_missing_field_is_named(raw: dict[str, object], field: str) -> None:
    del raw[field]
    if field in ("typed", "lookahead", "messages"):  # may be left out
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
