"""What a step decided and why, worked out from its event alone. No Qt here.

A *contest* is one position of the walk: the drafts that competed there, the scores by which the rule decided, and the
token that was emitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from app.widgets.text_format import token_text, visible
from pass_core.decoding.events import DraftNode, DraftSource, DraftStatus, Provenance, StepEvent, TokenEvent
from pass_core.settings import Baseline, Strategy, Verification


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One candidate token of a contest.

    Attributes:
        p, q: target and draft probability; None where the event does not carry it.
        noise: the shared Gumbel noise (coupled rule).
        target_score, draft_score: log p + g and log q + g; None without noise or probability.
        drafted: whether it was proposed here.
        emitted: whether it is the token that entered the text.
        target_winner, draft_winner: whether it has the largest score of its column.
    """

    id: int
    text: str
    p: float | None
    q: float | None
    noise: float | None
    target_score: float | None
    draft_score: float | None
    drafted: bool
    emitted: bool
    target_winner: bool = False
    draft_winner: bool = False


@dataclass(frozen=True, slots=True)
class Contest:
    """One position of a step.

    Attributes:
        number: 0-based place among the step's tokens.
        token: what was emitted.
        drafts: what competed for the position, the draft model's favourite first.
        rows: the candidates with their scores, likeliest first.
        title: a few words; verdict: how it came out; arithmetic: the rule's calculation, line by line.
    """

    number: int
    token: TokenEvent
    drafts: tuple[DraftNode, ...]
    rows: tuple[ScoreRow, ...]
    title: str
    verdict: str
    arithmetic: tuple[str, ...]


_SOURCES = {
    DraftSource.LOOKUP: " (copied from earlier text)",
    DraftSource.STATE_HEAD: " (from the last token's state, without look-ahead rows)",
}


def path_of(step: StepEvent) -> list[int]:
    """Indices of the accepted drafts, from the root down."""
    return [d.index for d in sorted(step.drafts, key=lambda d: d.depth) if d.status is DraftStatus.ACCEPTED]


def contests(step: StepEvent) -> list[Contest]:
    """Every position of a step, in order."""
    out: list[Contest] = []
    path = path_of(step)
    for number, token in enumerate(step.tokens):
        depth = token.draft_position
        drafts: tuple[DraftNode, ...] = ()
        if depth is not None:
            parent = path[depth - 2] if depth >= 2 and depth - 2 < len(path) else None
            drafts = tuple(
                sorted(
                    (d for d in step.drafts if d.depth == depth and d.parent == parent),
                    key=lambda d: -(d.p_draft if d.p_draft is not None else -1.0),
                )
            )
        rows = _rows(token, drafts)
        title, verdict, arithmetic = _explain(step, token, drafts, rows)
        out.append(Contest(number, token, drafts, rows, title, verdict, arithmetic))
    return out


def contest_of(step: StepEvent, token: TokenEvent | DraftNode | None) -> int:
    """Number of the contest that a token or draft of this step belongs to; 0 where none is meant."""
    if isinstance(token, TokenEvent):
        return next((i for i, t in enumerate(step.tokens) if t.index == token.index), 0)
    if isinstance(token, DraftNode):
        return next((i for i, t in enumerate(step.tokens) if t.draft_position == token.depth), 0)
    return 0


def describe_call(step: StepEvent) -> list[str]:
    """The cost of a step in plain words, one fact each."""
    rows = sum(step.rows)
    calls = "1 call" if step.calls == 1 else f"{step.calls} calls"
    facts = [calls]
    if rows:
        shares = f"{rows} rows" if rows != 1 else "1 row"
        if step.lookahead_rows:
            shares += f" ({rows - step.lookahead_rows} tokens + {step.lookahead_rows} look-ahead)"
        facts.append(shares)
    facts.append(f"{1000 * step.seconds:.1f} ms ({1000 * step.forward_seconds:.1f} ms in the model)")
    if step.tokens:
        facts.append(f"{1000 * step.seconds / len(step.tokens):.1f} ms per token")
    facts.append(f"context {step.context_length}")
    return facts


def log_score(p: float | None, noise: float | None) -> float | None:
    """log p + g; minus infinity for p = 0; None where either is unknown."""
    if p is None or noise is None or math.isnan(p):
        return None
    return (math.log(p) if p > 0 else -math.inf) + noise


def _rows(token: TokenEvent, drafts: Iterable[DraftNode]) -> tuple[ScoreRow, ...]:
    rows: dict[int, ScoreRow] = {}
    proposed = {d.id: d for d in drafts}
    for c in token.top:
        rows[c.id] = _row(c.id, c.text, c.p_target, c.p_draft, c.noise, c.id in proposed, c.id == token.id)
    for d in proposed.values():
        known = rows.get(d.id)
        q = d.p_draft if d.p_draft is not None else (known.q if known else None)
        p = d.p_target if d.p_target is not None else (known.p if known else None)
        noise = d.noise if d.noise is not None else (known.noise if known else None)
        rows[d.id] = _row(d.id, d.text, p, q, noise, True, d.id == token.id)
    if token.id not in rows:
        rows[token.id] = _row(
            token.id, token.text or token_text(token), token.p_target, token.p_draft, None, False, True
        )
    ordered = sorted(rows.values(), key=lambda r: -(r.p if r.p is not None and not math.isnan(r.p) else -1.0))
    return _with_winners(ordered)


def _row(
    id_: int, text: str, p: float | None, q: float | None, noise: float | None, drafted: bool, emitted: bool
) -> ScoreRow:
    return ScoreRow(id_, text, p, q, noise, log_score(p, noise), log_score(q, noise), drafted, emitted)


def _with_winners(rows: list[ScoreRow]) -> tuple[ScoreRow, ...]:
    def best(scores: list[float | None]) -> int | None:
        known = [(s, i) for i, s in enumerate(scores) if s is not None and s > -math.inf]
        return max(known)[1] if known else None

    # The emitted token is the target's winner by the rule; its noise is unknown when it is not among the likeliest.
    emitted = next(i for i, r in enumerate(rows) if r.emitted)
    coupled = any(r.noise is not None for r in rows)
    target = emitted if coupled else None
    draft = best([r.draft_score for r in rows]) if coupled else None
    return tuple(
        ScoreRow(
            r.id,
            r.text,
            r.p,
            r.q,
            r.noise,
            r.target_score,
            r.draft_score,
            r.drafted,
            r.emitted,
            i == target,
            i == draft,
        )
        for i, r in enumerate(rows)
    )


def _explain(
    step: StepEvent, token: TokenEvent, drafts: tuple[DraftNode, ...], rows: tuple[ScoreRow, ...]
) -> tuple[str, str, tuple[str, ...]]:
    name = f"“{token_text(token)}”"
    lines = _sampled_by(step, token, rows, name)
    if token.provenance is Provenance.MODEL:
        if step.settings.strategy is Strategy.TWO_CALL and step.drafts:
            return "Sampled", f"{name} is an exact sample from the model's own row of the drafting pass.", lines
        return "Sampled", f"{name} is an exact sample from the model's own row; nothing was drafted.", lines
    if token.provenance is Provenance.BONUS:
        return "Bonus", f"Every draft above was kept, so the last row of the same call gave {name} as well.", lines
    rejection = step.settings.verification is Verification.REJECTION
    accepted = token.provenance is Provenance.ACCEPTED
    if rejection and step.settings.strategy.uses_lookahead and step.settings.sampling.temperature > 0:
        return _explain_rejection(token, drafts, name, accepted)
    where = f"draft position {token.draft_position}"
    if accepted:
        source = _SOURCES.get(token.source, "") if token.source else ""
        verdict = f"{name} was drafted{source} and is the target's own choice: accepted at {where}."
        return "Accepted", verdict, lines
    names = ", ".join(f"“{token_text(d)}”" for d in drafts[:3]) + ("…" if len(drafts) > 3 else "")
    verdict = f"The target's own choice {name} was not drafted ({names or 'nothing'}): it is the correction at {where}."
    return "Corrected", verdict, lines


def _sampled_by(step: StepEvent, token: TokenEvent, rows: tuple[ScoreRow, ...], name: str) -> tuple[str, ...]:
    if step.settings.strategy is Baseline.TRANSFORMERS and step.settings.sampling.temperature > 0:
        return ("transformers draws a token at every row and keeps copied drafts while they equal the drawn ones",)
    if step.settings.sampling.temperature == 0:
        return ("temperature 0: the target's likeliest token is the choice, without any random number",)
    won = next((r for r in rows if r.emitted), None)
    if won is None or won.target_score is None or won.p is None or won.noise is None:
        if any(r.noise is not None for r in rows):
            return (f"{name} has the largest log p + g; it is not among the likeliest, so its noise is not recorded",)
        return ()
    lines = [
        f"target: log p + g = {_signed(_log(won.p))} + {_signed(won.noise)} = {_signed(won.target_score)} "
        "is the largest"
    ]
    favourite = next((r for r in rows if r.draft_winner), None)
    if favourite is not None and favourite.q is not None and favourite.noise is not None:
        draft = f"“{visible(favourite.text)}”"
        lines.append(
            f"draft: log q + g = {_signed(_log(favourite.q))} + {_signed(favourite.noise)} "
            f"= {_signed(favourite.draft_score or 0.0)} "
            f"is the largest, for {draft}"
        )
    return tuple(lines)


def _explain_rejection(
    token: TokenEvent, drafts: tuple[DraftNode, ...], name: str, accepted: bool
) -> tuple[str, str, tuple[str, ...]]:
    draft = next((d for d in drafts if d.status is not DraftStatus.UNREACHED), drafts[0] if drafts else None)
    lines: list[str] = []
    if draft is not None and draft.p_target is not None and draft.p_draft:
        ratio = draft.p_target / draft.p_draft
        lines.append(
            f"p / q = {draft.p_target:.4f} / {draft.p_draft:.4f} = {ratio:.3f}, "
            f"so “{token_text(draft)}” is kept with probability {min(1.0, ratio):.3f}"
        )
        number = draft.uniform if draft.uniform is not None else token.uniform
        if number is not None:
            relation = "<" if number < ratio else "≥"
            lines.append(f"the uniform number is {number:.4f} {relation} {min(1.0, ratio):.4f}")
    where = f"draft position {token.draft_position}"
    if accepted:
        return "Accepted", f"{name} was drafted and the rule kept it at {where}.", tuple(lines)
    lines.append("the correction is drawn from max(0, p − q), scaled to sum to 1")
    lost = f"“{token_text(draft)}” was drafted and rejected; " if draft is not None else ""
    return "Corrected", f"{lost}{name} is drawn from what the draft left over, at {where}.", tuple(lines)


def _log(p: float) -> float:
    return math.log(p) if p > 0 else -math.inf


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
