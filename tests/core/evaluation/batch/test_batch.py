"""A batch on a tiny model: every run of the grid, means and intervals that can be checked by hand, whole files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from pass_core.engine import Engine
from pass_core.evaluation.batch.plan import BatchError, BatchPlan, grid
from pass_core.evaluation.batch.report import FIGURES, make_report, write_report
from pass_core.evaluation.batch.run import BatchEnded, BatchRun, run_batch
from pass_core.models.shipped import untrained_lookahead
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.prompt import Prompt
from pass_core.settings import DecodingSettings, SamplingSettings, Strategy
from tests import tiny

PLAIN, FUSED = Strategy.AUTOREGRESSIVE, Strategy.FUSED
CELLS = grid(DecodingSettings(auto=False), [PLAIN, FUSED], [1, 2], [0.8], [10])


def plan(seeds: int = 5) -> BatchPlan:
    return BatchPlan(Prompt("To be or not"), CELLS, tuple(range(seeds)), 12, ignore_eos=True)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(tiny.tiny_llama(tokenizer=True))


@pytest.fixture(scope="module")
def runs(engine: Engine) -> list[BatchRun]:
    events = list(run_batch(engine, plan(), untrained_lookahead(engine.model), CancelToken()))
    assert isinstance(events[-1], BatchEnded)
    progress = [e for e in events if isinstance(e, Progress) and e.stage == "Writing"]
    assert [p.done for p in progress] == list(range(16))
    assert progress[-1].seconds_left == 0
    assert all(p.seconds_left is not None for p in progress[1:])
    return [e for e in events if isinstance(e, BatchRun)]


def test_the_grid_has_every_combination_once() -> None:
    cells = grid(DecodingSettings(prompt_lookup=True), [PLAIN, FUSED], [1, 2], [0.0, 0.8], [5])
    assert [(c.strategy, c.k, c.sampling.temperature) for c in cells] == [
        *[(PLAIN, 0, 0.0), (FUSED, 1, 0.0), (FUSED, 2, 0.0)],
        *[(PLAIN, 0, 0.8), (FUSED, 1, 0.8), (FUSED, 2, 0.8)],
    ]
    assert all(c.prompt_lookup and c.sampling.top_k == 5 for c in cells)


def test_every_cell_runs_with_every_seed_and_writes_plain_text(runs: list[BatchRun]) -> None:
    assert len({(r.settings, r.seed) for r in runs}) == len(runs) == 15
    firsts = [runs[3 * n].settings for n in range(5)]
    assert firsts == [CELLS[n % 3] for n in range(5)], "another cell goes first each time"
    report = make_report(plan(), runs, complete=True)
    assert [r.settings for r in report.results] == list(CELLS)
    assert all((r.same_text, r.compared, r.texts) == (5, 5, 5) for r in report.results)


def test_means_and_intervals(runs: list[BatchRun]) -> None:
    report = make_report(plan(), runs)
    for result in report.results:
        own = [r.measurement for r in runs if r.settings == result.settings]
        speed = result.tokens_per_second
        assert speed is not None
        assert speed.median == pytest.approx(mean(1000 / (m.ms_per_token or 0) for m in own))
        assert speed.low <= speed.median <= speed.high
        assert speed.ends is not None
        assert result.new_tokens is not None
        assert (result.new_tokens.median, result.new_tokens.count) == (12.0, 5)
    assert report.results[0].acceptance is None, "plain decoding drafts nothing"
    assert report.results[1].acceptance is not None
    few = make_report(plan(), [r for r in runs if r.seed < 4])
    for result in few.results:
        assert result.runs == 4
        figures = [i for i in (getattr(result, f) for f in FIGURES) if i is not None]
        assert all((i.ends, i.count) == (None, 4) for i in figures)


def test_the_files_hold_everything(runs: list[BatchRun], tmp_path: Path) -> None:
    report = make_report(plan(), [r for r in runs if r.seed < 4], {"processor": "x"})
    for name in ("b.csv", "b.runs.csv", "b.json"):
        write_report(report, tmp_path / name)
    with (tmp_path / "b.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [(c["strategy"], c["k"], c["tokens_per_second_n"]) for c in cells] == [
        (PLAIN.value, "0", "4"),
        (FUSED.value, "1", "4"),
        (FUSED.value, "2", "4"),
    ]
    assert all(c["tokens_per_second_low"] == "" for c in cells), "no interval under five runs"
    assert float(cells[1]["tokens_per_call"]) == report.results[1].tokens_per_call.median  # type: ignore[union-attr]
    with (tmp_path / "b.runs.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    whole = json.loads((tmp_path / "b.json").read_text())
    assert (whole["format"], whole["complete"], whole["seeds"]) == ("pass-batch", False, [0, 1, 2, 3, 4])
    assert whole["results"][0]["tokens_per_second"]["interval"] is None
    assert len(whole["runs"]) == 12
    with pytest.raises(ValueError, match="no format"):
        write_report(report, tmp_path / "b.txt")


def test_what_cannot_be_run_is_said(engine: Engine) -> None:
    with pytest.raises(BatchError, match="at least one setting"):
        replace(plan(), seeds=())
    with pytest.raises(BatchError, match="listed twice"):
        replace(plan(), seeds=(1, 1))
    with pytest.raises(BatchError, match="at most 10,000"):
        replace(plan(), seeds=tuple(range(4000)))
    long = replace(plan(), new_tokens=100_000)
    with pytest.raises(BatchError, match="has room for"):
        list(run_batch(engine, long, None, CancelToken()))


def test_stop_ends_it_between_runs(engine: Engine) -> None:
    cancel = CancelToken()
    seen: list[BatchRun] = []

    def until_the_first() -> None:
        for event in run_batch(engine, plan(), None, cancel):
            if isinstance(event, BatchRun):
                seen.append(event)
                cancel.cancel()

    with pytest.raises(Cancelled):
        until_the_first()
    assert len(seen) == 1


def test_other_sampling_is_not_compared_with_plain(runs: list[BatchRun]) -> None:
    hot = replace(CELLS[1], sampling=SamplingSettings(1.5, 10))
    moved = [replace(r, settings=hot) if r.settings == CELLS[1] else r for r in runs]
    report = make_report(replace(plan(), cells=(CELLS[0], hot)), moved)
    assert report.results[1].compared == 0
