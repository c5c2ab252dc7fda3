"""The run: texts by every way of decoding, compared with transformers, with one another, and with the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pass_core.decoding.events import StopReason
from pass_core.engine import Engine
from pass_core.evaluation.baselines.transformers_setup import generate_ids
from pass_core.evaluation.losslessness.draws import Draw, check_one_by_one, check_together, draft_of
from pass_core.evaluation.losslessness.plan import (
    AUTOREGRESSIVE,
    FALSE_ALARM,
    SHORT_PROMPT,
    Proof,
    Variant,
    VerificationPlan,
    identity_variants,
    rule_variants,
)
from pass_core.evaluation.losslessness.report import (
    Check,
    Divergence,
    LosslessnessEvent,
    VerificationEnded,
    ending,
    identity_verdict,
)
from pass_core.evaluation.prompts import BenchmarkPrompt, built_in, prompt_ids
from pass_core.evaluation.reference import Tie, distributions_along, exact_tree, examine_tie, is_exact, is_rounded
from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.sampling.distribution import Distribution
from pass_core.settings import DecodingSettings, SamplingSettings, StopConditions, Strategy, Verification


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
        yield ending(checks)

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

    def _prompts(self, count: int) -> list[tuple[BenchmarkPrompt, tuple[int, ...]]]:
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
            drafts += [draft_of(t) for t in step.tokens]
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
        whose = "transformers'"
        for _, ids in prompts:
            if is_rounded(self.model):  # transformers has other weights
                whose = "plain decoding's"
                text: Sequence[int] = self._decode(AUTOREGRESSIVE, ids, greedy, 0, self.plan.tokens).ids
            else:
                text = generate_ids(
                    self.model, ids, greedy, new_tokens=self.plan.tokens, cancelled=lambda: self._cancel.cancelled
                )
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
            yield self._identity(Proof.GREEDY, variant.name, whose, cases, found)

    # --- proof 2 ----------------------------------------------------------------------------------------------------

    def _coupled(self) -> Iterator[LosslessnessEvent]:
        stage = "Proof 2 of 3: same seed, same text"
        runs = [
            (p, ids, seed, self.plan.sampling(temperature))
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
            identity_verdict(whose, same, compared, tokens, divergences, str(self.model.dtype)),
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
        sampling = plan.sampling(plan.temperature)
        variants = rule_variants(self.lookahead.count, plan.wrong_rule)
        # Under the coupled rule all strategies write one text: plain decoding is tested for all of them.
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
        accepted, exact = sum(t.accepted for t in texts), is_exact(self.model)
        subject = f"{variant.name}: the first {depth} tokens together"
        yield check_together(subject, [t.ids for t in texts], tree, depth, level, accepted, exact)
        if depth > 1:
            draws: list[Draw] = [
                (tree[t.ids[:i]], t.ids[i], t.drafts[i])
                for t in texts
                for i in range(1, len(t.ids))
                if t.ids[:i] in tree
            ]
            subject = f"{variant.name}: tokens 2 to {depth}, each after the one before"
            yield from check_one_by_one(subject, draws, level, accepted, exact)

    def _along(
        self,
        variant: Variant,
        prompts: Sequence[tuple[int, ...]],
        texts: Sequence[_Text],
        sampling: SamplingSettings,
        level: float,
    ) -> Iterator[Check]:
        draws: list[Draw] = []
        for prompt, text in zip(prompts, texts, strict=True):
            exact = distributions_along(self.engine, prompt, text.ids, sampling)
            draws += list(zip(exact, text.ids, text.drafts, strict=True))
        subject = f"{variant.name}: every token of {len(texts)} texts"
        accepted = sum(t.accepted for t in texts)
        yield from check_one_by_one(subject, draws, level, accepted, is_exact(self.model))


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return None if len(a) == len(b) else min(len(a), len(b))
