"""Contestants of a benchmark: ways of decoding, the job that each gets, and what a run of it took."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pass_core.settings import BaselineSettings, DecodingSettings, RunSettings, SamplingSettings, Strategy, Verification


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
        ignore_eos: continue past end-of-sequence tokens.
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
        calls: forward passes of the timed part.
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


def settings_of(contestant: Contestant, sampling: SamplingSettings) -> RunSettings:
    """The settings of a contestant of ours or of transformers'."""
    if contestant.source is Source.TRANSFORMERS:
        return BaselineSettings(k=contestant.k, sampling=sampling)
    return DecodingSettings(
        strategy=Strategy(contestant.strategy),
        k=contestant.k,
        sampling=sampling,
        verification=contestant.verification,
        auto=contestant.auto,
        prompt_lookup=contestant.prompt_lookup,
    )
