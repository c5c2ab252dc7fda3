"""From a step's tokens to its event: where the text ends and why, each token's bytes, the likeliest alternatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pass_core.decoding.events import (
    Candidate,
    Candidates,
    DraftNode,
    DraftStatus,
    PrefillInfo,
    StepEvent,
    StopReason,
    TokenEvent,
)
from pass_core.decoding.state import StepOutcome
from pass_core.decoding.tree import ROOT, Draft, Emitted
from pass_core.models.detokenizer import TextStream, TokenBytes
from pass_core.sampling.distribution import SHORT, Distribution
from pass_core.sampling.noise import gumbels
from pass_core.settings import RunSettings, StopConditions, Verification

TOP_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step needed: forward passes, the rows of each, look-ahead rows among them, seconds in forward passes."""

    calls: int
    rows: tuple[int, ...]
    lookahead_rows: int
    forward_seconds: float


class StepRecorder:
    """Turns outcomes into events: cuts a step's tokens where the text ends, says why it ends, describes them.

    Args:
        eos: end-of-sequence tokens.
        length: tokens of the prompt.
        context_length: the most tokens of prompt and text together.
    """

    def __init__(
        self, token_bytes: TokenBytes, eos: frozenset[int], stop: StopConditions, length: int, context_length: int
    ) -> None:
        self._eos = frozenset[int]() if stop.ignore_eos else eos
        self._stop_strings = stop.stop_strings
        self._stop_tokens = token_bytes.special(stop.stop_strings)
        self._keep = max((len(s) for s in stop.stop_strings), default=0)
        self._bytes = token_bytes
        self._stream = TextStream()
        self._probe = TextStream()
        self._tail = ""
        self._count = 0
        self._index = 0
        self._most = stop.max_new_tokens
        self._context_length = context_length
        self.length = length
        self.end = min(context_length, length + stop.max_new_tokens)
        self.prefill: PrefillInfo | None = PrefillInfo(length, 0.0, 0)

    @property
    def remaining(self) -> int:
        """How many tokens may still be emitted (length and context limits together)."""
        return self.end - self.length

    def record(
        self,
        outcome: StepOutcome,
        cost: StepCost,
        settings: RunSettings,
        seed: int | None,
        seconds: Callable[[], float],
    ) -> StepEvent:
        """The event of a finished step; its `stop_reason` is set where the text ends with it.

        Args:
            seed: of the shared noise, None where a decoder has random numbers of its own.
            seconds: asked last, when all else is described.
        """
        kept, reason, overlap = self._cut(outcome.emitted[: self.remaining])
        position = self.length
        self.length += kept
        if reason is None and self.length >= self.end:
            reached = self._count + kept >= self._most
            reason = StopReason.MAX_NEW_TOKENS if reached else StopReason.CONTEXT_FULL
        tokens, drafts = self._describe(outcome, kept, position, seed, settings, last=reason is not None)
        event = StepEvent(
            index=self._index,
            tokens=tokens,
            drafts=drafts,
            calls=cost.calls,
            rows=cost.rows,
            lookahead_rows=cost.lookahead_rows,
            seconds=seconds(),
            forward_seconds=cost.forward_seconds,
            settings=settings,
            context_length=self.length,
            reason=outcome.reason,
            prefill=self.prefill,
            stop_reason=reason,
            stop_overlap=overlap,
        )
        self.prefill = None
        self._index += 1
        return event

    def stopped(self, settings: RunSettings, reason: StopReason) -> StepEvent:
        """A last event that emits nothing but the reason."""
        return StepEvent.stopped(self._index, settings, self.length, reason, self.prefill)

    def ends_text(self, token: int) -> bool:
        """Whether this token is an end-of-sequence token that counts."""
        return token in self._eos

    def _cut(self, emitted: Sequence[Emitted]) -> tuple[int, StopReason | None, int]:
        """How many of the tokens belong to the text, why it ends there, and how many characters at its end are a stop
        string's."""
        for index, item in enumerate(emitted):
            if self.ends_text(item.token):
                return index + 1, StopReason.END_OF_SEQUENCE, 0
            if item.token in self._stop_tokens:
                return index + 1, StopReason.STOP_STRING, 0
            if not self._stop_strings:
                continue
            self._tail += self._probe.add(self._bytes(item.token))
            found = min((at for s in self._stop_strings if (at := self._tail.find(s)) >= 0), default=-1)
            if found >= 0:
                self._tail += self._probe.add(b"", last=True)  # a broken character at the end is shown too
                return index + 1, StopReason.STOP_STRING, len(self._tail) - found
            self._tail = self._tail[-self._keep :]
        return len(emitted), None, 0

    def _describe(
        self,
        outcome: StepOutcome,
        kept: int,
        position: int,
        seed: int | None,
        settings: RunSettings,
        *,
        last: bool,
    ) -> tuple[tuple[TokenEvent, ...], tuple[DraftNode, ...]]:
        """Describe the kept tokens and all drafts; accepted drafts beyond the cut count as unreached.

        Args:
            position: absolute position of the step's first token (its noise depends on it).
        """
        coupled = settings.verification is Verification.COUPLED and settings.sampling.temperature > 0
        shown_seed = seed if coupled else None
        emitted = outcome.emitted[:kept]
        drafts = outcome.tree.drafts
        # In a two-call step the drafts start one token after the step's first.
        skipped = len(outcome.emitted) - sum(d.status is DraftStatus.ACCEPTED for d in drafts) - 1
        first = position + skipped - 1
        noise = iter(_noise(shown_seed, [first + d.depth for d in drafts], [d.token for d in drafts]))
        tokens: list[TokenEvent] = []
        for offset, item in enumerate(emitted):
            data = self._bytes(item.token)
            tokens.append(
                TokenEvent(
                    index=self._count + offset,
                    id=item.token,
                    bytes=data,
                    text=self._stream.add(data, last=last and offset == kept - 1),
                    provenance=item.provenance,
                    draft_position=item.draft_position,
                    p_target=item.target.prob(item.token),
                    p_draft=item.draft.prob(item.token) if item.draft is not None else None,
                    source=item.source,
                    top=_top(item.target, item.draft, self._bytes, shown_seed, position + offset),
                    uniform=item.uniform,
                )
            )
        self._count += kept
        return tuple(tokens), self._drafts(drafts, kept - skipped, noise)

    def _drafts(self, drafts: Sequence[Draft], deepest: int, noise: Iterator[float | None]) -> tuple[DraftNode, ...]:
        nodes: list[DraftNode] = []
        dropped: set[int] = set()
        for index, draft in enumerate(drafts):
            status = draft.status
            if draft.depth > deepest or draft.parent in dropped:
                status = DraftStatus.UNREACHED
                dropped.add(index)
            nodes.append(
                DraftNode(
                    index=index,
                    parent=None if draft.parent == ROOT else draft.parent,
                    depth=draft.depth,
                    id=draft.token,
                    text=self._bytes.display(draft.token),
                    p_target=_prob(draft.target, draft.token),
                    p_draft=_prob(draft.distribution, draft.token),
                    noise=next(noise),
                    uniform=draft.uniform,
                    source=draft.source,
                    status=status,
                )
            )
        return tuple(nodes)


def _top(
    target: Distribution, draft: Distribution | None, shown: TokenBytes, seed: int | None, position: int
) -> Sequence[Candidate]:
    """The likeliest tokens at a position. Distributions over a whole vocabulary are not kept for later."""

    def describe() -> tuple[Candidate, ...]:
        top = target.likeliest(TOP_CANDIDATES)
        noise = _noise(seed, [position] * len(top), [i for i, _ in top])
        return tuple(
            Candidate(i, shown.display(i), p, None if draft is None else draft.prob(i), g)
            for (i, p), g in zip(top, noise)
        )

    whole = target.ids.size > SHORT or (draft is not None and draft.ids.size > SHORT)
    return describe() if whole else Candidates(describe)


def _noise(seed: int | None, positions: Sequence[int], tokens: Sequence[int]) -> Sequence[float | None]:
    """The shared noise of tokens at positions; None for each without a seed."""
    if seed is None or not tokens:
        return [None] * len(tokens)
    return gumbels(seed, positions, tokens)


def _prob(distribution: Distribution | None, token: int) -> float | None:
    if distribution is None:
        return None
    return distribution.prob(token)
