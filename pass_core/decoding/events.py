"""Frozen events of a generation: all that the window, the command line and the benchmark may know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, overload

from pass_core.settings import RunSettings


class Provenance(StrEnum):
    """How an emitted token came to be."""

    MODEL = "model"  # an exact sample from the model's own row (plain pass, or the drafting pass of PASS)
    ACCEPTED = "accepted"  # a draft that the verification kept
    CORRECTED = "corrected"  # drafts existed for this position and none was kept: the model's token
    BONUS = "bonus"  # every draft above it was accepted: one more exact token from the same pass


class DraftSource(StrEnum):
    """Where a draft came from."""

    LOOKAHEAD = "look-ahead"
    STATE_HEAD = "state-head"
    LOOKUP = "prompt-lookup"


class DraftStatus(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"  # examined at its position, and lost
    UNREACHED = "unreached"  # an ancestor was rejected first, so it was never examined


class StopReason(StrEnum):
    MAX_NEW_TOKENS = "max_new_tokens"
    END_OF_SEQUENCE = "end_of_sequence"
    STOP_STRING = "stop_string"
    CONTEXT_FULL = "context_full"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One token of a distribution after temperature and top-k.

    Attributes:
        id: token id.
        text: the token's own text, for display (bytes that are no whole character as `<0xD7>`).
        p_target: its probability under the target distribution.
        p_draft: its probability under the draft distribution of that position, None where there was none.
        noise: coupled rule: the Gumbel noise of this position and token; None under the rejection rule.
    """

    id: int
    text: str
    p_target: float
    p_draft: float | None = None
    noise: float | None = None


class Candidates(Sequence[Candidate]):
    """Candidates that are described when somebody first looks: most texts are read without their alternatives.

    It equals the tuple of them, and copies of it are that tuple.

    Args:
        describe: makes them; it may keep nothing large alive.
    """

    __slots__ = ("_describe", "_made")

    def __init__(self, describe: Callable[[], tuple[Candidate, ...]]) -> None:
        self._describe = describe
        self._made: tuple[Candidate, ...] | None = None

    def _all(self) -> tuple[Candidate, ...]:
        made = self._made
        if made is None:
            made = self._made = self._describe()
        return made

    @overload
    def __getitem__(self, index: int) -> Candidate: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...

    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Candidates):
            return self._all() == other._all()
        return self._all() == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (list(self._all()),)


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One emitted token.

    Attributes:
        index: 0-based index among the new tokens.
        id: token id.
        bytes: the exact bytes that it adds to the text (may be part of a character, or empty for a special token).
        text: the characters that become complete with this token; the texts of all tokens concatenated are
            the text (bytes that never complete a character end as U+FFFD with the last token).
        provenance: model, accepted, corrected or bonus.
        draft_position: depth of the draft that was accepted (1 = first look-ahead position), or the depth
            at which drafting failed for a corrected token; None for model and bonus tokens.
        p_target: its probability under the target distribution.
        p_draft: its probability under the draft distribution, None where nothing was drafted.
        source: the draft's source, for accepted tokens.
        top: the target's likeliest tokens (at most 8), with the draft's probabilities beside them.
        uniform: rejection rule: the uniform number that the ratio p/q was compared with, where one was drawn.
    """

    index: int
    id: int
    bytes: bytes
    text: str
    provenance: Provenance
    draft_position: int | None
    p_target: float
    p_draft: float | None = None
    source: DraftSource | None = None
    top: Sequence[Candidate] = ()
    uniform: float | None = None


@dataclass(frozen=True, slots=True)
class DraftNode:
    """One proposed draft: a node of the step's tree (a chain is a tree without branches).

    Attributes:
        index: its number within the step, parents before children.
        parent: number of the parent draft, None directly below the root (the last committed token).
        depth: 1 for the first draft position.
        id, text: the token.
        p_target: probability under the target distribution at its place, None when the walk did
            not reach it and nobody computed it.
        p_draft: probability under the draft distribution it came from (1 for a copied draft, which nothing was drawn
            for; in trees at temperature 0 the draft distribution is that of temperature 1, which ranks siblings).
        noise: coupled rule: its Gumbel noise, None otherwise.
        uniform: rejection rule: the uniform number drawn for it, None otherwise.
        source: look-ahead or prompt lookup.
        status: accepted, rejected or unreached.
    """

    index: int
    parent: int | None
    depth: int
    id: int
    text: str
    p_target: float | None
    p_draft: float | None
    noise: float | None
    uniform: float | None
    source: DraftSource
    status: DraftStatus


@dataclass(frozen=True, slots=True)
class PrefillInfo:
    """Facts about the prompt, on the first step only.

    Attributes:
        prompt_tokens: length of the prompt.
        seconds: time of the prompt's processing (device synchronised), before the first step's own seconds.
        calls: forward passes it took.
    """

    prompt_tokens: int
    seconds: float
    calls: int


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One iteration of the decoding loop.

    Attributes:
        index: 0-based.
        tokens: emitted tokens, in order (empty only when the step reports a stop and nothing else).
        drafts: every proposed draft, parents first.
        calls: forward passes of this step.
        rows: rows of each of these passes (verification rows and look-ahead rows together).
        lookahead_rows: how many of `rows` in all were look-ahead rows.
        seconds: time of the whole step, device synchronised.
        forward_seconds: the part of `seconds` that the forward passes took.
        settings: the settings in force (k already reduced to what the look-ahead file allows), or a baseline's.
        context_length: tokens in context after the step, prompt included.
        reason: why auto chose this shape, in plain words; "" when it had nothing to choose.
        prefill: on the first step only.
        stop_reason: on the last step only.
        stop_overlap: with STOP_STRING, the number of characters at the end of the text that belong to the stop string
            or follow it. Cut them for the text before it.
    """

    index: int
    tokens: tuple[TokenEvent, ...]
    drafts: tuple[DraftNode, ...]
    calls: int
    rows: tuple[int, ...]
    lookahead_rows: int
    seconds: float
    forward_seconds: float
    settings: RunSettings
    context_length: int
    reason: str = ""
    prefill: PrefillInfo | None = None
    stop_reason: StopReason | None = None
    stop_overlap: int = 0

    @classmethod
    def stopped(
        cls,
        index: int,
        settings: RunSettings,
        context_length: int,
        reason: StopReason,
        prefill: PrefillInfo | None,
    ) -> StepEvent:
        """A last step that emits nothing but the reason."""
        return cls(
            index=index,
            tokens=(),
            drafts=(),
            calls=0,
            rows=(),
            lookahead_rows=0,
            seconds=0.0,
            forward_seconds=0.0,
            settings=settings,
            context_length=context_length,
            prefill=prefill,
            stop_reason=reason,
        )

    @property
    def proposed(self) -> int:
        """Number of drafts proposed."""
        return len(self.drafts)

    @property
    def accepted(self) -> int:
        """Number of emitted tokens that were accepted drafts."""
        return sum(t.provenance is Provenance.ACCEPTED for t in self.tokens)
