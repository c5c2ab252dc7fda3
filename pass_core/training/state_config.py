"""What the training of a state head is asked to do: validated and immutable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pass_core.training.config import RunConfig, TrainingConfig, need


@dataclass(frozen=True, slots=True)
class StateHeadConfig(RunConfig):
    """Everything that decides what a state head (`pass_core.lookahead.state_head`) learns from given texts.

    Attributes:
        depth: D, 1 to 16, how deep it drafts.
        inner, fit_inner: inner widths of the guess and of the fit.
        places: a step, at each of which a chain of D drafts learns.
        learning_rate: its peak.
        warmup: at most a tenth of the run.
    """

    PHASE: ClassVar[str] = "state head"
    FITTED: ClassVar[tuple[str, ...]] = ("steps",)

    steps: int = 1500
    warmup: int = 30
    few_weight: float = 0.5
    ema: float = 0.99
    evaluate_every: int = 250
    checkpoint_every: int = 50
    depth: int = 4
    inner: int = 1024
    fit_inner: int = 512
    places: int = 2048
    learning_rate: float = 1.5e-3

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)  # super() does not work in classes with slots
        need(1 <= self.depth <= 16, f"the state head's depth must be between 1 and 16, not {self.depth}")
        for inner in (self.inner, self.fit_inner):
            need(1 <= inner <= 16384, f"the state head's widths must be 1 to 16384, not {inner}")
        need(self.places >= 1, f"at least one place a step is needed, not {self.places}")

    @property
    def schedule(self) -> StateHeadConfig:
        """What the learning rate follows: a short run warms up for a tenth of it at most."""
        return replace(self, warmup=min(self.warmup, max(1, self.steps // 10)))

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
