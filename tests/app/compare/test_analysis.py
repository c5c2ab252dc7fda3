"""Verdict and exactness, on runs made by hand: every reason, and figures that can be worked out on paper."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from app.compare.analysis import PaneRun, Reason, Spread, changed_while_running, compare, judge, score_gap
from pass_core.decoding.events import Candidate, PrefillInfo, Provenance, StepEvent, StopReason, TokenEvent
from pass_core.settings import DecodingSettings, SamplingSettings, Strategy, Verification

PLAIN = DecodingSettings(strategy=Strategy.AUTOREGRESSIVE)
FUSED = DecodingSettings(strategy=Strategy.FUSED)
GREEDY = SamplingSettings(temperature=0.0)


def run(
    ids: list[int],
    settings: DecodingSettings = PLAIN,
    *,
    seconds: float = 0.5,
    per_step: int = 1,
    stop: StopReason = StopReason.MAX_NEW_TOKENS,
    top: tuple[Candidate, ...] = (),
    **facts: object,
) -> PaneRun:
    """A run of these token ids, `per_step` tokens a call, `seconds` a call."""
    tokens = [TokenEvent(i, id_, b"x", f"t{id_}", Provenance.MODEL, None, 0.5, top=top) for i, id_ in enumerate(ids)]
    groups = [tokens[i : i + per_step] for i in range(0, len(tokens), per_step)]
    steps = [
        StepEvent(
            i, tuple(g), (), 1, (1,), 0, seconds, seconds, settings, 9 + i,
            prefill=PrefillInfo(9, 0.25, 1) if i == 0 else None,
            stop_reason=stop if i == len(groups) - 1 else None,
        )
        for i, g in enumerate(groups)
    ]  # fmt: skip
    return PaneRun(tuple(steps), settings, dtype=str(facts.pop("dtype", "float32")), **facts)  # type: ignore[arg-type]


def test_identical() -> None:
    result = compare(run([1, 2, 3]), run([1, 2, 3], FUSED, per_step=2))
    assert result.identical
    assert result.badge == "identical (3 tokens)"
    assert result.candidates == result.explanation == ""


def test_divergence_shows_both_candidates_with_probabilities() -> None:
    top_a = (Candidate(2, "t2", 0.5, None, 0.0), Candidate(7, "t7", 0.25, None, 0.69))
    top_b = (Candidate(2, "t2", 0.4, None, 0.0),)
    a, b = run([1, 2, 3], top=top_a), run([1, 7, 3], FUSED, top=top_b)
    result = compare(a, b)
    assert result.badge == "diverges at token 2"
    assert (result.tokens, result.p_a_of_b, result.p_b_of_a) == (1, 0.25, 0.4)
    assert result.candidates == "A: “t2” 50.0 % (40.0 % in the other)    B: “t7” 50.0 % (25.0 % in the other)"


def tied(gap: float) -> tuple[Candidate, ...]:
    """Tokens 2 and 7 whose coupled scores differ by `gap`."""
    return (Candidate(2, "t2", 0.5, None, 1.0 + gap), Candidate(7, "t7", 0.5, None, 1.0))


def test_the_gap_is_the_difference_of_log_p_plus_noise() -> None:
    token = run([2], top=(Candidate(2, "", 0.5, None, 1.0), Candidate(7, "", 0.25, None, 1.5))).tokens[0]
    assert score_gap(token, 7) == pytest.approx(0.6931471805599453 - 0.5)
    assert score_gap(token, 8) is None
    assert score_gap(run([2], top=(Candidate(2, "", 1.0), Candidate(7, "", 0.0))).tokens[0], 7) is None


@pytest.mark.parametrize(
    ("a", "b", "reason", "said"),
    [
        (run([1, 2]), run([1, 7], replace(FUSED, verification=Verification.REJECTION)), Reason.REJECTION, "by design"),
        (run([1, 2]), run([1, 7], FUSED, model="other"), Reason.DIFFERENT_MODEL, "different models"),
        (run([1, 2]), run([1, 7], FUSED, seed=4), Reason.DIFFERENT_SETTINGS, "same prompt, seed"),
        (run([1, 2]), run([1, 7], FUSED, external=True), Reason.OTHER_IMPLEMENTATION, "only temperature 0"),
        (
            run([1, 2], replace(PLAIN, sampling=GREEDY)),
            run([1, 7], replace(FUSED, sampling=GREEDY), external=True),
            Reason.OTHER_IMPLEMENTATION,
            "nearly equal",
        ),
        (
            run([1, 2], replace(PLAIN, sampling=GREEDY), dtype="bfloat16"),
            run([1, 7], replace(FUSED, sampling=GREEDY), dtype="bfloat16", external=True),
            Reason.OTHER_IMPLEMENTATION,
            "in bfloat16 near ties",
        ),
        (run([1, 2]), run([1], FUSED, stop=StopReason.CANCELLED), Reason.ENDED_EARLY, "B ended there (it was stopped)"),
        (run([1], stop=StopReason.END_OF_SEQUENCE), run([1, 2], FUSED), Reason.ENDED_EARLY, "A ended there (it ended"),
        (
            run([1, 2], top=tied(0.01), dtype="bfloat16"),
            run([1, 7], FUSED, dtype="bfloat16"),
            Reason.NEAR_TIE,
            "0.0100 apart, and in bfloat16",
        ),
        (
            run([1, 2], top=tied(0.5), dtype="bfloat16"),
            run([1, 7], FUSED, dtype="bfloat16"),
            Reason.LOW_PRECISION,
            "0.500 apart",
        ),
        (run([1, 2], top=tied(0.0001)), run([1, 7], FUSED), Reason.NEAR_TIE, "0.000100 apart"),
        (run([1, 2], top=tied(0.01)), run([1, 7], FUSED), Reason.UNKNOWN, "Please report"),
        (
            run([1, 2], replace(PLAIN, sampling=GREEDY)),
            run([1, 7], replace(FUSED, sampling=GREEDY, verification=Verification.REJECTION)),
            Reason.UNKNOWN,
            "Please report",
        ),
    ],
)
def test_the_reason_that_applies(a: PaneRun, b: PaneRun, reason: Reason, said: str) -> None:
    result = compare(a, b)
    assert result.reason is reason
    assert said in result.explanation


def test_a_change_counts_only_up_to_the_divergence() -> None:
    base = run([1, 2, 3], FUSED)
    hotter = replace(FUSED, sampling=SamplingSettings(temperature=1.5))
    late = replace(base, steps=(*base.steps[:2], replace(base.steps[2], settings=hotter)))
    assert changed_while_running(late)
    assert not changed_while_running(late, 1)
    assert compare(run([1, 7, 3]), late).reason is Reason.UNKNOWN
    assert compare(run([1, 2, 7]), late).reason is Reason.SETTINGS_CHANGED


def test_a_smaller_k_is_no_change_of_the_text() -> None:
    base = run([1, 2], FUSED)
    assert not changed_while_running(
        replace(base, steps=tuple(replace(s, settings=replace(FUSED, k=1)) for s in base.steps))
    )


def test_the_verdict_over_three_rounds() -> None:
    a = [run([1, 2, 3, 4], seconds=s) for s in (0.5, 0.6, 0.4)]  # 4 calls: 2.0, 2.4 and 1.6 seconds
    b = [run([1, 2, 3, 4], FUSED, seconds=s, per_step=2) for s in (0.5, 0.4, 0.4)]  # 2 calls: 1.0, 0.8, 0.8
    verdict = judge(a, b)
    assert verdict.speed_up is not None
    assert verdict.speed_up.median == pytest.approx(2.0)
    assert verdict.speed_up.low == pytest.approx(2.0)
    assert verdict.speed_up.high == pytest.approx(3.0)
    assert verdict.a.tokens_per_second.median == pytest.approx(2.0)
    assert (verdict.a.tokens_per_call, verdict.b.tokens_per_call) == (1.0, 2.0)
    assert verdict.b.first_token.median == pytest.approx(0.65)
    assert verdict.a.acceptance is None
    assert verdict.exactness.identical
    assert verdict.void == ""


def test_one_divergent_round_is_enough() -> None:
    same, other = run([1, 2], FUSED), run([1, 7], FUSED)
    assert not judge([run([1, 2])] * 3, [same, other, same]).exactness.identical


def test_a_changed_setting_voids_the_verdict() -> None:
    base = run([1, 2], FUSED)
    changed = replace(FUSED, sampling=SamplingSettings(temperature=0.1))
    after = replace(base, steps=(base.steps[0], replace(base.steps[1], settings=changed)))
    assert "changed" in judge([run([1, 2])], [after]).void
    assert judge([run([1, 2])], [base], void="stopped").void == "stopped"


def test_memory_is_the_most_of_all_rounds() -> None:
    runs = [run([1], memory=m) for m in (5, 9, None)]
    assert judge(runs, runs).a.memory == 9


def test_spread() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    with pytest.raises(ValueError, match="at least one"):
        Spread.of([])


def test_a_busy_machine_is_told() -> None:
    quiet = [run([1, 2]) for _ in range(3)]
    assert judge(quiet, quiet).busy == ""
    others = float(os.cpu_count() or 1)
    busy = [replace(r, others=others) for r in quiet]
    assert "machine was busy" in judge(busy, busy).busy
    late = [replace(r, steps=(replace(r.steps[0], seconds=5.0), *r.steps[1:])) for r in quiet]
    assert late[0].summary.time_to_first_token > 2 * quiet[0].summary.time_to_first_token
    assert "first token" in judge(quiet, late).busy
    assert judge(quiet[:1], late[:1]).busy == ""  # once may be chance
