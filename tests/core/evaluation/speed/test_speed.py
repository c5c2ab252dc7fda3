"""The benchmark on a tiny model, its bookkeeping, and its files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pass_core.engine import Engine
from pass_core.evaluation.baselines.contestant import Measurement
from pass_core.evaluation.environment import environment_of
from pass_core.evaluation.prompts import BenchmarkPrompt
from pass_core.evaluation.speed.plan import BenchmarkPlan, PlanError, contestants_for
from pass_core.evaluation.speed.report import make_report, summarise
from pass_core.evaluation.speed.roofline import call_bytes, measure_roofline
from pass_core.evaluation.speed.run import Benchmark, BenchmarkEnded, Sample, SampleMeasured
from pass_core.evaluation.speed.tables import to_csv, to_json, to_markdown, to_svg
from pass_core.evaluation.state import StateMismatch
from pass_core.models.language_model import LanguageModel
from pass_core.models.shipped import untrained_lookahead
from pass_core.progress import CancelToken
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.settings import Strategy
from tests.engines import engine_of
from tests.tiny import tiny_llama

PROMPTS = (
    BenchmarkPrompt("prose", "a", "Once upon a"),
    BenchmarkPrompt("prose", "b", "The sea was"),
    BenchmarkPrompt("code", "c", "def f(x):"),
)
FIELD = contestants_for([Strategy.AUTOREGRESSIVE, Strategy.TWO_CALL, Strategy.FUSED], [1, 2], lookup=True)
PLAN = BenchmarkPlan(FIELD, PROMPTS, temperatures=(0.8,), new_tokens=12, roofline=False)


def run(benchmark: Benchmark, cancel: CancelToken | None = None) -> list[Sample]:
    return [e.sample for e in benchmark.run(cancel) if isinstance(e, SampleMeasured)]


def sample(contestant: str, prompt: str, ms: float, repeat: int = 0, text: str = "t") -> Sample:
    m = Measurement(10, 10, 5, 5, 5, 20, 0.01, ms / 100, (4, 1), (5, 4), text)
    return Sample(contestant, "prose", prompt, 0.8, repeat, m)


def test_every_combination_is_measured_and_ours_write_one_text(tiny_model: LanguageModel) -> None:
    benchmark = Benchmark(engine_of(tiny_model), PLAN, {"best": untrained_lookahead(tiny_model)})
    samples = run(benchmark)
    assert len({s.key for s in samples}) == len(samples) == len(FIELD) * 3
    report = make_report(environment_of(engine_of(tiny_model)), PLAN, samples, complete=True)
    assert len(report.results) == len(FIELD) * 3  # prose, code, all
    for result in report.results:
        if result.contestant.source.value == "ours":
            assert result.same_text == result.compared == result.runs
            assert result.speedup_vs_autoregressive is not None
        assert result.speedup_vs_transformers is not None
    by_label = {r.contestant.label: r for r in report.results if r.prompt_set == "all"}
    assert by_label["autoregressive"].tokens_per_call == 1.0
    assert by_label["transformers generate"].tokens_per_call == 1.0


def test_first_place_rotates(tiny_model: LanguageModel) -> None:
    plan = replace(PLAN, contestants=FIELD[:2])
    order = [
        s.contestant for s in run(Benchmark(engine_of(tiny_model), plan, {"best": untrained_lookahead(tiny_model)}))
    ]
    a, b = FIELD[0].label, FIELD[1].label
    assert order == [a, b, b, a, a, b]


def test_rounds_are_balanced_over_sets() -> None:
    assert [r.prompt.title for r in PLAN.rounds] == ["a", "c", "b"]


def test_cancelled_run_keeps_what_is_done_and_goes_on(tiny_model: LanguageModel, tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    lookaheads = {"best": untrained_lookahead(tiny_model)}
    cancel = CancelToken()
    first: list[Sample] = []
    for event in Benchmark(engine_of(tiny_model), PLAN, lookaheads, state=state).run(cancel):
        if isinstance(event, SampleMeasured):
            first.append(event.sample)
            if len(first) == 4:
                cancel.cancel()
    assert event == BenchmarkEnded(False, "cancelled")
    with state.open("ab") as file:
        file.write(b'{"contestant": "cut sho')
    again = Benchmark(engine_of(tiny_model), PLAN, lookaheads, state=state)
    samples = run(again)
    assert samples[:4] == first
    assert len({s.key for s in samples}) == len(samples) == len(FIELD) * 3
    with pytest.raises(StateMismatch, match="new_tokens"):
        Benchmark(engine_of(tiny_model), replace(PLAN, new_tokens=13), lookaheads, state=state)


def test_another_file_is_not_overwritten(tiny_model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine\n")
    with pytest.raises(StateMismatch, match="not a state file"):
        Benchmark(engine_of(tiny_model), PLAN, {"best": untrained_lookahead(tiny_model)}, state=path)
    assert path.read_text() == "mine\n"


def test_speedups_are_paired_by_prompt() -> None:
    plan = replace(PLAN, contestants=FIELD[:2])
    a, b = FIELD[0].label, FIELD[1].label
    samples = [sample(a, "a", 10), sample(b, "a", 5), sample(a, "b", 40), sample(b, "b", 20), sample(b, "only", 1)]
    base, fast = (r for r in summarise(plan, samples) if r.prompt_set == "prose")
    assert base.speedup_vs_autoregressive is not None
    assert base.speedup_vs_autoregressive.median == 1.0
    assert fast.speedup_vs_autoregressive is not None
    assert fast.speedup_vs_autoregressive.median == pytest.approx(2.0)
    assert fast.speedup_vs_autoregressive.count == 2
    assert fast.speedup_vs_transformers is None
    assert fast.acceptance_by_position == (0.8, 0.25)
    assert fast.compared == 2


def test_fewer_than_five_prompts_have_no_interval_and_every_figure_has_its_n() -> None:
    plan = replace(PLAN, contestants=FIELD[:2])
    a, b = FIELD[0].label, FIELD[1].label

    def made(prompts: str) -> tuple[str, dict[str, Any]]:
        samples = [sample(c, p, ms) for p in prompts for c, ms in ((a, 10 + ord(p) % 5), (b, 5))]
        report = make_report({}, plan, samples)
        return to_markdown(report), json.loads(to_json(report))["results"][1]

    text, raw = made("abcd")
    assert "| 5.0 (n = 4) |" in text
    assert "–" not in text.split("## ")[1].split("| autoregressive |")[1].split("|")[1]
    assert raw["ms_per_token"] == {"median": 5.0, "low": None, "high": None}
    assert raw["speedup_vs_autoregressive_interval"] is None
    assert (raw["ms_per_token_n"], raw["speedup_vs_autoregressive_n"]) == (4, 4)
    assert "0.80 (20) 0.25 (16)" in text
    assert raw["examined_by_position"] == [20, 16]
    text, raw = made("abcde")
    assert "| 5.0 (5.0–5.0, n = 5) |" in text
    assert raw["ms_per_token"] == {"median": 5.0, "low": 5.0, "high": 5.0}
    assert len(raw["speedup_vs_autoregressive_interval"]) == 2


def test_a_busy_machine_is_in_the_report() -> None:
    plan = replace(PLAN, contestants=FIELD[:2])
    samples = [replace(sample(FIELD[0].label, "a", 10, r), others=1e6) for r in range(2)]
    report = make_report({}, plan, samples)
    assert "The machine was busy" in to_markdown(report)
    assert json.loads(to_json(report))["machine_load"]["busy"] is True
    old = samples[0].as_dict()
    del old["others"]  # a state file of before
    assert Sample.from_dict(old).others is None
    assert make_report({}, plan, [Sample.from_dict(old)]).load is None


def test_repeats_of_a_prompt_are_one_observation() -> None:
    plan = replace(PLAN, contestants=FIELD[:2])
    samples = [sample(FIELD[0].label, "a", 10, r) for r in range(3)] + [
        sample(FIELD[1].label, "a", 5, r) for r in range(3)
    ]
    fast = next(r for r in summarise(plan, samples) if r.contestant == FIELD[1])
    assert fast.ms_per_token.count == 1
    assert fast.runs == 3


def test_files_have_what_they_promise(tiny_model: LanguageModel) -> None:
    samples = run(Benchmark(engine_of(tiny_model), PLAN, {"best": untrained_lookahead(tiny_model)}))
    report = make_report(environment_of(engine_of(tiny_model), command="bench"), PLAN, samples)
    raw = json.loads(to_json(report))
    assert raw["environment"]["model"] == "tiny-llama"
    needed = {"strategy", "k", "source", "prompt_set", "temperature", "ms_per_token", "tokens_per_call"}
    needed |= {"accepted_per_iteration", "speedup_vs_autoregressive", "speedup_vs_transformers"}
    assert all(needed <= r.keys() for r in raw["results"])
    assert set(raw["results"][0]["ms_per_token"]) == {"median", "low", "high"}
    assert Sample.from_dict(raw["samples"][0]) == samples[0]
    assert len(list(csv.DictReader(io.StringIO(to_csv(report))))) == len(report.results)
    assert "| autoregressive |" in to_markdown(report)
    drawing = ElementTree.fromstring(to_svg(report))
    assert drawing.tag.endswith("svg")
    assert any("best" in (t.text or "") for t in drawing.iter() if t.tag.endswith("text"))


def test_impossible_plans_are_refused(tiny_model: LanguageModel) -> None:
    with pytest.raises(PlanError, match="room for"):
        Benchmark(engine_of(tiny_model), replace(PLAN, new_tokens=250), {"best": untrained_lookahead(tiny_model)})
    with pytest.raises(PlanError, match="look-ahead"):
        Benchmark(engine_of(tiny_model), PLAN, {})
    with pytest.raises(PlanError, match="twice"):
        replace(PLAN, contestants=(FIELD[0], FIELD[0]))


def test_untied_embedding_tables_are_not_read_by_a_call() -> None:
    tied, untied = tiny_llama(tie=True), tiny_llama(tie=False)
    assert call_bytes(tied) == tied.weight_bytes()
    table = untied.input_embedding.weight
    assert call_bytes(untied) == untied.weight_bytes() - table.numel() * table.element_size()


def test_the_floor_counts_the_bytes_of_the_weights_as_they_are_packed() -> None:
    """A model in float32 whose passes read smaller weights has a lower floor."""
    if library() is None:
        pytest.skip("no compiled library on this machine")
    model = tiny_llama(hidden=64, layers=1, heads=2, vocabulary=256)
    floors = []
    for weights in ("float32", "bfloat16"):
        runtime = NativeRuntime(model, threads=1, weights=weights)
        roofline = measure_roofline(Engine(model, runtime=runtime), rows=(1,), repeats=1)
        assert roofline.weight_bytes == runtime.weight_bytes
        floors.append(roofline.weight_bytes)
    assert floors[1] < floors[0]
