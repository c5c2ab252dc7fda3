"""The run: every problem completed by plain decoding and by PASS, then the programs judged in the sandbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pass_core.decoding.events import StopReason
from pass_core.decoding.summary import SummaryBuilder
from pass_core.engine import Engine
from pass_core.evaluation.humaneval.plan import ARMS, STOP_STRINGS, HumanEvalPlan, Problem, load_problems
from pass_core.evaluation.humaneval.report import Completion, HumanEvalReport, make_report
from pass_core.evaluation.sandbox.run import Outcome, Verdict, run_program
from pass_core.evaluation.state import JsonDict, StateFile
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.settings import SamplingSettings, StopConditions


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a completion's program."""

    completion: Completion
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class HumanEvalEnded:
    """Nothing more comes."""

    complete: bool


HumanEvalEvent = Progress | Completion | Judged | HumanEvalEnded


class HumanEval:
    """Generates, then judges.

    Args:
        engine: not in use by anything else meanwhile.
        lookahead: embeddings for PASS.
        plan: what to generate.
        state: file that keeps completions and outcomes; an existing one is continued.
        run_code: whether the user has agreed that generated programs are run on this machine.

    Raises:
        HumanEvalMissing: no problems.
        StateMismatch: the state file belongs to something else.
    """

    def __init__(
        self,
        engine: Engine,
        lookahead: LookaheadEmbeddings | None,
        plan: HumanEvalPlan,
        *,
        state: str | Path | None = None,
        run_code: bool = False,
    ) -> None:
        from pass_core.records.runs import describe_lookahead

        model = engine.model
        self.engine, self.model = engine, model
        self.lookahead, self.plan, self.run_code = lookahead, plan, run_code
        self.problems = load_problems()[: plan.problems]
        self._by_task = {p.task: p for p in self.problems}
        self.completions: dict[tuple[str, str, int], Completion] = {}
        self.outcomes: dict[tuple[str, str, int], Outcome] = {}
        header = {
            "format": "pass-humaneval-state",
            "model": model.fingerprint,
            "dtype": str(model.dtype),
            "embeddings": None if lookahead is None else describe_lookahead(lookahead).hash,
            **_plan_in_state(plan),
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
        for step in self.engine.decode(
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
        return run_program(problem.with_completion(completion.text), self.plan.limits)

    def _restore(self, part: JsonDict) -> None:
        if "completion" in part:
            completion = Completion(**part["completion"])
            self.completions[completion.key] = completion
        elif "outcome" in part:
            arm, task, sample, verdict, message = part["outcome"]
            self.outcomes[arm, task, sample] = Outcome(Verdict(verdict), message)

    def report(self, environment: JsonDict | None = None) -> HumanEvalReport:
        """What there is so far."""
        total = len(self.problems) * self.plan.samples * len(ARMS)
        done = self.outcomes if self.run_code else self.completions
        judged = [(c, self.outcomes.get(key)) for key, c in self.completions.items()]
        return make_report(self.plan, judged, len(done) == total, environment or {})


def _plan_in_state(plan: HumanEvalPlan) -> dict[str, Any]:
    """Top-p and min-p are left out where they are off: a state file of before goes on."""
    raw = asdict(plan)
    usual = asdict(SamplingSettings())
    raw["sampling"] = {k: v for k, v in raw["sampling"].items() if k not in ("top_p", "min_p") or v != usual[k]}
    return raw
