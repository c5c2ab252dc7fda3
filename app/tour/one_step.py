"""One step of a run told in four sentences: rows, drafts, walk, and what it saved. No Qt here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.widgets.text_format import visible
from pass_core.decoding.events import DraftSource, Provenance, StepEvent, TokenEvent
from pass_core.decoding.summary import summarize
from pass_core.settings import Strategy


@dataclass(frozen=True, slots=True)
class OneStep:
    """A step that shows well what PASS does.

    Attributes:
        number: 0-based place among the run's steps.
        step: its event.
        root: the token below which its drafts hang.
        rows, drafts, walk, saved: one sentence for each.
    """

    number: int
    step: StepEvent
    root: str
    rows: str
    drafts: str
    walk: str
    saved: str


def telling_step(steps: Sequence[StepEvent], prompt: str) -> OneStep | None:
    """The step that kept most drafts (the smallest tree among equals); None where nothing was drafted."""
    drafting = [i for i, s in enumerate(steps) if s.drafts and s.tokens]
    if not drafting:
        return None
    number = max(drafting, key=lambda i: (steps[i].accepted, -len(steps[i].drafts)))
    step = steps[number]
    return OneStep(
        number, step, root_of(steps, number, prompt), _rows(step), _drafts(step), _walk(step), _saved(step, steps)
    )


def root_of(steps: Sequence[StepEvent], number: int, prompt: str) -> str:
    """The token below which a step's drafts hang: the last one of the text before, or the one sampled first."""
    step = steps[number]
    if step.settings.strategy is Strategy.TWO_CALL and step.drafts and step.tokens:
        return step.tokens[0].text
    before = next((s.tokens[-1] for s in reversed(steps[:number]) if s.tokens), None)
    return before.text if before is not None else prompt[-12:]


def _rows(step: StepEvent) -> str:
    rows = sum(step.rows)
    own = rows - step.lookahead_rows
    calls = "one forward pass" if step.calls == 1 else f"{step.calls} forward passes"
    return (
        f"The step took {calls} with {_count(rows, 'row')} in all: {_count(own, 'row')} to check tokens, and "
        f"{_count(step.lookahead_rows, 'look-ahead row')} to guess what comes later."
    )


def _drafts(step: StepEvent) -> str:
    deep = max(d.depth for d in step.drafts)
    copied = sum(d.source is DraftSource.LOOKUP for d in step.drafts)
    source = (
        "from look-ahead rows" if not copied else f"{len(step.drafts) - copied} from look-ahead rows, {copied} copied"
    )
    depth = f"up to {deep} deep" if deep > 1 else "side by side" if len(step.drafts) > 1 else "one token deep"
    return f"{_count(len(step.drafts), 'draft')} hung below the last token, {depth}, {source}."


def _walk(step: StepEvent) -> str:
    kept = [t for t in step.tokens if t.provenance is Provenance.ACCEPTED]
    last = step.tokens[-1]
    names = ", ".join(_quoted(t) for t in kept)
    first = f"The model agreed with {names}: accepted. " if kept else "The model agreed with no draft. "
    ends = {
        Provenance.CORRECTED: f"Then no draft was right, and the model's own {_quoted(last)} stands in its place.",
        Provenance.BONUS: f"No draft was left, and the last row gave {_quoted(last)} as a bonus.",
    }
    return first + ends.get(last.provenance, "The text ended there.")


def _saved(step: StepEvent, steps: Sequence[StepEvent]) -> str:
    s = summarize(steps)
    written = len(step.tokens)
    here = f"{_count(written, 'token')} for {_count(step.calls, 'forward pass', 'forward passes')}"
    return (
        f"That is {here}, where plain decoding needs {written}. The whole run took {s.calls} for {s.new_tokens} "
        "tokens. The text is the same either way."
    )


def _quoted(token: TokenEvent) -> str:
    return f"“{visible(token.text)}”"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"
