"""What a benchmark times: our strategies, transformers, llama.cpp; each runs one prompt and measures itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import torch

from pass_core.decoding.summary import SummaryBuilder
from pass_core.engine import Engine
from pass_core.evaluation.baselines.transformers_generate import as_transformers_made_it, generation_config
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy, Verification

LOOKUP_TOKENS = 10
"""Tokens that transformers' prompt lookup proposes at a time (its documentation's example)."""


class Source(StrEnum):
    """Whose code decodes."""

    OURS = "ours"
    TRANSFORMERS = "transformers"
    LLAMA_CPP = "llama.cpp"


GENERATE = "generate"
GENERATE_LOOKUP = "generate-prompt-lookup"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way of decoding that is compared with others.

    Attributes:
        source: ours, transformers or llama.cpp.
        strategy: a Strategy's value for ours; "generate" or "generate-prompt-lookup" for the others.
        k: look-ahead steps, or tokens that prompt lookup proposes; 0 for plain decoding.
        embeddings: label of the look-ahead file in use, "" where none is.
        prompt_lookup: ours: n-gram matches are merged into the tree.
        verification: ours: the rule.
        auto: ours: the engine chooses the tree from measured costs.
    """

    source: Source
    strategy: str
    k: int = 0
    embeddings: str = ""
    prompt_lookup: bool = False
    verification: Verification = Verification.COUPLED
    auto: bool = True

    @property
    def label(self) -> str:
        """Short name for tables, unique among contestants."""
        if self.source is not Source.OURS:
            names = {GENERATE: "generate", GENERATE_LOOKUP: "prompt lookup"}
            return f"{self.source.value} {names.get(self.strategy, self.strategy)}"
        words = [self.strategy]
        if self.k:
            words.append(f"k={self.k}")
        if self.embeddings:
            words.append(self.embeddings)
        if self.prompt_lookup:
            words.append("+ lookup")
        if self.verification is Verification.REJECTION:
            words.append("rejection")
        if self.k and not self.auto and self.strategy == Strategy.FUSED.value:
            words.append("fixed")
        return " ".join(words)

    @property
    def is_baseline(self) -> bool:
        """Whether it is our own plain decoding."""
        return self.source is Source.OURS and self.strategy == Strategy.AUTOREGRESSIVE.value

    @property
    def is_transformers(self) -> bool:
        """Whether it is transformers' plain generate."""
        return self.source is Source.TRANSFORMERS and self.strategy == GENERATE


BASELINE = Contestant(Source.OURS, Strategy.AUTOREGRESSIVE.value)


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt with its sampling settings.

    Attributes:
        ids: token ids of the prompt.
        sampling, seed: as in decode.
        max_new_tokens: where it ends at the latest.
        ignore_eos: go on past end-of-sequence tokens.
    """

    ids: tuple[int, ...]
    sampling: SamplingSettings
    seed: int
    max_new_tokens: int
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of one contestant took.

    Attributes:
        new_tokens: tokens written.
        timed_tokens: those of them that `decode_seconds` covers (others' first tokens belong to their prefill).
        calls: forward calls of the timed part.
        steps: iterations of the timed part.
        accepted, proposed: drafts (0 where the source does not tell).
        prefill_seconds: the prompt's processing, up to the first token for sources that do not separate the two.
        decode_seconds: device-synchronised time of the timed part.
        accepted_by_position, examined_by_position: drafts by depth, as in Summary.
        text_hash: of the token ids, to see who wrote the same text.
        cancelled: it was stopped on the way and does not count.
    """

    new_tokens: int
    timed_tokens: int
    calls: int
    steps: int
    accepted: int
    proposed: int
    prefill_seconds: float
    decode_seconds: float
    accepted_by_position: tuple[int, ...] = ()
    examined_by_position: tuple[int, ...] = ()
    text_hash: str = ""
    cancelled: bool = False

    @property
    def ms_per_token(self) -> float | None:
        """Milliseconds per timed token; None where nothing was timed."""
        return 1000 * self.decode_seconds / self.timed_tokens if self.timed_tokens and self.decode_seconds else None


class Runner(Protocol):
    """Runs one prompt with one contestant's settings."""

    def __call__(self, contestant: Contestant, job: Job, cancelled: Callable[[], bool]) -> Measurement: ...


class SourceUnavailable(RuntimeError):
    """A contestant cannot run here; the message says what is missing."""


def text_hash(ids: Sequence[int]) -> str:
    """16 hex digits over token ids."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()[:16]


def decoding_settings(contestant: Contestant, sampling: SamplingSettings) -> DecodingSettings:
    """Our engine's settings for one of our contestants."""
    return DecodingSettings(
        strategy=Strategy(contestant.strategy),
        k=contestant.k,
        sampling=sampling,
        verification=contestant.verification,
        auto=contestant.auto,
        prompt_lookup=contestant.prompt_lookup,
    )


class OurRunner:
    """Our engine; every figure comes from its step events."""

    def __init__(self, engine: Engine, lookaheads: Mapping[str, LookaheadEmbeddings]) -> None:
        self._engine, self._lookaheads = engine, lookaheads

    def __call__(self, contestant: Contestant, job: Job, cancelled: Callable[[], bool]) -> Measurement:
        builder = SummaryBuilder()
        ids: list[int] = []
        was_cancelled = False
        for step in self._engine.decode(
            job.ids,
            decoding_settings(contestant, job.sampling),
            lookahead=self._lookaheads.get(contestant.embeddings),
            stop=StopConditions(max_new_tokens=job.max_new_tokens, ignore_eos=job.ignore_eos),
            seed=job.seed,
            cancelled=cancelled,
        ):
            builder.add(step)
            ids += [t.id for t in step.tokens]
            was_cancelled = step.stop_reason is not None and step.stop_reason.value == "cancelled"
        s = builder.summary()
        return Measurement(
            new_tokens=s.new_tokens,
            timed_tokens=s.new_tokens,
            calls=s.calls,
            steps=s.steps,
            accepted=s.accepted,
            proposed=s.proposed,
            prefill_seconds=s.prefill_seconds,
            decode_seconds=s.decode_seconds,
            accepted_by_position=s.accepted_by_position,
            examined_by_position=s.examined_by_position,
            text_hash=text_hash(ids),
            cancelled=was_cancelled,
        )


class TransformersRunner:
    """transformers' own generate on the same weights and dtype: plain, or with its prompt lookup."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def __call__(self, contestant: Contestant, job: Job, cancelled: Callable[[], bool]) -> Measurement:
        lookup = LOOKUP_TOKENS if contestant.strategy == GENERATE_LOOKUP else 0
        output, marks = hf_generate(self._model, job, lookup=lookup, cancelled=cancelled)
        prompt = len(job.ids)
        (start, _), (first, first_length) = marks[0], marks[1]
        last = marks[-1][0]
        calls = len(marks) - 2
        timed = len(output) - (first_length - prompt)
        return Measurement(
            new_tokens=len(output),
            timed_tokens=timed,
            calls=calls,
            steps=calls,
            accepted=timed - calls if lookup else 0,
            proposed=0,
            prefill_seconds=first - start,
            decode_seconds=last - first,
            text_hash=text_hash(output),
            cancelled=cancelled(),
        )


def hf_generate(
    model: LanguageModel, job: Job, *, lookup: int = 0, cancelled: Callable[[], bool] | None = None
) -> tuple[list[int], list[tuple[float, int]]]:
    """The new token ids, and (clock, length so far) before the prompt and after every iteration, synchronised."""
    from transformers import StoppingCriteria, StoppingCriteriaList

    device = model.device
    marks: list[tuple[float, int]] = []

    def mark(length: int) -> None:
        if device.type != "cpu":
            torch.get_device_module(device).synchronize(device)
        marks.append((time.perf_counter(), length))

    class Clock(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> Any:
            mark(int(input_ids.shape[1]))
            stop = cancelled is not None and cancelled()
            return torch.full((input_ids.shape[0],), stop, dtype=torch.bool, device=input_ids.device)

    config = generation_config(
        job.sampling,
        new_tokens=job.max_new_tokens,
        eos=[] if job.ignore_eos else sorted(model.eos_token_ids),
        lookup=lookup,
    )
    ids = torch.tensor([list(job.ids)], device=device)
    torch.manual_seed(job.seed)
    mark(len(job.ids))
    with as_transformers_made_it(model):
        output: Any = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([Clock()]),
        )
    return [int(i) for i in output[0, len(job.ids) :].tolist()], marks
