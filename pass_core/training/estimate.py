"""What a run will take, before it starts; and which models cannot be trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.models.placement import is_spread
from pass_core.training.config import TrainingConfig, TrainingError
from pass_core.training.events import Estimate
from pass_core.training.objective import LISTED, TEACHER_TOP
from pass_core.training.parts import TrainableParts
from pass_core.training.store import PrefixStore


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a run needs before its first step, in seconds: text that is not written yet, bigrams that are not read."""

    writing_seconds: float = 0.0
    bigrams_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        return self.writing_seconds + self.bigrams_seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a step whose prefixes must be computed (`new`) and of one whose prefixes are kept (`kept`), and how
    many steps are of the first sort."""

    new: float
    kept: float
    new_steps: int

    def times(self, batch: int, new_steps: int) -> Pace:
        """The same for steps `batch` times as large."""
        return Pace(self.new * batch, self.kept * batch, new_steps)

    def seconds(self, steps: int, config: TrainingConfig) -> float:
        """Of `steps` steps and their evaluations."""
        new = min(steps, self.new_steps)
        evaluations = 2 + (steps // config.evaluate_every if config.evaluate_every else 0)
        return new * self.new + (steps - new) * self.kept + self.evaluation(config) * evaluations

    def evaluation(self, config: TrainingConfig) -> float:
        """Of one evaluation: forward only, about a third of a step's cost a row."""
        return self.kept * config.evaluate_contexts * 5 / (3 * config.rows * config.batch)

    def steps_in(self, seconds: float, config: TrainingConfig) -> int:
        """How many steps fit into `seconds`; at least 1, for a run makes a file."""
        low, high = 1, 1
        while self.seconds(high, config) < seconds and high < 10_000_000:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.seconds(middle, config) <= seconds else (low, middle)
        return low


def pace(
    new: float, kept: float, sequences: Sequence[torch.Tensor], config: TrainingConfig, store: PrefixStore
) -> Pace:
    """From two timed steps: with enough memory only the first pass over the sequences computes prefixes."""
    whole = len(sequences) // config.batch
    fits = store.kept_bytes and store.kept_bytes * len(sequences) <= store.budget * config.batch
    return Pace(max(new, kept), kept, whole if fits else 2**62)


def refuse_untrainable(model: LanguageModel) -> None:
    """
    Raises:
        TrainingError: the model's attention or cache takes no look-ahead rows, nothing feeds its head, or it is
            spread over several devices.
    """
    if not model.capabilities.supports_pass:
        raise TrainingError(f"{model.name} cannot draft with look-ahead rows: {model.capabilities.reason}")
    implementation = getattr(model.model.config, "_attn_implementation", "sdpa")
    if implementation not in ("sdpa", "eager"):
        raise TrainingError(
            f"{model.name} runs with {implementation} attention, which takes no block mask. Load it with SDPA."
        )
    if is_spread(model.model):
        raise TrainingError(
            f"{model.name} is spread over several devices; training needs it on one. Load a smaller model, or use a "
            "machine whose GPU holds this one."
        )
    if model.input_embedding.weight.shape[1] != model.hidden_size:
        raise TrainingError(
            f"{model.name} projects its input embeddings ({model.input_embedding.weight.shape[1]} wide) to its hidden "
            f"size ({model.hidden_size}); look-ahead embeddings need both to be the same."
        )


def estimate(
    model: LanguageModel,
    parts: TrainableParts,
    config: TrainingConfig,
    sequences: Sequence[torch.Tensor],
    memory: int,
    measured: Pace,
    preparation: Preparation | None = None,
) -> Estimate:
    """Memory from the shapes, time from measured steps.

    The most a step holds: what each look-ahead row leaves for the backward pass in every layer, the batch's prefixes
    (twice: kept, and side by side), and the float32 scores of its rows.
    """
    c: Any = model.config
    size = model.dtype.itemsize
    inner = int(getattr(c, "intermediate_size", None) or getattr(c, "n_inner", None) or 4 * model.hidden_size)
    layers = len(model.layers)
    rows = config.batch * config.rows
    row = layers * (14 * model.hidden_size + 5 * inner) * size
    heads = int(c.num_attention_heads)
    key_heads = int(getattr(c, "num_key_value_heads", None) or heads)
    head_size = int(getattr(c, "head_dim", None) or model.hidden_size // heads)
    token = layers * 2 * key_heads * head_size * size
    sequence = config.length * (token + TEACHER_TOP * 12)
    mask = rows * (config.length + config.rows)
    width = min(model.vocabulary_size, min(config.rows, config.length) * LISTED + 2048)
    scores = rows * width * 4 * 6
    trainable = sum(p.numel() for p in parts.parameters())
    working = rows * row + 2 * config.batch * sequence + mask + scores + trainable * 16
    kept = min(memory, len(sequences) * sequence)
    seconds = measured.seconds(config.steps, config)
    before = preparation or Preparation()
    return Estimate(
        trainable,
        working,
        kept,
        seconds / config.steps,
        config.steps,
        seconds + before.seconds,
        before.writing_seconds,
        before.bigrams_seconds,
    )
