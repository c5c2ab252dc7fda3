"""The run: every contestant on every prompt in turns, timed, kept in a state file, reported as events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pass_core.engine import Engine
from pass_core.evaluation.baselines.contestant import Contestant, Job, Measurement, Runner, Source
from pass_core.evaluation.baselines.harness import DecoderRunner
from pass_core.evaluation.baselines.llamacpp import LlamaCppRunner
from pass_core.evaluation.prompts import prompt_ids
from pass_core.evaluation.speed.plan import BenchmarkPlan, PlanError, Round
from pass_core.evaluation.speed.roofline import Roofline, measure_roofline
from pass_core.evaluation.state import JsonDict, StateFile
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.runtime.other_work import OtherWork

WARM_UP_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished run of one contestant; `others`: processors that other programs kept busy meanwhile."""

    contestant: str
    prompt_set: str
    prompt: str
    temperature: float
    repeat: int
    measurement: Measurement
    others: float | None = None

    @property
    def key(self) -> tuple[str, str, str, float, int]:
        return self.contestant, self.prompt_set, self.prompt, self.temperature, self.repeat

    def as_dict(self) -> JsonDict:
        raw = asdict(self.measurement)
        del raw["cancelled"]
        return {
            "contestant": self.contestant,
            "prompt_set": self.prompt_set,
            "prompt": self.prompt,
            "temperature": self.temperature,
            "repeat": self.repeat,
            "others": self.others,
            **raw,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Sample:
        fields = {k: raw[k] for k in Measurement.__dataclass_fields__ if k in raw}
        for name in ("accepted_by_position", "examined_by_position"):
            fields[name] = tuple(fields.get(name, ()))
        return cls(
            str(raw["contestant"]),
            str(raw["prompt_set"]),
            str(raw["prompt"]),
            float(raw["temperature"]),
            int(raw["repeat"]),
            Measurement(**fields),
            None if raw.get("others") is None else float(raw["others"]),
        )


@dataclass(frozen=True, slots=True)
class RooflineMeasured:
    """The machine's limits are known."""

    roofline: Roofline


@dataclass(frozen=True, slots=True)
class SampleMeasured:
    """A run was finished (or found in the state file)."""

    sample: Sample


@dataclass(frozen=True, slots=True)
class BenchmarkEnded:
    """Nothing more comes: `complete` when every round of the plan was measured, `reason` why not."""

    complete: bool
    reason: str = ""


BenchmarkEvent = Progress | RooflineMeasured | SampleMeasured | BenchmarkEnded


class Benchmark:
    """Runs a plan on a loaded model.

    Args:
        engine: not in use by anything else while it runs.
        plan: what to measure.
        lookaheads: look-ahead embeddings by the contestants' labels.
        state: file that keeps finished runs; an existing one is continued.
        gguf: GGUF file of the same model for llama.cpp.

    Raises:
        PlanError: the plan needs something that is missing.
        StateMismatch: the state file belongs to another plan or model.
        SourceUnavailable: llama.cpp is asked for and cannot run.
    """

    def __init__(
        self,
        engine: Engine,
        plan: BenchmarkPlan,
        lookaheads: Mapping[str, LookaheadEmbeddings],
        *,
        state: str | Path | None = None,
        gguf: str | Path | None = None,
    ) -> None:
        missing = {c.embeddings for c in plan.contestants if c.embeddings} - set(lookaheads)
        if missing:
            raise PlanError(f"No look-ahead embeddings are loaded for {', '.join(sorted(missing))}.")
        model = engine.model
        self.engine, self.model, self.plan = engine, model, plan
        self.samples: list[Sample] = []
        self.roofline: Roofline | None = None
        self._ids = {(p.set, p.title): tuple(prompt_ids(p, model)) for p in plan.prompts}
        longest = max(map(len, self._ids.values()))
        if longest + plan.new_tokens > model.capabilities.context_length:
            raise PlanError(
                f"The longest prompt has {longest} tokens and {plan.new_tokens} new ones are asked for, but "
                f"{model.name} has room for {model.capabilities.context_length}. Ask for fewer tokens."
            )
        decoders = DecoderRunner(engine, lookaheads)
        self._runners: dict[Source, Runner] = {Source.OURS: decoders, Source.TRANSFORMERS: decoders}
        sources = {c.source for c in plan.contestants}
        if Source.LLAMA_CPP in sources:
            if gguf is None:
                raise PlanError("llama.cpp needs the model as a GGUF file; name it, or leave llama.cpp out.")
            self._runners[Source.LLAMA_CPP] = LlamaCppRunner(gguf, model, context=longest + plan.new_tokens + 8)
        self._state = StateFile(state, self._header(lookaheads)) if state is not None else None

    def _header(self, lookaheads: Mapping[str, LookaheadEmbeddings]) -> JsonDict:
        from pass_core.records.runs import describe_lookahead

        used = {c.embeddings for c in self.plan.contestants if c.embeddings}
        return {
            "format": "pass-benchmark-state",
            "model": self.model.fingerprint,
            "device": str(self.model.device),
            "dtype": str(self.model.dtype),
            "embeddings": {label: describe_lookahead(lookaheads[label]).hash for label in sorted(used)},
            **self.plan.as_dict(),
        }

    def run(self, cancel: CancelToken | None = None) -> Iterator[BenchmarkEvent]:
        """Measure; yields progress and results. Cancelling ends it with what is done (no exception)."""
        cancel = cancel or CancelToken()
        try:
            yield from self._run(cancel)
        except Cancelled:
            yield BenchmarkEnded(False, "cancelled")
        finally:
            if self._state is not None:
                self._state.close()

    def _run(self, cancel: CancelToken) -> Iterator[BenchmarkEvent]:
        known = self._resumed()
        for sample in known.values():
            self.samples.append(sample)
            yield SampleMeasured(sample)
        rounds = self.plan.rounds
        contestants = self.plan.contestants
        total = len(rounds) * len(contestants)
        if len(known) < total:
            yield from self._warm_up(cancel)
        if self.plan.roofline:
            yield Progress("Measuring memory bandwidth and call costs", 0)
            self.roofline = measure_roofline(self.engine, cancel=cancel)
            yield RooflineMeasured(self.roofline)
        started = time.monotonic()
        measured = 0
        for number, turn in enumerate(rounds):
            if self._over_time(started, measured):
                yield BenchmarkEnded(False, "the time given was over")
                return
            # A different contestant goes first in every round, so that no one always runs on a warmer machine.
            shift = number % len(contestants)
            for contestant in (*contestants[shift:], *contestants[:shift]):
                cancel.raise_if_cancelled()
                sample = self._measure(contestant, turn, known, cancel)
                if sample is None:
                    continue
                measured += 1
                self.samples.append(sample)
                if self._state is not None:
                    self._state.add(sample.as_dict())
                yield SampleMeasured(sample)
                done = len(self.samples)
                left = (time.monotonic() - started) / measured * (total - done)
                if self.plan.minutes is not None:
                    left = min(left, max(0.0, self.plan.minutes * 60 - (time.monotonic() - started)))
                yield Progress("Measuring", done, total, "runs", left)
        yield BenchmarkEnded(True)

    def _over_time(self, started: float, measured: int) -> bool:
        minutes = self.plan.minutes
        return minutes is not None and measured > 0 and time.monotonic() - started >= minutes * 60

    def _resumed(self) -> dict[tuple[str, str, str, float, int], Sample]:
        samples = (Sample.from_dict(raw) for raw in (self._state.done if self._state is not None else []))
        return {s.key: s for s in samples}

    def _warm_up(self, cancel: CancelToken) -> Iterator[BenchmarkEvent]:
        """Run every contestant once without counting it: caches, compilers, cost tables."""
        for done, contestant in enumerate(self.plan.contestants):
            yield Progress("Warming up", done, len(self.plan.contestants), "strategies")
            cancel.raise_if_cancelled()
            sampling = self.plan.sampling(self.plan.temperatures[-1])
            ids = self._ids[self.plan.prompts[0].set, self.plan.prompts[0].title]
            job = Job(ids, sampling, self.plan.seed, min(WARM_UP_TOKENS, self.plan.new_tokens), True)
            self._runners[contestant.source](contestant, job, lambda: cancel.cancelled)

    def _measure(
        self,
        contestant: Contestant,
        turn: Round,
        known: Mapping[tuple[str, str, str, float, int], Sample],
        cancel: CancelToken,
    ) -> Sample | None:
        prompt = turn.prompt
        if (contestant.label, prompt.set, prompt.title, turn.temperature, turn.repeat) in known:
            return None
        job = Job(
            self._ids[prompt.set, prompt.title],
            self.plan.sampling(turn.temperature),
            self.plan.seed + turn.repeat,
            self.plan.new_tokens,
            self.plan.ignore_eos,
        )
        ask: Callable[[], bool] = lambda: cancel.cancelled  # noqa: E731
        work = OtherWork()
        measurement = self._runners[contestant.source](contestant, job, ask)
        others = work.processors()
        if measurement.cancelled:
            raise Cancelled("cancelled by the user")
        return Sample(contestant.label, prompt.set, prompt.title, turn.temperature, turn.repeat, measurement, others)
