"""The plan of a check: proofs, their sizes, and the ways of decoding under test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from pass_core.evaluation.prompts import BenchmarkPrompt
from pass_core.evaluation.wrong_rule import PlausibleRule
from pass_core.sampling.rules import VerificationRule
from pass_core.settings import DecodingSettings, SamplingSettings, Strategy, Verification

FALSE_ALARM = 0.001
"""Probability that a correct engine fails the distribution proof, all its tests together."""
SHORT_PROMPT = BenchmarkPrompt("built-in", "short", "The little dog ran to the")


class Proof(StrEnum):
    """What is shown."""

    GREEDY = "greedy"
    COUPLED = "coupled"
    DISTRIBUTION = "distribution"


TITLES: Mapping[Proof, str] = {
    Proof.GREEDY: "At temperature 0, the same text as transformers",
    Proof.COUPLED: "At a temperature, the same text for the same seed with every strategy",
    Proof.DISTRIBUTION: "Every token is drawn from the model's own probabilities",
}


@dataclass(frozen=True, slots=True)
class VerificationPlan:
    """How much is checked.

    Attributes:
        proofs: which of the three.
        prompts: how many prompts the identity proofs continue (prose, code and chat in turn).
        tokens: length of these texts.
        seeds: seeds of the coupled proof.
        temperatures: of the coupled proof.
        temperature: of the distribution proof.
        top_k, top_p, min_p: of both proofs with a temperature.
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
    top_p: float = 1.0
    min_p: float = 0.0
    draws: int = 100
    first_tokens: int = 3
    texts: int = 12
    wrong_rule: bool = False

    def sampling(self, temperature: float) -> SamplingSettings:
        """At a temperature above 0."""
        return SamplingSettings(temperature, self.top_k, self.top_p, self.min_p)


QUICK = VerificationPlan(prompts=3, tokens=32, seeds=1, temperatures=(0.8,), draws=40, texts=9)


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
