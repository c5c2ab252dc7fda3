"""What the training of a state head is asked to do: validated and immutable."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pass_core.training.config import TrainingConfig, need


@dataclass(frozen=True, slots=True)
class StateHeadConfig:
    """Everything that decides what a state head (`pass_core.lookahead.state_head`) learns from given texts.

    Attributes:
        depth: D, 1 to 16, how deep it drafts.
        inner, fit_inner: inner widths of the guess and of the fit.
        steps: optimiser steps; the learning rate falls to zero over them.
        minutes: when above 0, the run takes as many steps as fit into what is left of them.
        places: a step, at each of which a chain of D drafts learns.
        length: tokens of a text; longer ones are cut.
        learning_rate: its peak.
        warmup: steps of linear warm-up, at most a tenth of the run; then cosine.
        few_weight: weight, within the acceptance, of the best few of a tree; the single draft keeps the rest.
        ema: decay of the running mean that is measured and exported.
        temperature, top_k: the sampling settings of the acceptance.
        seed: of initial values and of the order of places.
        evaluate_every: steps between held-out evaluations (0: only at the end).
        evaluate_contexts: held-out places at which drafts are tried.
    """

    depth: int = 4
    inner: int = 1024
    fit_inner: int = 512
    steps: int = 1500
    minutes: float = 0.0
    places: int = 2048
    length: int = 256
    learning_rate: float = 1.5e-3
    warmup: int = 30
    few_weight: float = 0.5
    ema: float = 0.99
    temperature: float = 0.8
    top_k: int = 10
    seed: int = 0
    evaluate_every: int = 250
    evaluate_contexts: int = 384

    def __post_init__(self) -> None:
        need(1 <= self.depth <= 16, f"the state head's depth must be between 1 and 16, not {self.depth}")
        for inner in (self.inner, self.fit_inner):
            need(1 <= inner <= 16384, f"the state head's widths must be 1 to 16384, not {inner}")
        need(self.steps >= 1, f"the state head needs at least one step, not {self.steps}")
        need(self.minutes >= 0.0, f"minutes must not be negative, not {self.minutes}")
        need(self.places >= 1, f"at least one place a step is needed, not {self.places}")
        need(self.length >= 16, f"a sequence needs at least 16 tokens, not {self.length}")
        need(0.0 <= self.few_weight <= 1.0, f"the weight of the best few must be in [0, 1], not {self.few_weight}")
        need(0.0 <= self.ema < 1.0, f"the decay of the running mean must be in [0, 1), not {self.ema}")
        need(self.temperature > 0, "training needs a temperature above 0 (the acceptance loss divides by it)")
        need(self.top_k >= 1, f"top-k must be at least 1 in training, not {self.top_k}")

    def beside(self, config: TrainingConfig) -> StateHeadConfig:
        """The same, on the texts and at the sampling settings of the other parts' run, in what is left of its time."""
        return replace(
            self,
            minutes=config.minutes,
            length=config.length,
            temperature=config.temperature,
            top_k=config.top_k,
            seed=config.seed,
        )
