"""What was found: checks with their verdicts, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pass_core.evaluation.losslessness.plan import Proof
from pass_core.evaluation.reference import Tie
from pass_core.evaluation.statistics import ChiSquare
from pass_core.progress import Progress


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two texts part that should be the same.

    Attributes:
        prompt, seed, temperature: of the run.
        at: index among the new tokens.
        expected, found: the two tokens' texts.
        tie: what the model itself says about the two.
    """

    prompt: str
    seed: int
    temperature: float
    at: int
    expected: str
    found: str
    tie: Tie


@dataclass(frozen=True, slots=True)
class Check:
    """One finished check.

    Attributes:
        proof: the proof it belongs to.
        subject: what was checked ("pass, k = 5, rejection rule").
        passed: whether it holds.
        verdict: one plain sentence.
        identical, compared: texts that are the same token for token, of how many (identity proofs).
        tokens: tokens behind the check.
        divergences: every place where two texts part, near ties among them.
        test: the statistics (distribution proof).
        accepted: drafts that the rule accepted on the way: without any, nothing was put to the test.
    """

    proof: Proof
    subject: str
    passed: bool
    verdict: str
    identical: int = 0
    compared: int = 0
    tokens: int = 0
    divergences: tuple[Divergence, ...] = ()
    test: ChiSquare | None = None
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class VerificationEnded:
    """Nothing more comes.

    Attributes:
        passed: every check of the plan passed.
        complete: all were made.
        verdict: a plain sentence about the whole.
    """

    passed: bool
    complete: bool
    verdict: str


LosslessnessEvent = Progress | Check | VerificationEnded


def identity_verdict(
    whose: str, same: int, compared: int, tokens: int, divergences: Sequence[Divergence], dtype: str
) -> str:
    """What a comparison of texts showed, in a sentence or two."""
    if not divergences:
        return f"Identical to {whose} text in {compared} of {compared} runs ({tokens:,} tokens)."
    bad = [d for d in divergences if not d.tie.near]
    text = f"{same} of {compared} texts are identical to {whose}."
    near = len(divergences) - len(bad)
    if near:
        text += (
            f" {near} part{'s' if near == 1 else ''} at a near tie: rounding in {dtype.removeprefix('torch.')} decides "
            "there, in transformers alone as well."
        )
    if bad:
        d = bad[0]
        text += (
            f" {len(bad)} differ{'s' if len(bad) == 1 else ''} without such a reason, first in “{d.prompt}” at token "
            f"{d.at}: {d.found} instead of {d.expected}."
        )
    return text


def distribution_check(
    subject: str, test: ChiSquare, level: float, accepted: int, favoured: npt.NDArray[np.float64] | None = None
) -> Check:
    """The check that a test of drawn tokens makes.

    Args:
        level: probability of a false alarm.
        favoured: share of the draws, and the model's share, that fell on tokens which the drafts favour.
    """
    passed = test.p_value >= level
    if test.p_value == 0.0:
        finding = "A token came out that the model gives no probability."
    elif passed:
        finding = f"Agrees with the model's probabilities (p = {test.p_value:.3g})."
    else:
        finding = (
            f"Does not agree with the model's probabilities: chance alone explains this with p = {test.p_value:.1e}."
        )
    if favoured is not None:
        finding += (
            f" Tokens that the drafts favour came in {100 * favoured[0]:.1f} % of the places; "
            f"the model says {100 * favoured[1]:.1f} %."
        )
    verdict = (
        f"{finding} {test.samples:,} draws; total variation {test.total_variation:.3f}, sampling alone stays under "
        f"{test.total_variation_bound:.3f}; a shift of {100 * test.detectable:.0f} % of the probability to the "
        "likeliest tokens would be noticed nine times in ten."
    )
    return Check(Proof.DISTRIBUTION, subject, passed, verdict, tokens=test.samples, test=test, accepted=accepted)


def ending(checks: Sequence[Check]) -> VerificationEnded:
    """The verdict on all checks together."""
    failed = [c for c in checks if not c.passed]
    ties = sum(d.tie.near for c in checks for d in c.divergences)
    note = f" {ties} near ties were decided by rounding." if ties else ""
    if not failed:
        return VerificationEnded(True, True, f"Lossless: all {len(checks)} checks passed.{note}")
    subjects = "; ".join(dict.fromkeys(c.subject for c in failed[:3]))
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return VerificationEnded(
        False, True, f"Not lossless: {len(failed)} of {len(checks)} checks failed ({subjects}{more}).{note}"
    )
