"""What a comparison says: speed-up with its spread, and whether and why the texts part. No Qt here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from app.widgets.text_format import probability_text, seconds_text, token_text
from pass_core.decoding.events import Candidate, StepEvent, StopReason, TokenEvent
from pass_core.decoding.summary import Summary, summarize
from pass_core.evaluation.machine_load import machine_load
from pass_core.settings import RunSettings, Verification

LOW_PRECISION = frozenset({"bfloat16", "float16"})
NEAR_TIE = 0.05
"""Scores (log p + g) this close are decided by rounding in low precision: bfloat16 logits step by 0.03 to 0.12."""
NEAR_TIE_FLOAT32 = 1e-3
FIRST_TOKENS_APART = 1.5
ROUNDS_TO_DOUBT = 3  # a single first token may be late by chance


class Reason(StrEnum):
    """Why two texts part."""

    SETTINGS_CHANGED = "settings changed"
    DIFFERENT_SETTINGS = "different settings"
    DIFFERENT_MODEL = "different model"
    REJECTION = "rejection rule"
    NEAR_TIE = "near tie"
    LOW_PRECISION = "low precision"
    OTHER_IMPLEMENTATION = "other implementation"
    ENDED_EARLY = "ended early"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PaneRun:
    """One recorded run of one pane.

    Attributes:
        steps: its events.
        settings: at the start.
        seed, prompt: of the run.
        model: fingerprint of the model; dtype: "float32", "bfloat16".
        external: made by another implementation, which draws random numbers of its own.
        memory: most bytes in use during the run (on the model's device, or of the process); None where unknown.
        others: processors that other programs kept busy meanwhile; None where unknown.
    """

    steps: tuple[StepEvent, ...]
    settings: RunSettings
    seed: int = 0
    prompt: str = ""
    model: str = ""
    dtype: str = ""
    external: bool = False
    memory: int | None = None
    others: float | None = None

    @property
    def tokens(self) -> tuple[TokenEvent, ...]:
        """All emitted tokens."""
        return tuple(t for s in self.steps for t in s.tokens)

    @property
    def summary(self) -> Summary:
        return summarize(self.steps)


@dataclass(frozen=True, slots=True)
class Exactness:
    """Whether two runs wrote the same tokens.

    Attributes:
        identical: same tokens, same length.
        tokens: how many agree from the start.
        a, b: the tokens at the divergence, None where a text had ended.
        p_a_of_b, p_b_of_a: probability that run A gave to B's token, and the other way round, where known.
        reason, explanation: why they part; None and "" when identical.
    """

    identical: bool
    tokens: int
    a: TokenEvent | None = None
    b: TokenEvent | None = None
    p_a_of_b: float | None = None
    p_b_of_a: float | None = None
    reason: Reason | None = None
    explanation: str = ""

    @property
    def badge(self) -> str:
        """ "identical (128 tokens)", or "diverges at token 17"."""
        if self.identical:
            return f"identical ({self.tokens} tokens)"
        return f"diverges at token {self.tokens + 1}"

    @property
    def candidates(self) -> str:
        """Both tokens at the divergence, each with the probability that either run gave it."""
        if self.identical:
            return ""
        return f"A: {_side(self.a, self.p_b_of_a)}    B: {_side(self.b, self.p_a_of_b)}"


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured several times: its median, and the least and most."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises:
        ValueError: no values.
        """
        if not values:
            raise ValueError("a spread needs at least one value")
        return cls(median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class PaneVerdict:
    """The figures of one pane over its repeats."""

    tokens_per_second: Spread
    tokens_per_call: float
    acceptance: float | None
    proposed: int
    calls: int
    first_token: Spread
    memory: int | None


@dataclass(frozen=True, slots=True)
class ComparisonVerdict:
    """What the strip shows.

    Attributes:
        a, b: figures of each pane.
        speed_up: seconds per token of A / seconds per token of B, one ratio per round; above 1 means that B is faster.
        exactness: of the first round; a divergence in any later round replaces it.
        void: why the comparison does not count, "" when it does.
        busy: what makes its times doubtful, "" when nothing does.
    """

    a: PaneVerdict
    b: PaneVerdict
    speed_up: Spread | None
    exactness: Exactness
    void: str = ""
    busy: str = ""


def judge(rounds_a: Sequence[PaneRun], rounds_b: Sequence[PaneRun], void: str = "") -> ComparisonVerdict:
    """The verdict over the finished rounds.

    Raises:
        ValueError: a pane has no run.
    """
    ratios = [
        seconds_per_token(a.summary) / seconds_per_token(b.summary)
        for a, b in zip(rounds_a, rounds_b)
        if a.summary.new_tokens and b.summary.new_tokens and seconds_per_token(b.summary) > 0
    ]
    results = [compare(a, b) for a, b in zip(rounds_a, rounds_b)]
    exactness = next((r for r in results if not r.identical), results[0])
    return ComparisonVerdict(
        _pane(rounds_a),
        _pane(rounds_b),
        Spread.of(ratios) if ratios else None,
        exactness,
        void or _changed(rounds_a, rounds_b),
        busy_sentence(rounds_a, rounds_b),
    )


def busy_sentence(rounds_a: Sequence[PaneRun], rounds_b: Sequence[PaneRun]) -> str:
    """What makes the times doubtful: other work on the machine, or first tokens that differ though both sides read
    the same prompt; "" when nothing does.
    """
    load = machine_load([r.others for r in (*rounds_a, *rounds_b) if r.others is not None])
    if load is not None and load.busy:
        return load.sentence()
    if any(r.external for r in (*rounds_a, *rounds_b)):
        return ""
    first = sorted(median(r.summary.time_to_first_token for r in rounds) for rounds in (rounds_a, rounds_b))
    if len(rounds_a) >= ROUNDS_TO_DOUBT and first[1] > FIRST_TOKENS_APART * first[0]:
        return (
            f"Both sides read the same prompt, yet one took {seconds_text(first[1])} to its first token and the other "
            f"{seconds_text(first[0])}: other work may have slowed it. Compare again on a quiet machine."
        )
    return ""


def seconds_per_token(s: Summary) -> float:
    """Decoding time per token, the prompt's processing apart; 0 without tokens."""
    return s.decode_seconds / s.new_tokens if s.new_tokens else 0.0


def compare(a: PaneRun, b: PaneRun) -> Exactness:
    """Whether two runs wrote the same tokens, and if not, where and why they part."""
    ta, tb = a.tokens, b.tokens
    agree = next((i for i, (x, y) in enumerate(zip(ta, tb)) if x.id != y.id), min(len(ta), len(tb)))
    if agree == len(ta) == len(tb):
        return Exactness(True, agree)
    x = ta[agree] if agree < len(ta) else None
    y = tb[agree] if agree < len(tb) else None
    reason, explanation = _why(a, b, agree, x, y)
    return Exactness(
        False,
        agree,
        x,
        y,
        _probability(x, y.id) if x is not None and y is not None else None,
        _probability(y, x.id) if x is not None and y is not None else None,
        reason,
        explanation,
    )


def changed_while_running(run: PaneRun, tokens: int | None = None) -> bool:
    """Whether sampling settings or rule changed during a run (up to and including the token at place `tokens`)."""
    written = 0
    for step in run.steps:
        if (
            step.settings.sampling != run.settings.sampling
            or step.settings.verification is not run.settings.verification
        ):
            return True
        written += len(step.tokens)
        if tokens is not None and written > tokens:
            return False
    return False


def score_gap(token: TokenEvent, other: int) -> float | None:
    """How far the coupled score log p + g of an emitted token lies above that of another; None where unknown."""
    mine, theirs = _candidate(token, token.id), _candidate(token, other)
    if mine is None or theirs is None or mine.noise is None or theirs.noise is None:
        return None
    if mine.p_target <= 0 or theirs.p_target <= 0:
        return None
    return math.log(mine.p_target) + mine.noise - math.log(theirs.p_target) - theirs.noise


def _why(a: PaneRun, b: PaneRun, at: int, x: TokenEvent | None, y: TokenEvent | None) -> tuple[Reason, str]:
    if a.model != b.model:
        return Reason.DIFFERENT_MODEL, "The panes ran on different models."
    if changed_while_running(a, at) or changed_while_running(b, at):
        return Reason.SETTINGS_CHANGED, "A setting was changed while a pane was running. Compare again."
    if (a.prompt, a.seed, a.settings.sampling) != (b.prompt, b.seed, b.settings.sampling):
        return Reason.DIFFERENT_SETTINGS, "The panes did not have the same prompt, seed and sampling settings."
    if x is None or y is None:
        return _ended(a if x is None else b, "A" if x is None else "B")
    greedy = a.settings.sampling.temperature == 0
    if a.external or b.external:
        return Reason.OTHER_IMPLEMENTATION, _of_transformers(a, b, greedy)
    if not greedy and (_rejects(a) or _rejects(b)):
        return Reason.REJECTION, (
            "The rejection rule draws other random numbers than plain sampling, by design: the distribution is the "
            "same, the text is not. The coupled rule gives the same text."
        )
    return _tie(a, b, x, y)


def _of_transformers(a: PaneRun, b: PaneRun, greedy: bool) -> str:
    if not greedy:
        return (
            "transformers draws random numbers of its own, so only temperature 0 can give the same text. The "
            "distribution is the same, but for ties at the edge of top-k: it keeps all of them."
        )
    low = next((r.dtype for r in (a, b) if r.dtype in LOW_PRECISION), "")
    if low:
        return (
            f"At temperature 0 both take the likeliest token, but transformers rounds otherwise, and in {low} near "
            "ties are common. Load the model in float32 to see the same text."
        )
    return (
        "At temperature 0 both take the likeliest token, but transformers rounds a little otherwise, which decides "
        "where two tokens are nearly equal."
    )


def _tie(a: PaneRun, b: PaneRun, x: TokenEvent, y: TokenEvent) -> tuple[Reason, str]:
    low = a.dtype in LOW_PRECISION or b.dtype in LOW_PRECISION
    dtype = next((d for d in (a.dtype, b.dtype) if d in LOW_PRECISION), a.dtype)
    gaps = [g for g in (score_gap(x, y.id), score_gap(y, x.id)) if g is not None]
    limit = NEAR_TIE if low else NEAR_TIE_FLOAT32
    rounding = f"in {dtype} a call of other size rounds a little differently" if dtype else "rounding decides"
    gap = min((abs(g) for g in gaps), default=None)
    if gap is not None and gap <= limit:
        shown = f"{gap:.4f}" if low else f"{gap:.6f}"
        way_out = " float32 avoids most of these." if low else ""
        return Reason.NEAR_TIE, f"A near tie: the two scores lie {shown} apart, and {rounding}.{way_out}"
    if low:
        apart = "" if gap is None else f" The scores lie {gap:.3f} apart."
        return Reason.LOW_PRECISION, (
            f"Low precision: {rounding}, and earlier cached values differ as well.{apart} "
            "Load the model in float32 to see the same text."
        )
    return (
        Reason.UNKNOWN,
        "No known reason: under the coupled rule in float32 the texts should agree. Please report it.",
    )


def _ended(ended: PaneRun, name: str) -> tuple[Reason, str]:
    stop = ended.steps[-1].stop_reason if ended.steps else None
    why = {
        StopReason.CANCELLED: "it was stopped",
        StopReason.MAX_NEW_TOKENS: "it reached its length",
        StopReason.END_OF_SEQUENCE: "it ended its text",
        StopReason.STOP_STRING: "a stop string appeared",
        StopReason.CONTEXT_FULL: "the context was full",
    }
    return (
        Reason.ENDED_EARLY,
        f"{name} ended there ({why.get(stop, 'it ended') if stop else 'it ended'}); up to it both are the same.",
    )


def _rejects(run: PaneRun) -> bool:
    return run.settings.strategy.uses_lookahead and run.settings.verification is Verification.REJECTION


def _candidate(token: TokenEvent, id_: int) -> Candidate | None:
    return next((c for c in token.top if c.id == id_), None)


def _probability(token: TokenEvent, id_: int) -> float | None:
    if token.id == id_:
        return token.p_target
    found = _candidate(token, id_)
    return None if found is None else found.p_target


def _side(token: TokenEvent | None, other: float | None) -> str:
    if token is None:
        return "ended"
    text = f"“{token_text(token)}” {_percent(token.p_target)}"
    return text if other is None else f"{text} ({_percent(other)} in the other)"


def _percent(p: float) -> str:
    return "–" if math.isnan(p) else probability_text(p)


def _pane(rounds: Sequence[PaneRun]) -> PaneVerdict:
    summaries = [r.summary for r in rounds]
    proposed = sum(s.proposed for s in summaries)
    calls = sum(s.calls for s in summaries)
    memories = [r.memory for r in rounds if r.memory is not None]
    return PaneVerdict(
        tokens_per_second=Spread.of([s.tokens_per_second for s in summaries]),
        tokens_per_call=sum(s.new_tokens for s in summaries) / calls if calls else 0.0,
        acceptance=sum(s.accepted for s in summaries) / proposed if proposed else None,
        proposed=proposed,
        calls=calls,
        first_token=Spread.of([s.time_to_first_token for s in summaries]),
        memory=max(memories) if memories else None,
    )


def _changed(rounds_a: Sequence[PaneRun], rounds_b: Sequence[PaneRun]) -> str:
    if any(changed_while_running(r) for r in (*rounds_a, *rounds_b)):
        return "a setting was changed while a pane was running"
    return ""
