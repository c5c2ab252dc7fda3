"""The inspector's words and numbers come from the events alone, for both rules."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from app.inspector.explain import contest_of, contests, describe_call
from app.inspector.tree_layout import EMITTED, ROOT, place
from pass_core.decoding.events import (
    Candidate,
    DraftNode,
    DraftSource,
    DraftStatus,
    Provenance,
    StepEvent,
    TokenEvent,
)
from pass_core.settings import DecodingSettings, SamplingSettings, Strategy, Verification
from tests.core.records import strategies

STEPS = strategies.example_steps()


def test_coupled_shows_noise_and_the_two_winners() -> None:
    (contest,) = contests(STEPS[1])
    assert contest.title == "Corrected"
    was, is_ = contest.rows
    assert (was.text, is_.text) == (" was", " is")
    assert was.target_score == pytest.approx(math.log(0.5) + 0.5)
    assert is_.target_score == pytest.approx(math.log(0.25) + 2.0)
    assert is_.draft_score == pytest.approx(math.log(0.125) + 2.0)
    assert (is_.target_winner, was.target_winner) == (True, False)
    assert (was.draft_winner, is_.draft_winner) == (True, False)
    assert (was.drafted, is_.drafted) == (True, False)
    assert (was.emitted, is_.emitted) == (False, True)
    assert "−1.39 + 2.00 = 0.61" in contest.arithmetic[0]
    assert "“·was”" in contest.verdict
    assert "“·is”" in contest.verdict


def test_every_provenance_is_explained() -> None:
    titles = [c.title for s in STEPS for c in contests(s)]
    assert titles == ["Sampled", "Accepted", "Corrected", "Accepted", "Bonus"]
    copied = contests(STEPS[2])[0]
    assert "copied from earlier text" in copied.verdict


def test_a_contest_holds_only_the_drafts_of_its_place_in_the_tree() -> None:
    step = tree_step()
    first, second, bonus = contests(step)
    assert [d.index for d in first.drafts] == [0, 1]
    assert [d.index for d in second.drafts] == [2, 3]  # not 4, which hangs below the rejected 1
    assert bonus.drafts == ()
    assert contest_of(step, step.tokens[1]) == 1
    assert contest_of(step, step.drafts[3]) == 1
    assert contest_of(step, None) == 0


@pytest.mark.parametrize(("number", "accepted"), [(0.79, True), (0.81, False)])
def test_rejection_shows_ratio_and_uniform(number: float, accepted: bool) -> None:
    settings = DecodingSettings(strategy=Strategy.TWO_CALL, k=1, verification=Verification.REJECTION)
    status = DraftStatus.ACCEPTED if accepted else DraftStatus.REJECTED
    draft = DraftNode(0, None, 1, 5, "a", 0.4, 0.5, None, number, DraftSource.LOOKAHEAD, status)
    emitted = TokenEvent(
        0, 5 if accepted else 6, b"a", "a", Provenance.ACCEPTED if accepted else Provenance.CORRECTED, 1, 0.4, 0.5,
        uniform=number,
    )  # fmt: skip
    step = StepEvent(0, (emitted,), (draft,), 2, (2, 2), 1, 0.1, 0.1, settings, 9)
    (contest,) = contests(step)
    assert "0.4000 / 0.5000 = 0.800" in contest.arithmetic[0]
    assert f"{number:.4f} {'<' if accepted else '≥'} 0.8000" in contest.arithmetic[1]
    assert contest.title == ("Accepted" if accepted else "Corrected")
    assert any("max(0, p − q)" in line for line in contest.arithmetic) is not accepted


def test_greedy_needs_no_random_number() -> None:
    settings = DecodingSettings(sampling=SamplingSettings(temperature=0.0))
    token = TokenEvent(0, 1, b"a", "a", Provenance.MODEL, None, 1.0, top=(Candidate(1, "a", 1.0),))
    (contest,) = contests(StepEvent(0, (token,), (), 1, (1,), 0, 0.1, 0.1, settings, 5))
    assert contest.arithmetic == (
        "temperature 0: the target's likeliest token is the choice, without any random number",
    )
    assert not any(r.target_winner for r in contest.rows)


def test_the_cost_of_the_call_in_words() -> None:
    assert describe_call(STEPS[0]) == [
        "2 calls",
        "6 rows (4 tokens + 2 look-ahead)",
        "500.0 ms (250.0 ms in the model)",
        "250.0 ms per token",
        "context 6",
    ]


def test_the_tree_is_placed_without_overlap_and_its_path_is_lit() -> None:
    nodes = {n.key: n for n in place(tree_step())}
    assert {n.key for n in nodes.values() if n.lit} == {ROOT, 0, 2, EMITTED}
    assert nodes[EMITTED].parent == 2
    assert nodes[EMITTED].token is not None
    assert nodes[EMITTED].token.provenance is Provenance.BONUS
    assert [nodes[k].column for k in (ROOT, 0, 1, 2, 3, 4, EMITTED)] == [0, 1, 1, 2, 2, 2, 3]
    for column in range(4):
        rows = sorted(n.row for n in nodes.values() if n.column == column)
        assert all(b - a >= 1 for a, b in pairwise(rows))
    for n in nodes.values():
        below = [c.row for c in nodes.values() if c.parent == n.key]
        assert not below or min(below) <= n.row <= max(below)


def test_a_plain_step_has_its_token_below_the_root() -> None:
    step = replace(STEPS[0], tokens=STEPS[0].tokens[:1], drafts=())
    assert [(n.key, n.parent, n.column) for n in place(step)] == [(ROOT, None, 0), (EMITTED, ROOT, 1)]
    assert [n.key for n in place(replace(step, tokens=()))] == [ROOT]


def tree_step() -> StepEvent:
    """Two branches: 0 (kept) over 2 (kept) and 3, 1 over 4; then a bonus."""

    def draft(index: int, parent: int | None, depth: int, status: DraftStatus) -> DraftNode:
        q = 0.5 / (index + 1)
        return DraftNode(
            index, parent, depth, 10 + index, f"d{index}", 0.25, q, 0.5, None, DraftSource.LOOKAHEAD, status
        )

    kept, lost, unseen = DraftStatus.ACCEPTED, DraftStatus.REJECTED, DraftStatus.UNREACHED
    drafts = (
        draft(0, None, 1, kept),
        draft(1, None, 1, lost),
        draft(2, 0, 2, kept),
        draft(3, 0, 2, lost),
        draft(4, 1, 2, unseen),
    )
    tokens = (
        TokenEvent(0, 10, b"d0", "d0", Provenance.ACCEPTED, 1, 0.25, 0.5, DraftSource.LOOKAHEAD),
        TokenEvent(1, 12, b"d2", "d2", Provenance.ACCEPTED, 2, 0.25, 0.2, DraftSource.LOOKAHEAD),
        TokenEvent(2, 30, b"!", "!", Provenance.BONUS, None, 0.5),
    )
    return StepEvent(0, tokens, drafts, 1, (9,), 3, 0.1, 0.1, DecodingSettings(k=2), 20)
