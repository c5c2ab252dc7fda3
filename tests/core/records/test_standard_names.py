"""Figures under other programs' names: worked out by hand for a small run, and part of every run file."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pass_core.decoding.events import DraftStatus, PrefillInfo, Provenance
from pass_core.records.runs import RunRecord, record_from_dict, record_to_dict
from pass_core.records.standard_names import standard_figures
from pass_core.settings import DecodingSettings
from tests.app.window.events import draft, step, token


def test_the_figures_of_a_small_run() -> None:
    accepted, rejected = DraftStatus.ACCEPTED, DraftStatus.REJECTED
    steps = [
        replace(step(0, [token(0, "a")], seconds=0.5), prefill=PrefillInfo(10, 2.0, 1)),
        step(
            1,
            [
                token(1, "b", Provenance.ACCEPTED, depth=1),
                token(2, "c", Provenance.ACCEPTED, depth=2),
                token(3, "d", Provenance.BONUS),
            ],
            [draft("b", accepted), draft("c", accepted, depth=2, index=1, parent=0)],
            seconds=0.5,
        ),
        step(2, [token(4, "e", Provenance.CORRECTED, depth=1)], [draft("x", rejected)], seconds=1.0),
    ]
    figures = standard_figures(steps)
    vllm, llama = figures["vllm"], figures["llama.cpp"]
    assert vllm["num_drafts"] == 2
    assert vllm["num_draft_tokens"] == llama["draft_n"] == 3
    assert vllm["num_accepted_tokens"] == llama["draft_n_accepted"] == 2
    assert vllm["mean_acceptance_length"] == 1 + 2 / 2
    assert vllm["draft_acceptance_rate"] == pytest.approx(2 / 3)
    assert vllm["per_position_acceptance_rate"] == [1 / 2, 1 / 2]
    assert vllm["generation_throughput"] == llama["predicted_per_second"] == 5 / 2.0
    assert vllm["time_to_first_token_seconds"] == 2.5
    assert (llama["prompt_n"], llama["prompt_ms"], llama["prompt_per_second"]) == (10, 2000.0, 5.0)
    assert (llama["predicted_n"], llama["predicted_ms"], llama["predicted_per_token_ms"]) == (5, 2000.0, 400.0)


def test_without_drafts_there_is_no_rate() -> None:
    vllm = standard_figures([step(0, [token(0, "a")])])["vllm"]
    assert vllm["mean_acceptance_length"] is None
    assert vllm["draft_acceptance_rate"] is None
    assert standard_figures([])["llama.cpp"]["predicted_per_second"] is None


def test_a_run_file_has_them_and_reads_back_without() -> None:
    record = RunRecord(
        id="0" * 32,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        prompt="Once",
        seed=0,
        settings=DecodingSettings(),
        steps=(step(0, [token(0, "a")]),),
    )
    written = record_to_dict(record)
    assert written["figures"] == standard_figures(record.steps)
    assert record_from_dict(written) == record
    del written["figures"]
    assert record_from_dict(written) == record
