"""The table of architectures says what happens to a tiny model of each."""

from __future__ import annotations

import pytest

from pass_core.evaluation import families
from pass_core.evaluation.families import FamilyResult, family_results, markdown


def test_what_drafts_what_decodes_plainly_and_what_is_refused() -> None:
    found = {(r.kind, r.variant): r for r in family_results(["mistral", "phi3", "bloom", "t5", "bert"])}
    assert {k: r.decoding for k, r in found.items()} == {
        ("mistral", ""): "drafts",
        ("mistral", "window of 8"): "drafts",
        ("phi3", ""): "drafts",
        ("phi3", "window of 8"): "drafts",
        ("phi3", "LongRoPE"): "plain",
        ("bloom", ""): "plain",
        ("t5", ""): "refused",
        ("bert", ""): "refused",
    }
    assert all(r.agrees is (None if r.decoding == "refused" else True) for r in found.values())
    assert all(r.note for r in found.values() if r.decoding != "drafts")


def test_a_text_that_differs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_generated", lambda model: [0] * 24)
    (result,) = family_results(["llama"])
    assert result.agrees is False
    assert "**differs from transformers**" in markdown([result])


def test_the_table_is_markdown() -> None:
    rows = [FamilyResult("a", "window of 8", "drafts", True, ""), FamilyResult("b", "", "refused", None, "why")]
    assert markdown(rows).splitlines()[2:] == [
        "| a, window of 8 | drafts | equal to transformers |  |",
        "| b | refused | – | why |",
    ]
