"""Both rules give exactly the model's distribution: three tokens, enumerated, against thousands of runs.

The kernels that this machine would choose write the many texts: the compiled ones where there is a library, which take
a fifth of the torch kernels' time. Torch kernels must then write the same texts for a part of the seeds.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from pass_core.decoding.events import Provenance
from pass_core.decoding.fused import FusedStepper
from pass_core.decoding.state import DecodeState, Stepper
from pass_core.decoding.two_call import TwoCallStepper
from pass_core.kernels.interface import Kernels
from pass_core.kernels.native import NativeKernels
from pass_core.kernels.reference import ReferenceKernels
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.noise import Stream
from pass_core.sampling.rules import CoupledRule, Decision, Proposal, RejectionRule, VerificationRule, rule_for
from pass_core.settings import DecodingSettings, SamplingSettings, Strategy, Verification
from tests import tiny
from tests.core.decoding.engine import MemoRuntime, TokenCache, random_lookahead
from tests.engines import engine_of, use

RUNS = 20_000
RUNS_FOR_WRONG = 4_000  # a wrong rule shows with a fifth of them
RUNS_IN_TORCH = 1_000
VOCABULARY = 6
COLUMNS = 640  # of logits, so that the library selects 5 of them: it reads blocks of 128
PROMPT = (1, 2)
SAMPLING = SamplingSettings(temperature=0.9, top_k=5)
CUT = SamplingSettings(temperature=1.1, top_k=5, top_p=0.85, min_p=0.2)


class RedrawRule(CoupledRule):
    """Wrong: after a mismatch the target is sampled again, which favours what was drafted."""

    samples_target = False

    def decide(self, target: Distribution, drafts: Sequence[Proposal], seed: int, position: int) -> Decision:
        right = super().decide(target, drafts, seed, position)
        if right.accepted is None and drafts:
            return Decision(target.sample(seed, position, Stream.RESIDUAL), None)
        return right


class TypicalRule(CoupledRule):
    """Wrong: drafts that are likely enough are taken ("typical acceptance")."""

    samples_target = False

    def decide(self, target: Distribution, drafts: Sequence[Proposal], seed: int, position: int) -> Decision:
        for index, draft in enumerate(drafts):
            if target.prob(draft.token) > 0.1:
                return Decision(draft.token, index)
        return super().decide(target, drafts, seed, position)


class CorrectFromTargetRule(RejectionRule):
    """Wrong: the correction is drawn from p instead of norm(max(0, p - q))."""

    @staticmethod
    def _correction(target: Distribution, draft: Distribution, seed: int, position: int) -> int:
        return target.sample(seed, position, Stream.RESIDUAL)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    made = tiny.tiny_llama(vocabulary=VOCABULARY, hidden=16, layers=1, heads=2, peak=0.8)
    use(made, runtime=MemoRuntime(made, COLUMNS))
    return made


@pytest.fixture(scope="module")
def threads() -> NativeRuntime | None:
    """Whose threads grow the library's trees; None where there is no library."""
    if library() is None:
        return None
    return NativeRuntime(tiny.tiny_llama(vocabulary=COLUMNS, hidden=32, layers=1, heads=2), threads=1)


@pytest.fixture(scope="module")
def kernels(model: LanguageModel, threads: NativeRuntime | None) -> Kernels:
    compiled = library()
    if compiled is None or threads is None:
        return ReferenceKernels(model)
    return NativeKernels(compiled, model, threads.handle)


@pytest.fixture(scope="module")
def lookahead(model: LanguageModel) -> LookaheadEmbeddings:
    return random_lookahead(model, 2)


@pytest.fixture(scope="module")
def joint(model: LanguageModel) -> dict[tuple[int, ...], float]:
    return joint_of(model, SAMPLING)


def joint_of(model: LanguageModel, sampling: SamplingSettings) -> dict[tuple[int, ...], float]:
    """Every three tokens and their probability, from whole forward passes and a softmax of this test's own."""

    def after(context: tuple[int, ...]) -> np.ndarray:
        logits = model.model(torch.tensor([context])).logits[0, -1].double().numpy() / sampling.temperature
        order = np.argsort(-logits)[: sampling.top_k]
        likely = np.exp(logits[order] - logits.max())
        likely /= likely.sum()
        before = np.cumsum(likely) - likely
        order = order[(before < sampling.top_p) & (likely >= sampling.min_p * likely[0])]
        weights = np.zeros(VOCABULARY)
        weights[order] = np.exp(logits[order] - logits.max())
        return weights / weights.sum()

    known = {c: after((*PROMPT, *c)) for n in range(3) for c in itertools.product(range(VOCABULARY), repeat=n)}
    return {
        (a, b, c): known[()][a] * known[(a,)][b] * known[(a, b)][c]
        for a, b, c in itertools.product(range(VOCABULARY), repeat=3)
    }


def first_three(
    model: LanguageModel,
    kernels: Kernels,
    lookahead: LookaheadEmbeddings,
    settings: DecodingSettings,
    rule: VerificationRule | None,
    seeds: range,
) -> tuple[list[tuple[int, ...]], int]:
    """The first three tokens of each seed, and how many tokens were accepted drafts."""
    texts: list[tuple[int, ...]] = []
    accepted = 0
    runtime = engine_of(model).runtime
    assert isinstance(runtime, MemoRuntime)
    runtime.use_lookahead(lookahead)
    chosen = rule or rule_for(settings.verification)
    for seed in seeds:
        cache = TokenCache(64, PROMPT[:-1])
        state = DecodeState(runtime, kernels, cache, list(PROMPT), seed, 64, lookahead)
        # The strategies themselves, without the events of the loop, which would take half of the time.
        if settings.strategy is Strategy.FUSED:
            stepper: Stepper = FusedStepper(None)
        else:
            stepper = TwoCallStepper(lambda token: False, lambda: False)
        while len(state.tokens) < len(PROMPT) + 3:
            state.begin_step()
            state.remaining = len(PROMPT) + 5 - len(state.tokens)  # room for drafts of full depth
            emitted = stepper.step(state, settings, chosen).emitted
            state.tokens += [e.token for e in emitted]
            accepted += sum(e.provenance is Provenance.ACCEPTED for e in emitted)
        texts.append(tuple(state.tokens[len(PROMPT) : len(PROMPT) + 3]))
    return texts, accepted


def p_value(texts: Sequence[tuple[int, ...]], joint: dict[tuple[int, ...], float], cells: int = 50) -> float:
    """Chi-square test of the counts; triples expected fewer than five times count as one cell."""
    seen = Counter(texts)
    assert set(seen) <= set(joint), "a token that the model does not have was emitted"
    impossible = {t for t, p in joint.items() if p == 0.0}
    assert not impossible & set(seen), "a token outside the top-k was emitted"
    runs = seen.total()
    expected = {t: p * runs for t, p in joint.items() if p > 0.0}
    common = [t for t, e in expected.items() if e >= 5]
    observed_cells = [seen[t] for t in common]
    expected_cells = [expected[t] for t in common]
    rest = runs - sum(expected_cells)
    if rest >= 5:
        observed_cells.append(runs - sum(observed_cells))
        expected_cells.append(rest)
    else:
        expected_cells = [e * sum(observed_cells) / sum(expected_cells) for e in expected_cells]
    assert len(expected_cells) > cells
    return float(chisquare(observed_cells, expected_cells).pvalue)


CASES = {
    "two-call coupled": DecodingSettings(Strategy.TWO_CALL, 2, SAMPLING, Verification.COUPLED),
    "two-call rejection": DecodingSettings(Strategy.TWO_CALL, 2, SAMPLING, Verification.REJECTION),
    "fused coupled": DecodingSettings(Strategy.FUSED, 2, SAMPLING, Verification.COUPLED, auto=False, row_budget=6),
    "fused rejection": DecodingSettings(Strategy.FUSED, 2, SAMPLING, Verification.REJECTION, auto=False),
}
CUT_CASES = {
    "top-p and min-p, coupled": DecodingSettings(Strategy.FUSED, 2, CUT, Verification.COUPLED, auto=False),
    "top-p and min-p, rejection": DecodingSettings(Strategy.TWO_CALL, 2, CUT, Verification.REJECTION),
}
RUNS_CUT = 3_000


@pytest.mark.timeout(1200)  # some ten seconds alone, minutes on a machine that is busy
@pytest.mark.parametrize("case", CASES)
def test_three_tokens_have_the_models_joint_distribution(
    case: str,
    model: LanguageModel,
    kernels: Kernels,
    lookahead: LookaheadEmbeddings,
    joint: dict[tuple[int, ...], float],
) -> None:
    # Different seeds for each case: under the coupled rule the same ones would give the same texts.
    first = list(CASES).index(case) * RUNS
    texts, accepted = first_three(model, kernels, lookahead, CASES[case], None, range(first, first + RUNS))
    assert accepted > RUNS // 5, "too few accepted drafts to test anything"
    assert p_value(texts, joint) > 0.001
    in_torch = ReferenceKernels(model)
    same, _ = first_three(model, in_torch, lookahead, CASES[case], None, range(first, first + RUNS_IN_TORCH))
    assert same == texts[:RUNS_IN_TORCH]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", CUT_CASES)
def test_what_top_p_and_min_p_leave_has_its_joint_distribution(
    case: str, model: LanguageModel, kernels: Kernels, lookahead: LookaheadEmbeddings
) -> None:
    joint = joint_of(model, CUT)
    whole = joint_of(model, SamplingSettings(CUT.temperature, CUT.top_k))
    assert 20 < sum(p > 0 for p in joint.values()) < 0.7 * sum(p > 0 for p in whole.values())
    seeds = range(9 * RUNS, 9 * RUNS + RUNS_CUT)
    texts, accepted = first_three(model, kernels, lookahead, CUT_CASES[case], None, seeds)
    assert accepted > RUNS_CUT // 5
    assert p_value(texts, joint, 25) > 0.001
    in_torch, _ = first_three(model, ReferenceKernels(model), lookahead, CUT_CASES[case], None, seeds[:100])
    assert in_torch == texts[:100]


WRONG: dict[str, tuple[str, VerificationRule]] = {
    "redraw": ("fused coupled", RedrawRule()),
    "typical": ("two-call coupled", TypicalRule()),
    "correction from p": ("fused rejection", CorrectFromTargetRule()),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_same_test_rejects_wrong_rules(
    name: str,
    model: LanguageModel,
    kernels: Kernels,
    lookahead: LookaheadEmbeddings,
    joint: dict[tuple[int, ...], float],
) -> None:
    case, rule = WRONG[name]
    texts, _ = first_three(model, kernels, lookahead, CASES[case], rule, range(RUNS_FOR_WRONG))
    assert p_value(texts, joint) < 1e-6
