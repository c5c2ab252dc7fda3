"""The losslessness lab: three proofs on a loaded model that PASS changes the speed and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from pass_core.decoding.events import StopReason, TokenEvent
from pass_core.engine import Engine
from pass_core.evaluation.baselines.contestants import Job, hf_generate
from pass_core.evaluation.prompts import Prompt, built_in, prompt_ids
from pass_core.evaluation.reference import Tie, distributions_along, exact_tree, examine_tie, is_exact
from pass_core.evaluation.statistics import ChiSquare, chi_square
from pass_core.evaluation.wrong_rule import PlausibleRule
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.sampling.distribution import Distribution
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy, Verification

FALSE_ALARM = 0.001
"""Probability that a correct engine fails the distribution proof, all its tests together."""
RANKS = 10
SHORT_PROMPT = Prompt("built-in", "short", "The little dog ran to the")


class Proof(StrEnum):
    """What is shown."""

    GREEDY = "greedy"
    COUPLED = "coupled"
    DISTRIBUTION = "distribution"


TITLES: Mapping[Proof, str] = {
    Proof.GREEDY: "At temperature 0, the same text as transformers",
    Proof.COUPLED: "At a temperature, the same text for the same seed, whatever the strategy",
    Proof.DISTRIBUTION: "Every token is drawn from the model's own probabilities",
}


@dataclass(frozen=True, slots=True)
class VerificationPlan:
    """How much is checked.

    Attributes:
        proofs: which of the three.
        prompts: texts that the identity proofs write on from (prose, code and chat in turn).
        tokens: length of these texts.
        seeds: seeds of the coupled proof.
        temperatures: of the coupled proof.
        temperature, top_k: of the distribution proof.
        draws: seeds of the first-tokens test, for every strategy and rule.
        first_tokens: tokens of that test.
        texts: texts of the along-the-text test.
        wrong_rule: check a rule that is known to be wrong instead of the rejection rule.
    """

    proofs: tuple[Proof, ...] = tuple(Proof)
    prompts: int = 6
    tokens: int = 48
    seeds: int = 2
    temperatures: tuple[float, ...] = (0.8, 1.2)
    temperature: float = 0.8
    top_k: int = 10
    draws: int = 100
    first_tokens: int = 3
    texts: int = 12
    wrong_rule: bool = False


QUICK = VerificationPlan(prompts=3, tokens=32, seeds=1, temperatures=(0.8,), draws=40, texts=9)


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


@dataclass(frozen=True, slots=True)
class Variant:
    """A way of decoding that is put to the test."""

    name: str
    settings: DecodingSettings
    rule: VerificationRule | None = None

    def at(self, sampling: SamplingSettings) -> DecodingSettings:
        return replace(self.settings, sampling=sampling)


AUTOREGRESSIVE = Variant("autoregressive", DecodingSettings(strategy=Strategy.AUTOREGRESSIVE, k=0))


def identity_variants(count: int) -> tuple[Variant, ...]:
    """Strategies, numbers of look-ahead steps and tree shapes for L = `count`; all under the coupled rule."""

    def fused(name: str, k: int, auto: bool, budget: int | None = None, lookup: bool = False) -> Variant:
        settings = DecodingSettings(strategy=Strategy.FUSED, k=k, auto=auto, row_budget=budget, prompt_lookup=lookup)
        return Variant(f"pass, k = {k}{name}", settings)

    few = min(2, count)
    two_call = [Variant(f"two-call, k = {k}", DecodingSettings(strategy=Strategy.TWO_CALL, k=k)) for k in {few, count}]
    return (
        *sorted(two_call, key=lambda v: v.settings.k),
        fused("", few, False),
        fused(", trees of at most 16 rows", count, False, 16),
        fused(", shape chosen by the engine", count, True),
        fused(", with prompt lookup", count, True, None, True),
    )


def rule_variants(count: int, wrong: bool) -> tuple[Variant, ...]:
    """Every strategy under every rule, for the distribution proof."""
    k = min(3, count)
    two_call = DecodingSettings(strategy=Strategy.TWO_CALL, k=k, auto=False)
    fused = DecodingSettings(strategy=Strategy.FUSED, k=k, auto=False, row_budget=16)
    out = [
        AUTOREGRESSIVE,
        Variant(f"two-call, k = {k}, coupled rule", two_call),
        Variant(f"pass, k = {k}, coupled rule", fused),
    ]
    for name, settings in (("two-call", two_call), ("pass", fused)):
        if wrong:
            chained = replace(settings, verification=Verification.REJECTION)
            out.append(Variant(f"{name}, k = {k}, a rule known to be wrong", chained, PlausibleRule()))
        else:
            chained = replace(settings, verification=Verification.REJECTION)
            out.append(Variant(f"{name}, k = {k}, rejection rule", chained))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class _Text:
    """A generated text.

    Attributes:
        ids: its tokens.
        accepted: how many of them were accepted drafts.
        drafts: for every token the draft distribution of its position among the model's likeliest tokens, None where
            nothing was drafted.
    """

    ids: tuple[int, ...]
    accepted: int
    drafts: tuple[Mapping[int, float] | None, ...] = ()


class LosslessnessLab:
    """Runs the proofs.

    Args:
        engine: not in use by anything else meanwhile; float32 for exact identity with transformers.
        lookahead: the embeddings under test; None for the untrained mean embedding.
        plan: how much is checked.
    """

    def __init__(
        self, engine: Engine, lookahead: LookaheadEmbeddings | None, plan: VerificationPlan | None = None
    ) -> None:
        from pass_core.models.shipped import untrained_lookahead

        model = engine.model
        self.engine, self.model, self.plan = engine, model, plan or VerificationPlan()
        self.lookahead = lookahead or untrained_lookahead(model)
        self._cancel = CancelToken()
        self._started = 0.0
        self._done = 0.0
        self._total = 0

    def run(self, cancel: CancelToken | None = None) -> Iterator[LosslessnessEvent]:
        """Yields progress, one `Check` per thing checked, and `VerificationEnded` (also when cancelled)."""
        self._cancel = cancel or CancelToken()
        self._started, self._done, self._total = time.monotonic(), 0.0, self._count_runs()
        checks: list[Check] = []
        try:
            for event in self._events():
                if isinstance(event, Check):
                    checks.append(event)
                yield event
        except Cancelled:
            passed = all(c.passed for c in checks)
            yield VerificationEnded(passed, False, f"Stopped after {len(checks)} checks; nothing more is claimed.")
            return
        yield _ending(checks)

    def _events(self) -> Iterator[LosslessnessEvent]:
        makers: dict[Proof, Callable[[], Iterator[LosslessnessEvent]]] = {
            Proof.GREEDY: self._greedy,
            Proof.COUPLED: self._coupled,
            Proof.DISTRIBUTION: self._distribution,
        }
        for proof in self.plan.proofs:
            yield from makers[proof]()

    def _count_runs(self) -> int:
        """Generations in all, for the time left."""
        plan = self.plan
        variants = len(identity_variants(self.lookahead.count)) + 1
        rules = len(rule_variants(self.lookahead.count, plan.wrong_rule))
        counts = {
            # Generations of the first-tokens test are much shorter than the others.
            Proof.GREEDY: plan.prompts * (variants + 3),
            Proof.COUPLED: plan.prompts * plan.seeds * len(plan.temperatures) * variants,
            Proof.DISTRIBUTION: round(rules * plan.draws * self._short_weight + (rules - 2) * plan.texts),
        }
        return sum(counts[p] for p in plan.proofs)

    @property
    def _short_weight(self) -> float:
        return (self.plan.first_tokens + 1) / self.plan.tokens

    def _progress(self, stage: str, weight: float = 1.0) -> Progress:
        self._done += weight
        elapsed = time.monotonic() - self._started
        left = elapsed / self._done * max(0.0, self._total - self._done) if self._done else None
        return Progress(stage, min(self._done, self._total), self._total, "texts", left)

    def _prompts(self, count: int) -> list[tuple[Prompt, tuple[int, ...]]]:
        sets = [built_in(name) for name in ("prose", "code", "chat")]
        prompts = [group[i] for i in range(len(sets[0])) for group in sets if i < len(group)][:count]
        room = self.model.capabilities.context_length - self.plan.tokens - 1
        return [(p, tuple(prompt_ids(p, self.model)[-room:])) for p in prompts]

    def _decode(
        self, variant: Variant, ids: Sequence[int], sampling: SamplingSettings, seed: int, tokens: int
    ) -> _Text:
        """One text of our engine.

        Raises:
            Cancelled: on the way.
        """
        out: list[int] = []
        drafts: list[Mapping[int, float] | None] = []
        accepted = 0
        for step in self.engine.decode(
            ids,
            variant.at(sampling),
            lookahead=self.lookahead,
            stop=StopConditions(max_new_tokens=tokens),
            seed=seed,
            cancelled=lambda: self._cancel.cancelled,
            rule=variant.rule,
        ):
            out += [t.id for t in step.tokens]
            drafts += [_draft_of(t) for t in step.tokens]
            accepted += step.accepted
            if step.stop_reason is StopReason.CANCELLED:
                raise Cancelled("cancelled by the user")
        return _Text(tuple(out), accepted, tuple(drafts))

    # --- proof 1 ----------------------------------------------------------------------------------------------------

    def _greedy(self) -> Iterator[LosslessnessEvent]:
        stage = "Proof 1 of 3: temperature 0 against transformers"
        greedy = SamplingSettings(0.0, 0)
        prompts = self._prompts(self.plan.prompts)
        wanted: list[tuple[int, ...]] = []
        for _, ids in prompts:
            job = Job(ids, greedy, 0, self.plan.tokens)
            text, _ = hf_generate(self.model, job, cancelled=lambda: self._cancel.cancelled)
            self._cancel.raise_if_cancelled()
            wanted.append(tuple(text))
            yield self._progress(stage)
        k = self.lookahead.count
        rejection = Variant(
            f"two-call, k = {k}, rejection rule",
            DecodingSettings(strategy=Strategy.TWO_CALL, k=k, verification=Verification.REJECTION),
        )
        for variant in (AUTOREGRESSIVE, *identity_variants(k), rejection):
            found: list[_Text] = []
            for _, ids in prompts:
                found.append(self._decode(variant, ids, greedy, 0, self.plan.tokens))
                yield self._progress(stage)
            cases = [(p.title, ids, 0, greedy, w) for (p, ids), w in zip(prompts, wanted, strict=True)]
            yield self._identity(Proof.GREEDY, variant.name, "transformers'", cases, found)

    # --- proof 2 ----------------------------------------------------------------------------------------------------

    def _coupled(self) -> Iterator[LosslessnessEvent]:
        stage = "Proof 2 of 3: same seed, same text"
        runs = [
            (p, ids, seed, SamplingSettings(temperature, self.plan.top_k))
            for p, ids in self._prompts(self.plan.prompts)
            for temperature in self.plan.temperatures
            for seed in range(1, self.plan.seeds + 1)
        ]
        wanted: list[tuple[int, ...]] = []
        for _, ids, seed, sampling in runs:
            wanted.append(self._decode(AUTOREGRESSIVE, ids, sampling, seed, self.plan.tokens).ids)
            yield self._progress(stage)
        for variant in identity_variants(self.lookahead.count):
            found: list[_Text] = []
            for _, ids, seed, sampling in runs:
                found.append(self._decode(variant, ids, sampling, seed, self.plan.tokens))
                yield self._progress(stage)
            cases = [(p.title, ids, seed, s, w) for (p, ids, seed, s), w in zip(runs, wanted, strict=True)]
            yield self._identity(Proof.COUPLED, variant.name, "plain decoding's", cases, found)

    def _identity(
        self,
        proof: Proof,
        subject: str,
        whose: str,
        cases: Iterable[tuple[str, tuple[int, ...], int, SamplingSettings, tuple[int, ...]]],
        found: Sequence[_Text],
    ) -> Check:
        divergences: list[Divergence] = []
        tokens = compared = 0
        for (title, prompt, seed, sampling, wanted), text in zip(cases, found, strict=True):
            compared += 1
            at = _first_difference(wanted, text.ids)
            tokens += len(wanted) if at is None else at
            if at is not None:
                divergences.append(self._divergence(title, prompt, seed, sampling, wanted, text.ids, at))
        same = compared - len(divergences)
        unexplained = [d for d in divergences if not d.tie.near]
        return Check(
            proof,
            subject,
            not unexplained,
            _identity_verdict(whose, same, compared, tokens, divergences, str(self.model.dtype)),
            same,
            compared,
            tokens,
            tuple(divergences),
            accepted=sum(t.accepted for t in found),
        )

    def _divergence(
        self,
        title: str,
        prompt: tuple[int, ...],
        seed: int,
        sampling: SamplingSettings,
        wanted: tuple[int, ...],
        found: tuple[int, ...],
        at: int,
    ) -> Divergence:
        if at >= len(wanted) or at >= len(found):
            # One text is a mere beginning of the other: rounding cannot do that.
            longer = (wanted if at < len(wanted) else found)[at]
            ends = ["the end", self._token(longer)]
            expected, got = reversed(ends) if at < len(wanted) else ends
            tie = Tie(float("inf"), 0.0, False)
        else:
            expected, got = self._token(wanted[at]), self._token(found[at])
            context = (*prompt, *wanted[:at])
            tie = examine_tie(self.model, context, (wanted[at], found[at]), sampling, seed)
        return Divergence(title, seed, sampling.temperature, at, expected, got, tie)

    def _token(self, token: int) -> str:
        tokenizer = self.model.tokenizer
        return repr(tokenizer.decode([token])) if tokenizer is not None else str(token)

    # --- proof 3 ----------------------------------------------------------------------------------------------------

    def _distribution(self) -> Iterator[LosslessnessEvent]:
        stage = "Proof 3 of 3: the model's own probabilities"
        plan = self.plan
        sampling = SamplingSettings(plan.temperature, plan.top_k)
        variants = rule_variants(self.lookahead.count, plan.wrong_rule)
        # Under the coupled rule all strategies write one text, so that plain decoding stands for all of them there.
        along = [v for v in variants if "coupled" not in v.name]
        level = FALSE_ALARM / (2 * len(variants) + len(along))
        ids = tuple(prompt_ids(SHORT_PROMPT, self.model))
        depth = plan.first_tokens if 0 < plan.top_k <= 16 else 1
        tree = exact_tree(self.engine, ids, depth, sampling)
        for number, variant in enumerate(variants):
            texts: list[_Text] = []
            for draw in range(plan.draws):
                # Other seeds for every variant: one unlucky sample cannot condemn all.
                seed = 1_000_003 * (number + 1) + draw
                texts.append(self._decode(variant, ids, sampling, seed, depth))
                yield self._progress(stage, self._short_weight)
            yield from self._first_tokens(variant, texts, tree, depth, level)
        prompts = self._prompts(plan.texts)
        for number, variant in enumerate(along):
            texts = []
            for index, (_, prompt) in enumerate(prompts):
                texts.append(self._decode(variant, prompt, sampling, 77_003 * (number + 1) + index, plan.tokens))
                yield self._progress(stage)
            yield from self._along(variant, [p for _, p in prompts], texts, sampling, level)

    def _first_tokens(
        self,
        variant: Variant,
        texts: Sequence[_Text],
        tree: Mapping[tuple[int, ...], Distribution],
        depth: int,
        level: float,
    ) -> Iterator[Check]:
        """Two tests of the first tokens after one prompt: their joint distribution, and their ranks."""
        joint = _joint(tree, depth)
        index = {path: i for i, path in enumerate(joint)}
        counts = np.zeros(len(joint) + 1)
        for text in texts:
            counts[index.get(text.ids, len(joint))] += 1
        p = np.array([*joint.values(), 0.0])
        accepted = sum(t.accepted for t in texts)
        subject = f"{variant.name}: the first {depth} tokens together"
        if not is_exact(self.model):
            # In low precision the two computations may disagree about the last token that top-k keeps.
            counts[-1] = 0
        yield _distribution_check(subject, chi_square([p / p.sum()], counts, level=level), level, accepted)
        if depth > 1:
            draws = [
                (tree[t.ids[:i]], t.ids[i], t.drafts[i])
                for t in texts
                for i in range(1, len(t.ids))
                if t.ids[:i] in tree
            ]
            subject = f"{variant.name}: tokens 2 to {depth}, each after the one before"
            yield from self._one_by_one(subject, draws, level, accepted)

    def _along(
        self,
        variant: Variant,
        prompts: Sequence[tuple[int, ...]],
        texts: Sequence[_Text],
        sampling: SamplingSettings,
        level: float,
    ) -> Iterator[Check]:
        draws: list[_Draw] = []
        for prompt, text in zip(prompts, texts, strict=True):
            exact = distributions_along(self.engine, prompt, text.ids, sampling)
            draws += list(zip(exact, text.ids, text.drafts, strict=True))
        subject = f"{variant.name}: every token of {len(texts)} texts"
        yield from self._one_by_one(subject, draws, level, sum(t.accepted for t in texts))

    def _one_by_one(self, subject: str, draws: Sequence[_Draw], level: float, accepted: int) -> Iterator[Check]:
        """Test tokens each against its own exact distribution; bins are chosen before the token is known.

        Where there were drafts, the bins are whether the draft distribution gives a token more than the model does
        (any mistake in a rule shows there first), and whether it is the model's likeliest. Elsewhere the bins are the
        model's ranks. The last bin holds what the model cannot emit: impossible in float32; in low precision such draws
        are left out, for the two computations may disagree about the last token that top-k keeps.
        """
        drafted = [d for d in draws if d[2] is not None]
        chosen = drafted or draws
        rows: list[np.ndarray] = []
        counts = np.zeros(RANKS + 1)
        favoured = np.zeros(2)
        for exact, token, draft in chosen:
            bins = _bins(exact, draft)
            at = np.flatnonzero(exact.ids == token)
            if not at.size and not is_exact(self.model):
                continue
            p = np.exp(exact.log_p)
            rows.append(np.bincount(bins, weights=p, minlength=RANKS + 1))
            found = int(bins[at[0]]) if at.size else RANKS
            counts[found] += 1
            favoured += (found < 2, float(p[bins < 2].sum()))
        if rows:
            test = chi_square(rows, counts, level=level)
            shares = favoured / len(rows) if drafted else None
            yield _distribution_check(subject, test, level, accepted, shares)


_Draw = tuple[Distribution, int, Mapping[int, float] | None]


def _draft_of(token: TokenEvent) -> Mapping[int, float] | None:
    """Draft probabilities of the model's likeliest tokens at this position."""
    drafts = {c.id: c.p_draft for c in token.top if c.p_draft is not None}
    return drafts or None


def _bins(exact: Distribution, draft: Mapping[int, float] | None) -> npt.NDArray[np.int64]:
    """The bin of every token of the support; below 2 are those that the drafts favour."""
    order = np.argsort(-exact.log_p, kind="stable")
    if draft is None:
        ranks = np.empty(order.size, dtype=np.int64)
        ranks[order] = np.arange(order.size)
        return np.minimum(ranks, RANKS - 1)
    p = np.exp(exact.log_p)
    favours = np.array([draft.get(int(i), 0.0) > q for i, q in zip(exact.ids, p, strict=True)])
    likeliest = np.arange(p.size) == order[0]
    return np.where(favours, np.where(likeliest, 0, 1), np.where(likeliest, 2, 3)).astype(np.int64)


def _joint(tree: Mapping[tuple[int, ...], Distribution], depth: int) -> dict[tuple[int, ...], float]:
    """The exact probability of every text of `depth` tokens (shorter where the text ends before)."""
    joint: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(depth):
        longer: dict[tuple[int, ...], float] = {}
        for path, mass in joint.items():
            exact = tree.get(path)
            if exact is None:
                longer[path] = mass
                continue
            for token, p in zip(exact.ids, np.exp(exact.log_p), strict=True):
                longer[(*path, int(token))] = mass * float(p)
        joint = longer
    return joint


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return None if len(a) == len(b) else min(len(a), len(b))


def _identity_verdict(
    whose: str, same: int, compared: int, tokens: int, divergences: Sequence[Divergence], dtype: str
) -> str:
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


def _distribution_check(
    subject: str, test: ChiSquare, level: float, accepted: int, favoured: npt.NDArray[np.float64] | None = None
) -> Check:
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


def _ending(checks: Sequence[Check]) -> VerificationEnded:
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
