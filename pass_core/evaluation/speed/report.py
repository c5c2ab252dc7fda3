"""Samples of a benchmark folded into results with intervals, and the report that is written to files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pass_core.evaluation.baselines.contestant import Contestant, Source
from pass_core.evaluation.machine_load import MachineLoad, machine_load
from pass_core.evaluation.speed.plan import BenchmarkPlan, contestant_dict
from pass_core.evaluation.speed.roofline import Roofline
from pass_core.evaluation.speed.run import Sample
from pass_core.evaluation.state import JsonDict
from pass_core.evaluation.statistics import Interval, median_interval, ratio_interval

FORMAT = "pass-benchmark"
VERSION = 1
ALL_SETS = "all"


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant on one prompt set ("all" for all together) at one temperature.

    Attributes:
        contestant, prompt_set, temperature: what was measured.
        runs, tokens: how much of it.
        ms_per_token: median over prompts with its order-statistic interval.
        prefill_ms: median processing time of the prompt.
        tokens_per_call: tokens over forward passes, all runs together.
        accepted_per_iteration: accepted drafts over iterations.
        acceptance_by_position, examined_by_position: share of examined drafts of each depth that was accepted, and of
            how many.
        speedup_vs_autoregressive, speedup_vs_transformers: geometric mean of paired per-prompt ratios with its
            bootstrap interval; None where the other was not measured.
        same_text, compared: runs that wrote exactly the text of our autoregressive run with the same seed.
    """

    contestant: Contestant
    prompt_set: str
    temperature: float
    runs: int
    tokens: int
    ms_per_token: Interval
    prefill_ms: float
    tokens_per_call: float
    accepted_per_iteration: float
    acceptance_by_position: tuple[float, ...]
    examined_by_position: tuple[int, ...]
    speedup_vs_autoregressive: Interval | None
    speedup_vs_transformers: Interval | None
    same_text: int
    compared: int

    @property
    def tokens_per_second(self) -> float:
        return 1000 / self.ms_per_token.median

    def as_dict(self) -> JsonDict:
        """The JSON form, flat where the benchmark's users expect it."""
        c = self.contestant
        ms = self.ms_per_token
        return {
            "label": c.label,
            **contestant_dict(c),
            "prompt_set": self.prompt_set,
            "temperature": self.temperature,
            "runs": self.runs,
            "tokens": self.tokens,
            "ms_per_token": {"median": ms.median, **dict(zip(("low", "high"), ms.ends or (None, None), strict=True))},
            "ms_per_token_n": ms.count,
            "tokens_per_second": self.tokens_per_second,
            "prefill_ms": self.prefill_ms,
            "tokens_per_call": self.tokens_per_call,
            "accepted_per_iteration": self.accepted_per_iteration,
            "acceptance_by_position": list(self.acceptance_by_position),
            "examined_by_position": list(self.examined_by_position),
            "speedup_vs_autoregressive": _estimate(self.speedup_vs_autoregressive),
            "speedup_vs_autoregressive_interval": _ends(self.speedup_vs_autoregressive),
            "speedup_vs_autoregressive_n": _count(self.speedup_vs_autoregressive),
            "speedup_vs_transformers": _estimate(self.speedup_vs_transformers),
            "speedup_vs_transformers_interval": _ends(self.speedup_vs_transformers),
            "speedup_vs_transformers_n": _count(self.speedup_vs_transformers),
            "same_text_as_autoregressive": [self.same_text, self.compared],
        }


def _estimate(interval: Interval | None) -> float | None:
    return None if interval is None else interval.median


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None or interval.ends is None else list(interval.ends)


def _count(interval: Interval | None) -> int:
    return 0 if interval is None else interval.count


@dataclass(frozen=True)
class Report:
    """All that a benchmark found.

    Attributes:
        environment: machine, versions, model, embeddings.
        plan: the plan that was carried out.
        results: by temperature, prompt set and contestant.
        roofline: None where it was not measured.
        complete: False when it was cut short.
        samples: the runs behind the results.
        created: when the report was made (UTC).
        load: what other programs did meanwhile; None where that is not known.
    """

    environment: JsonDict
    plan: BenchmarkPlan
    results: tuple[Result, ...]
    roofline: Roofline | None
    complete: bool
    samples: tuple[Sample, ...]
    created: datetime
    load: MachineLoad | None = None

    def as_dict(self) -> JsonDict:
        roofline = self.roofline
        return {
            "format": FORMAT,
            "version": VERSION,
            "created": self.created.isoformat(timespec="seconds"),
            "complete": self.complete,
            "environment": self.environment,
            "plan": self.plan.as_dict(),
            "results": [r.as_dict() for r in self.results],
            "roofline": None
            if roofline is None
            else {
                **asdict(roofline),
                "floor_seconds": roofline.floor_seconds,
                "shares_of_floor": list(roofline.shares),
            },
            "machine_load": None if self.load is None else {**asdict(self.load), "busy": self.load.busy},
            "samples": [s.as_dict() for s in self.samples],
        }


def make_report(
    environment: JsonDict,
    plan: BenchmarkPlan,
    samples: Sequence[Sample],
    roofline: Roofline | None = None,
    *,
    complete: bool = False,
) -> Report:
    """Fold what is there so far; may be called at any time while a benchmark runs."""
    results = summarise(plan, samples)
    return Report(environment, plan, results, roofline, complete, tuple(samples), datetime.now(UTC), _load(samples))


def _load(samples: Sequence[Sample]) -> MachineLoad | None:
    repeats: dict[tuple[str, str, str, float], list[float]] = {}
    for s in samples:
        if (ms := s.measurement.ms_per_token) is not None:
            repeats.setdefault((s.contestant, s.prompt_set, s.prompt, s.temperature), []).append(ms)
    return machine_load([s.others for s in samples if s.others is not None], repeats.values())


def summarise(plan: BenchmarkPlan, samples: Sequence[Sample]) -> tuple[Result, ...]:
    """Results for every temperature, prompt set (and all sets together) and contestant that has samples."""
    sets = plan.sets if len(plan.sets) == 1 else (*plan.sets, ALL_SETS)
    out: list[Result] = []
    for temperature in plan.temperatures:
        for name in sets:
            chosen = [s for s in samples if s.temperature == temperature and name in (s.prompt_set, ALL_SETS)]
            field = _Field(plan.contestants, chosen)
            out += [r for c in plan.contestants if (r := field.result(c, name, temperature)) is not None]
    return tuple(out)


Key = tuple[str, str, int]


class _Field:
    """The samples of one prompt set and temperature, paired by prompt and repeat."""

    def __init__(self, contestants: Iterable[Contestant], samples: Sequence[Sample]) -> None:
        self._by_label: dict[str, dict[Key, Sample]] = {}
        for sample in samples:
            runs = self._by_label.setdefault(sample.contestant, {})
            runs[sample.prompt_set, sample.prompt, sample.repeat] = sample
        known = list(contestants)
        self._baseline = self._find(known, lambda c: c.is_baseline)
        self._transformers = self._find(known, lambda c: c.is_transformers)

    def _find(self, known: Sequence[Contestant], wanted: Callable[[Contestant], bool]) -> dict[Key, Sample]:
        return next((self._by_label.get(c.label, {}) for c in known if wanted(c)), {})

    def result(self, contestant: Contestant, prompt_set: str, temperature: float) -> Result | None:
        runs = self._by_label.get(contestant.label, {})
        by_prompt: dict[tuple[str, str], list[float]] = {}
        for (name, title, _), sample in runs.items():
            if (ms := sample.measurement.ms_per_token) is not None:
                by_prompt.setdefault((name, title), []).append(ms)
        if not by_prompt:
            return None
        all_runs = [s.measurement for s in runs.values()]
        calls, steps = sum(m.calls for m in all_runs), sum(m.steps for m in all_runs)
        timed = sum(m.timed_tokens for m in all_runs)
        shares, examined = _acceptance(runs.values())
        compared = [k for k in runs if k in self._baseline and contestant.source is Source.OURS]
        return Result(
            contestant=contestant,
            prompt_set=prompt_set,
            temperature=temperature,
            runs=len(all_runs),
            tokens=sum(m.new_tokens for m in all_runs),
            ms_per_token=median_interval([sum(v) / len(v) for v in by_prompt.values()]),
            prefill_ms=1000 * median_interval([m.prefill_seconds for m in all_runs]).median,
            tokens_per_call=timed / calls if calls else 0.0,
            accepted_per_iteration=sum(m.accepted for m in all_runs) / steps if steps else 0.0,
            acceptance_by_position=shares,
            examined_by_position=examined,
            speedup_vs_autoregressive=_speedup(self._baseline, runs),
            speedup_vs_transformers=_speedup(self._transformers, runs),
            same_text=sum(runs[k].measurement.text_hash == self._baseline[k].measurement.text_hash for k in compared),
            compared=len(compared),
        )


def _acceptance(samples: Iterable[Sample]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    accepted: list[int] = []
    examined: list[int] = []
    for sample in samples:
        m = sample.measurement
        for depth, (a, e) in enumerate(zip(m.accepted_by_position, m.examined_by_position, strict=True)):
            if depth == len(accepted):
                accepted.append(0)
                examined.append(0)
            accepted[depth] += a
            examined[depth] += e
    return tuple(a / e if e else 0.0 for a, e in zip(accepted, examined, strict=True)), tuple(examined)


def _speedup(base: dict[Key, Sample], runs: dict[Key, Sample]) -> Interval | None:
    """Paired per-prompt ratios: repeats of one prompt are averaged first, for they are not independent."""
    by_prompt: dict[tuple[str, str], list[float]] = {}
    for key, sample in runs.items():
        other = base.get(key)
        if other is None:
            continue
        mine, theirs = sample.measurement.ms_per_token, other.measurement.ms_per_token
        if mine is not None and theirs is not None:
            by_prompt.setdefault(key[:2], []).append(math.log(theirs / mine))
    if not by_prompt:
        return None
    return ratio_interval([math.exp(sum(v) / len(v)) for v in by_prompt.values()])
