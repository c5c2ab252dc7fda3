"""The report: pass@k and time per token of both ways of decoding, as JSON, CSV, Markdown and sentences."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from pass_core.evaluation.environment import machine_line
from pass_core.evaluation.humaneval.plan import ARMS, BASELINE, PASS, HumanEvalPlan
from pass_core.evaluation.sandbox.run import Outcome, Verdict
from pass_core.evaluation.state import JsonDict
from pass_core.evaluation.statistics import Interval, median_interval, pass_at_k, ratio_interval, share_interval

K_VALUES = (1, 10)


@dataclass(frozen=True, slots=True)
class Completion:
    """One generated completion.

    Attributes:
        arm: "autoregressive" or "pass".
        task, sample: which problem, and which of its samples.
        text: the completion, cut before the stop string.
        tokens, calls, seconds, prefill_seconds: what it took.
    """

    arm: str
    task: str
    sample: int
    text: str
    tokens: int
    calls: int
    seconds: float
    prefill_seconds: float

    @property
    def key(self) -> tuple[str, str, int]:
        return self.arm, self.task, self.sample


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One way of decoding over all problems.

    Attributes:
        pass_at: k -> pass@k with its interval over problems (k up to the samples drawn).
        ms_per_token: median over problems.
        tokens_per_call: of all completions.
        passed, completions: counts.
    """

    arm: str
    pass_at: Mapping[int, Interval]
    ms_per_token: Interval
    tokens_per_call: float
    passed: int
    completions: int


@dataclass(frozen=True)
class HumanEvalReport:
    """What was found.

    Attributes:
        environment, plan: what it was made with.
        arms: baseline and PASS; pass_at is empty where no code was run.
        speedup: time per token of the baseline over that of PASS, paired by completion.
        same_text: completions that are the same in both, of how many.
        judged: every completion with its outcome (None where no code was run).
        complete: everything planned was done.
    """

    environment: JsonDict
    plan: HumanEvalPlan
    arms: tuple[ArmResult, ...]
    speedup: Interval | None
    same_text: tuple[int, int]
    judged: tuple[tuple[Completion, Outcome | None], ...]
    complete: bool

    @property
    def agree(self) -> bool | None:
        """Whether the pass@1 intervals of both overlap; None where nothing was run, or too little for intervals."""
        if len(self.arms) < 2 or not all(1 in a.pass_at and a.pass_at[1].stated for a in self.arms):
            return None
        a, b = (arm.pass_at[1] for arm in self.arms)
        return a.low <= b.high and b.low <= a.high


Judgements = Sequence[tuple[Completion, Outcome | None]]


def make_report(plan: HumanEvalPlan, judged: Judgements, complete: bool, environment: JsonDict) -> HumanEvalReport:
    """Fold completions and their outcomes (None where no code was run)."""
    by_key = {c.key: c for c, _ in judged}
    pairs = [
        (c, by_key[PASS, c.task, c.sample])
        for c, _ in judged
        if c.arm == BASELINE and (PASS, c.task, c.sample) in by_key
    ]
    ratios = [
        (a.seconds / a.tokens) / (b.seconds / b.tokens)
        for a, b in pairs
        if a.tokens and b.tokens and a.seconds > 0 and b.seconds > 0
    ]
    return HumanEvalReport(
        environment,
        plan,
        tuple(r for arm in ARMS if (r := _arm(arm, judged)) is not None),
        ratio_interval(ratios) if ratios else None,
        (sum(a.text == b.text for a, b in pairs), len(pairs)),
        tuple(judged),
        complete,
    )


def _arm(arm: str, judged: Judgements) -> ArmResult | None:
    mine = [(c, o) for c, o in judged if c.arm == arm]
    times: dict[str, list[float]] = {}
    results: dict[str, list[bool]] = {}
    for c, outcome in mine:
        if c.tokens:
            times.setdefault(c.task, []).append(1000 * c.seconds / c.tokens)
        if outcome is not None:
            results.setdefault(c.task, []).append(outcome.verdict is Verdict.PASSED)
    if not times:
        return None
    pass_at: dict[int, Interval] = {}
    for k in K_VALUES:
        estimates = [pass_at_k(len(r), sum(r), k) for r in results.values() if len(r) >= k]
        if estimates:
            pass_at[k] = share_interval(estimates)
    calls = sum(c.calls for c, _ in mine)
    return ArmResult(
        arm,
        pass_at,
        median_interval([sum(v) / len(v) for v in times.values()]),
        sum(c.tokens for c, _ in mine) / calls if calls else 0.0,
        sum(sum(r) for r in results.values()),
        len(mine),
    )


def report_json(report: HumanEvalReport) -> str:
    """Everything, every completion included."""
    raw = {
        "format": "pass-humaneval",
        "version": 1,
        "complete": report.complete,
        "environment": report.environment,
        "plan": asdict(report.plan),
        "results": [
            {
                "strategy": arm.arm,
                **{f"pass@{k}": _interval(i) for k, i in arm.pass_at.items()},
                "ms_per_token": {"median": arm.ms_per_token.median, **_ends(arm.ms_per_token)},
                "tokens_per_call": arm.tokens_per_call,
                "passed": arm.passed,
                "completions": arm.completions,
            }
            for arm in report.arms
        ],
        "speedup": None if report.speedup is None else {"mean": report.speedup.median, **_ends(report.speedup)},
        "same_text": list(report.same_text),
        "pass_at_1_within_intervals": report.agree,
        "completions": [
            {**asdict(c), "verdict": o.verdict.value if o else None, "message": o.message if o else None}
            for c, o in report.judged
        ],
    }
    return json.dumps(raw, ensure_ascii=False, indent=1) + "\n"


def _interval(interval: Interval) -> JsonDict:
    return {"mean": interval.median, **_ends(interval)}


def _ends(interval: Interval) -> JsonDict:
    low, high = interval.ends or (None, None)
    return {"low": low, "high": high, "n": interval.count}


def report_csv(report: HumanEvalReport) -> str:
    """One line a completion."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["task", "sample", "strategy", "verdict", "message", "tokens", "calls", "seconds", "prefill_seconds"]
    )
    for c, o in report.judged:
        verdict, message = (o.verdict.value, o.message) if o else ("", "")
        writer.writerow(
            [
                c.task,
                c.sample,
                c.arm,
                verdict,
                message,
                c.tokens,
                c.calls,
                f"{c.seconds:.6f}",
                f"{c.prefill_seconds:.6f}",
            ]
        )
    return out.getvalue()


def report_markdown(report: HumanEvalReport) -> str:
    """The comparison as a table, with environment and verdict."""
    plan = report.plan
    lines = ["# HumanEval", ""]
    if report.environment:
        lines += [machine_line(report.environment) + ".", ""]
    problems = len({c.task for c, _ in report.judged})
    lines += [
        f"{problems} problems, {plan.samples} sample(s) each; {', '.join(plan.sampling.described)}, "
        f"at most {plan.max_new_tokens} new tokens; "
        f"PASS is {plan.strategy.value}, k = {plan.k}, {plan.verification.value} rule.",
        "",
    ]
    if report.environment.get("command"):
        lines += [f"    {report.environment['command']}", ""]
    lines += result_table(report)
    lines += ["", *sentences(report)]
    return "\n".join(lines) + "\n"


def result_table(report: HumanEvalReport) -> list[str]:
    """Markdown lines, one row a way of decoding."""
    lines = ["| decoding | pass@1 (95 %) | pass@10 (95 %) | ms/token (95 %) | tokens/call |", "|---|---|---|---|---|"]
    for arm in report.arms:
        lines.append(
            f"| {arm.arm} | {_percent(arm.pass_at.get(1))} | {_percent(arm.pass_at.get(10))} "
            f"| {arm.ms_per_token.text(1)} | {arm.tokens_per_call:.2f} |"
        )
    return lines


def sentences(report: HumanEvalReport) -> list[str]:
    """What the figures say, in plain words."""
    out: list[str] = []
    if report.speedup is not None:
        out.append(f"PASS is {report.speedup.text()} times as fast per token.")
    same, compared = report.same_text
    if compared:
        out.append(f"{same} of {compared} programs are the same, character for character.")
    if report.agree is not None:
        out.append(
            "The pass@1 of the two lie within each other's confidence intervals."
            if report.agree
            else "The pass@1 of the two differ by more than their confidence intervals."
        )
    if not report.complete:
        out.append("The run was cut short, so that these figures are of a part of the problems.")
    return out


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return interval.text(1, scale=100, unit=" %")


Writer = Callable[[HumanEvalReport], str]
WRITERS: Mapping[str, Writer] = {".json": report_json, ".csv": report_csv, ".md": report_markdown}
