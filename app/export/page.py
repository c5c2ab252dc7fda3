"""A run as a stand-alone HTML page: coloured text, hover details, legend, both colour schemes, no network.

Without scripts every token still has its facts as a plain tool tip.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import resources
from string import Template

from app.theme.roles import DARK, LIGHT, ROLE_EXPLANATIONS, ROLE_TITLES, Theme, TokenRole, TokenStyle, Underline
from app.widgets.text_format import probability_text, seconds_text, token_text
from app.widgets.token_layout import Piece, pieces_of
from pass_core.decoding.events import StepEvent
from pass_core.records.runs import RunRecord
from pass_core.strategy_names import DESCRIPTIONS

_UNDERLINES = {
    Underline.NoUnderline: "none",
    Underline.SingleUnderline: "underline solid",
    Underline.DashUnderline: "underline dashed",
    Underline.DashDotLine: "underline dotted",
    Underline.WaveUnderline: "underline wavy",
}
_POLICY_MARK = "(policy)"


def run_page(record: RunRecord) -> str:
    """The whole HTML document of a run."""
    pieces = shown_pieces(record.steps, ghosts=True)
    template = Template((resources.files("app.export") / "page.html").read_text(encoding="utf-8"))
    title = record.title or "PASS run"
    prompt = record.typed if record.typed is not None else record.prompt
    page = template.substitute(
        policy=_POLICY_MARK,
        title=html.escape(title),
        light=_variables(LIGHT),
        dark=_variables(DARK),
        roles=_role_rules(),
        facts="".join(f"<li><span>{html.escape(k)}</span> {html.escape(v)}</li>" for k, v in _facts(record)),
        made_with=html.escape(_made_with(record)),
        legend=_legend(pieces),
        prompt=html.escape(prompt),
        text=coloured_spans(pieces),
        details=_details(pieces),
    )
    return page.replace(_POLICY_MARK, _policy(page), 1)


def _policy(page: str) -> str:
    """What a browser lets the page do: its own style and script, and nothing from the network or from the texts."""

    def digest(tag: str) -> str:
        content = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert content is not None
        return base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()

    style, script = digest("style"), digest("script")
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "base-uri 'none'; form-action 'none'"
    )


def shown_pieces(steps: Sequence[StepEvent], *, ghosts: bool) -> list[Piece]:
    """The pieces of a whole run, cut before the stop string that ended it."""
    pieces = [p for s in steps for p in pieces_of(s, ghosts=ghosts)]
    overlap = steps[-1].stop_overlap if steps else 0
    for i in range(len(pieces) - 1, -1, -1):
        if overlap <= 0:
            break
        if pieces[i].token is not None:
            kept = max(0, len(pieces[i].text) - overlap)
            overlap -= len(pieces[i].text) - kept
            pieces[i] = replace(pieces[i], text=pieces[i].text[:kept])
    return pieces


def coloured_spans(pieces: Iterable[Piece]) -> str:
    """Spans with a class per role and the facts of each token as its title."""
    out: list[str] = []
    number = 0
    for piece in pieces:
        text = html.escape(piece.text)
        if piece.token is None:
            out.append(f'<s class="ghost" title="{html.escape(_tip(piece))}">{text}</s>')
            continue
        out.append(f'<span class="{piece.role.value}" id="t{number}" title="{html.escape(_tip(piece))}">{text}</span>')
        number += 1
    return "".join(out)


def clipboard_html(pieces: Iterable[Piece], theme: Theme) -> str:
    """The coloured text with inline styles, as mail programs and word processors take it."""
    spans = "".join(f'<span style="{_inline(theme.tokens[p.role])}">{html.escape(p.text)}</span>' for p in pieces)
    return f'<div style="white-space: pre-wrap; font-family: monospace">{spans}</div>'


def _inline(style: TokenStyle) -> str:
    rules = [f"color:{style.color}"]
    if style.fill:
        rules.append(f"background:{style.fill}")
    line = "line-through" if style.strike else _UNDERLINES[style.underline]
    if line != "none":
        rules.append(f"text-decoration:{line}")
    return ";".join(rules)


def _tip(piece: Piece) -> str:
    item = piece.token or piece.draft
    assert item is not None
    parts = [ROLE_TITLES[piece.role], token_text(item), f"id {item.id}"]
    if piece.token is not None and piece.token.draft_position is not None:
        parts.append(f"draft position {piece.token.draft_position}")
    if item.p_target is not None:
        parts.append(f"target {probability_text(item.p_target)}")
    if item.p_draft is not None:
        parts.append(f"draft {probability_text(item.p_draft)}")
    return " · ".join(parts)


def _details(pieces: Iterable[Piece]) -> str:
    """Per token: role, text, facts, and the likeliest tokens as [text, target, draft, chosen]."""
    rows: list[object] = []
    for piece in pieces:
        token = piece.token
        if token is None:
            continue
        facts = f"id {token.id} · token {token.index + 1} · step {piece.step.index + 1}"
        if token.draft_position is not None:
            facts += f" · draft position {token.draft_position}"
        own = f"target {probability_text(token.p_target)}"
        if token.p_draft is not None:
            own += f" · draft {probability_text(token.p_draft)}"
        top = [
            [
                token_text(c),
                _share(c.p_target),
                None if c.p_draft is None else _share(c.p_draft),
                c.id == token.id,
            ]
            for c in token.top
        ]
        rows.append([piece.role.value, token_text(token), facts, own, top])
    # "<" could end the script element; the escape means the same to JSON.
    return json.dumps(rows, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _share(probability: float) -> float:
    """Rounded; 0 where a file from elsewhere has no number."""
    return round(probability, 6) if math.isfinite(probability) else 0.0


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    s = record.summary
    sampling = record.settings.sampling
    facts = [
        ("strategy", DESCRIPTIONS[record.settings.strategy]),
        ("k", str(record.settings.k)),
        ("temperature", f"{sampling.temperature:g}"),
        ("top-k", str(sampling.top_k or "off")),
        *((words.rpartition(" ")[0], words.rpartition(" ")[2]) for words in sampling.described[2:]),
        ("seed", str(record.seed)),
        ("tokens", str(s.new_tokens)),
        ("calls", str(s.calls)),
        ("tokens per call", f"{s.tokens_per_call:.2f}"),
        ("tokens per second", f"{s.tokens_per_second:.1f}"),
        ("first token", seconds_text(s.time_to_first_token)),
    ]
    if record.settings.strategy.uses_lookahead:
        facts.insert(2, ("verification", record.settings.verification.value))
    if s.proposed:
        facts.append(("acceptance", f"{100 * s.acceptance_rate:.0f} % of {s.proposed} drafts"))
    return facts


def _made_with(record: RunRecord) -> str:
    e, m = record.environment, record.model
    parts = [
        f"{m.name} ({m.fingerprint})" if m.name else "",
        f"look-ahead: {record.lookahead.origin.rsplit('/', 1)[-1]} ({record.lookahead.hash})"
        if record.lookahead
        else "",
        " ".join(x for x in (e.device_name, e.dtype) if x),
        f"torch {e.torch}" if e.torch else "",
        f"transformers {e.transformers}" if e.transformers else "",
        record.created.strftime("%Y-%m-%d %H:%M UTC"),
    ]
    return " · ".join(p for p in parts if p)


def _legend(pieces: Iterable[Piece]) -> str:
    counts = Counter(p.role for p in pieces)
    return "".join(
        f'<li title="{html.escape(ROLE_EXPLANATIONS[role])}"><span class="{role.value} sample">Aa</span> '
        f"{ROLE_TITLES[role]} {counts[role]}</li>"
        for role in TokenRole
        if counts[role]
    )


def _variables(theme: Theme) -> str:
    base = ("window", "surface", "raised", "border", "border_strong", "text", "text_muted", "text_faint")
    rules = [f"--{name.replace('_', '-')}: {getattr(theme, name)};" for name in base]
    rules += [f"--target: {theme.series[0]};", f"--draft: {theme.series[2]};"]
    for role, style in theme.tokens.items():
        rules += [f"--{role.value}: {style.color};", f"--{role.value}-fill: {style.fill or 'transparent'};"]
    return " ".join(rules)


def _role_rules() -> str:
    rules: list[str] = []
    for role, style in LIGHT.tokens.items():
        line = "line-through" if style.strike else _UNDERLINES[style.underline]
        rules.append(
            f".{role.value} {{ color: var(--{role.value}); background: var(--{role.value}-fill); "
            f"text-decoration: {line}; text-decoration-thickness: 1.5px; text-underline-offset: 3px; }}"
        )
    return "\n".join(rules)
