"""CSV: one line per token and per step, with the documented columns."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from app.export.tables import STEP_COLUMNS, TOKEN_COLUMNS, steps_csv, tokens_csv
from tests.core.records import strategies


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_tokens() -> None:
    rows = read(tokens_csv(strategies.example_record()))
    assert tuple(rows[0]) == TOKEN_COLUMNS
    assert [r["text"] for r in rows] == [" caf", "é", " is", " open", "."]
    assert [r["step"] for r in rows] == ["0", "0", "1", "2", "2"]
    assert [r["provenance"] for r in rows] == ["model", "accepted", "corrected", "accepted", "bonus"]
    assert bytes.fromhex("".join(r["bytes_hex"] for r in rows)).decode() == " café is open."
    assert rows[1]["p_draft"] == "0.5"
    assert rows[0]["p_draft"] == rows[0]["draft_position"] == ""
    assert rows[3]["source"] == "prompt-lookup"


def test_text_with_separators_survives() -> None:
    record = strategies.example_record()
    token = replace(record.steps[0].tokens[0], text='a,"b"\n;c')
    step = replace(record.steps[0], tokens=(token,))
    assert read(tokens_csv(replace(record, steps=(step,))))[0]["text"] == 'a,"b"\n;c'


def test_steps() -> None:
    rows = read(steps_csv(strategies.example_record()))
    assert tuple(rows[0]) == STEP_COLUMNS
    assert [r["rows"] for r in rows] == ["3 3", "5", "5"]
    assert [r["accepted"] for r in rows] == ["1", "0", "1"]
    assert [r["stop_reason"] for r in rows] == ["", "", "max_new_tokens"]
    assert rows[0]["seconds"] == "0.5"
