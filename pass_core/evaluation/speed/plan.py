"""What is measured: contestants, prompts, temperatures, lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pass_core.evaluation.baselines.contestant import (
    BASELINE,
    GENERATE,
    GENERATE_LOOKUP,
    Contestant,
    Source,
)
from pass_core.evaluation.baselines.llamacpp import MODES
from pass_core.evaluation.prompts import BenchmarkPrompt
from pass_core.evaluation.state import JsonDict
from pass_core.settings import LOOKUP_TOKENS, SamplingSettings, Strategy, Verification


class PlanError(ValueError):
    """A benchmark cannot be run as planned; the message says what to change."""


@dataclass(frozen=True)
class BenchmarkPlan:
    """What is measured.

    Attributes:
        contestants: compared with one another on the same prompts.
        prompts: of one or several sets.
        temperatures: each is a measurement of its own.
        top_k, top_p, min_p: of the target distribution.
        new_tokens: length of a run at most.
        repeats: times that every combination is run, with other seeds.
        seed: of the first repeat.
        ignore_eos: continue past the model's end of text, so that all runs have the same length.
        minutes: after these no new round begins; None for all rounds.
        roofline: measure bandwidth and call costs as well.
    """

    contestants: tuple[Contestant, ...]
    prompts: tuple[BenchmarkPrompt, ...]
    temperatures: tuple[float, ...] = (0.0, 0.8)
    top_k: int = 10
    top_p: float = 1.0
    min_p: float = 0.0
    new_tokens: int = 128
    repeats: int = 1
    seed: int = 0
    ignore_eos: bool = False
    minutes: float | None = None
    roofline: bool = True

    def __post_init__(self) -> None:
        if not self.contestants or not self.prompts or not self.temperatures:
            raise PlanError("A benchmark needs at least one strategy, one prompt and one temperature.")
        if len({c.label for c in self.contestants}) < len(self.contestants):
            raise PlanError("The same strategy is listed twice.")
        if self.new_tokens < 8 or self.repeats < 1:
            raise PlanError("A benchmark needs at least 8 new tokens and one repeat.")
        for temperature in self.temperatures:
            self.sampling(temperature)

    def sampling(self, temperature: float) -> SamplingSettings:
        """At one of the temperatures."""
        return SamplingSettings(temperature, self.top_k, self.top_p, self.min_p)

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the prompt sets, in order."""
        return tuple(dict.fromkeys(p.set for p in self.prompts))

    @property
    def rounds(self) -> list[Round]:
        """Prompts of all sets in turn, every temperature: a run that is cut short is still balanced."""
        by_set = [[p for p in self.prompts if p.set == name] for name in self.sets]
        depth = max(len(group) for group in by_set)
        ordered = [group[i] for i in range(depth) for group in by_set if i < len(group)]
        return [
            Round(prompt, temperature, repeat)
            for repeat in range(self.repeats)
            for prompt in ordered
            for temperature in self.temperatures
        ]

    def as_dict(self) -> JsonDict:
        """For reports and state files; the prompts' texts are left out of it."""
        more = {k: v for k, v in (("top_p", self.top_p), ("min_p", self.min_p)) if v != getattr(SamplingSettings(), k)}
        return {
            "contestants": [contestant_dict(c) for c in self.contestants],
            "prompt_sets": {name: sum(p.set == name for p in self.prompts) for name in self.sets},
            "temperatures": list(self.temperatures),
            "top_k": self.top_k,
            **more,  # left out where they are off, as in state files of before
            "new_tokens": self.new_tokens,
            "repeats": self.repeats,
            "seed": self.seed,
            "ignore_eos": self.ignore_eos,
        }


@dataclass(frozen=True, slots=True)
class Round:
    """One prompt at one temperature, once with every contestant."""

    prompt: BenchmarkPrompt
    temperature: float
    repeat: int


def contestant_dict(contestant: Contestant) -> JsonDict:
    """JSON form of a contestant."""
    return {**asdict(contestant), "source": contestant.source.value, "verification": contestant.verification.value}


def contestants_for(
    strategies: Sequence[Strategy],
    ks: Sequence[int],
    *,
    embeddings: Sequence[str] = ("best",),
    lookup: bool = False,
    verification: Verification = Verification.COUPLED,
    auto: bool = True,
    transformers: bool = True,
    transformers_lookup: bool = True,
    llama_cpp: bool = False,
) -> tuple[Contestant, ...]:
    """The usual field: our baseline first, then every strategy with every k, then the others' decoders."""
    out = [replace(BASELINE, verification=Verification.COUPLED)]
    for strategy in strategies:
        if not strategy.uses_lookahead:  # plain decoding is there already, transformers' lookup a contestant below
            continue
        for label in embeddings:
            out += [
                Contestant(Source.OURS, strategy.value, k, label, verification=verification, auto=auto) for k in ks if k
            ]
        if lookup and strategy is Strategy.FUSED and any(ks):
            out.append(
                Contestant(
                    Source.OURS, strategy.value, max(ks), embeddings[0], True, verification=verification, auto=auto
                )
            )
    if transformers:
        out.append(Contestant(Source.TRANSFORMERS, GENERATE))
        if transformers_lookup:
            out.append(Contestant(Source.TRANSFORMERS, GENERATE_LOOKUP, LOOKUP_TOKENS))
    if llama_cpp:
        out += [Contestant(Source.LLAMA_CPP, mode) for mode in MODES]
    return tuple(out)
