"""The figures that identify a run, folded from its step events and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from pass_core.decoding.events import DraftStatus, Provenance, StepEvent, StopReason
from pass_core.settings import DecodingSettings, RunSettings


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals of a run (seconds are wall time, device synchronised; rates are 0 where nothing was counted).

    `calls` excludes the prompt's processing. `acceptance_rate` is accepted / proposed;
    `accepted_by_position[j]` and `examined_by_position[j]` count drafts of depth j+1: a depth is examined once per
    step whose walk reached it with at least one draft there, and accepted when one of them was kept.
    """

    new_tokens: int
    prompt_tokens: int
    steps: int
    calls: int
    accepted: int
    proposed: int
    prefill_seconds: float
    time_to_first_token: float
    decode_seconds: float
    tokens_per_second: float
    tokens_per_call: float
    acceptance_rate: float
    accepted_per_step: float
    accepted_by_position: tuple[int, ...]
    examined_by_position: tuple[int, ...]
    provenance: dict[str, int]
    sources: dict[str, int]
    stop_reason: str | None
    strategy: str
    verification: str
    k: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(slots=True)
class SummaryBuilder:
    """Accumulates step events into a Summary; `add` each step, read `summary()` at any time."""

    new_tokens: int = 0
    prompt_tokens: int = 0
    steps: int = 0
    calls: int = 0
    accepted: int = 0
    proposed: int = 0
    prefill_seconds: float = 0.0
    time_to_first_token: float = 0.0
    decode_seconds: float = 0.0
    stop_reason: StopReason | None = None
    settings: RunSettings | None = None
    accepted_by_position: list[int] = field(default_factory=list[int])
    examined_by_position: list[int] = field(default_factory=list[int])
    provenance: dict[str, int] = field(default_factory=lambda: {p.value: 0 for p in Provenance})
    sources: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, step: StepEvent) -> None:
        if step.prefill is not None:
            self.prompt_tokens = step.prefill.prompt_tokens
            self.prefill_seconds = step.prefill.seconds
        if self.new_tokens == 0 and step.tokens:
            self.time_to_first_token = self.prefill_seconds + self.decode_seconds + step.seconds
        self.steps += 1
        self.calls += step.calls
        self.new_tokens += len(step.tokens)
        self.accepted += step.accepted
        self.proposed += step.proposed
        self.decode_seconds += step.seconds
        self.settings = step.settings
        self.stop_reason = step.stop_reason or self.stop_reason
        for token in step.tokens:
            self.provenance[token.provenance.value] += 1
            if token.provenance is Provenance.ACCEPTED and token.source is not None:
                self.sources[token.source.value] = self.sources.get(token.source.value, 0) + 1
        for depth in {d.depth for d in step.drafts if d.status is not DraftStatus.UNREACHED}:
            self._grow(depth)
            self.examined_by_position[depth - 1] += 1
        for draft in step.drafts:
            if draft.status is DraftStatus.ACCEPTED:
                self.accepted_by_position[draft.depth - 1] += 1

    def _grow(self, depth: int) -> None:
        while len(self.accepted_by_position) < depth:
            self.accepted_by_position.append(0)
            self.examined_by_position.append(0)

    def summary(self) -> Summary:
        def ratio(a: float, b: float) -> float:
            return a / b if b else 0.0

        s = self.settings or DecodingSettings()
        return Summary(
            new_tokens=self.new_tokens,
            prompt_tokens=self.prompt_tokens,
            steps=self.steps,
            calls=self.calls,
            accepted=self.accepted,
            proposed=self.proposed,
            prefill_seconds=self.prefill_seconds,
            time_to_first_token=self.time_to_first_token,
            decode_seconds=self.decode_seconds,
            tokens_per_second=ratio(self.new_tokens, self.decode_seconds),
            tokens_per_call=ratio(self.new_tokens, self.calls),
            acceptance_rate=ratio(self.accepted, self.proposed),
            accepted_per_step=ratio(self.accepted, self.steps),
            accepted_by_position=tuple(self.accepted_by_position),
            examined_by_position=tuple(self.examined_by_position),
            provenance=dict(self.provenance),
            sources=dict(self.sources),
            stop_reason=self.stop_reason.value if self.stop_reason else None,
            strategy=s.strategy.value,
            verification=s.verification.value,
            k=s.k,
        )


def summarize(steps: Iterable[StepEvent]) -> Summary:
    """Fold finished steps into their Summary."""
    builder = SummaryBuilder()
    for step in steps:
        builder.add(step)
    return builder.summary()
