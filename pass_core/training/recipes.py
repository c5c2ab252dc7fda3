"""Recipes: whole trainings by name, so that a user with another model repeats one with a single command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from pass_core.training.config import TrainingConfig, TrainingKind
from pass_core.training.state_config import StateHeadConfig


class Recipe(StrEnum):
    """How much is trained, on how much text."""

    SMALL = "small"
    STANDARD = "standard"
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a recipe contains.

    Attributes:
        summary: what it makes, in a sentence.
        config: the run's settings.
        state: of the state head, which is trained last.
        sequences, held_out: texts that the model writes for it.
    """

    summary: str
    config: TrainingConfig
    state: StateHeadConfig
    sequences: int
    held_out: int

    @property
    def rows(self) -> int:
        """Look-ahead rows that learn in the whole run."""
        return self.config.steps * self.config.batch * self.config.rows


_ALL = TrainingConfig(
    kind=TrainingKind.ALL,
    with_sampler=True,
    rows=240,
    vector_lr=5e-3,
    adapter_lr=8e-4,
    sampler_lr=1.3e-3,
    acceptance_share=0.5,
    evaluate_contexts=768,
)

RECIPES: dict[Recipe, Ingredients] = {
    Recipe.SMALL: Ingredients(
        "embeddings alone, the paper's method, with the model's own bigrams",
        TrainingConfig(steps=250, rows=240, acceptance_share=0.5),
        StateHeadConfig(steps=150, evaluate_every=50),
        sequences=192,
        held_out=48,
    ),
    Recipe.STANDARD: Ingredients(
        "embeddings, deep vectors, adapters and sampler head, some hundred thousand rows",
        replace(_ALL, steps=600, evaluate_every=100),
        StateHeadConfig(steps=600, evaluate_every=100),
        sequences=800,
        held_out=96,
    ),
    Recipe.LARGE: Ingredients(
        "the same parts, ten million rows of fresh text in one fall of the learning rate, the acceptance as the loss",
        replace(_ALL, steps=10_500, acceptance_share=0.95, warmup=100, evaluate_every=500, checkpoint_every=100),
        StateHeadConfig(steps=3_000, evaluate_contexts=768),
        sequences=20_000,
        held_out=192,
    ),
}
