"""What a run will take, before it starts; and which models cannot be trained for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.training.config import TrainingConfig, TrainingError
from pass_core.training.events import Estimate
from pass_core.training.objective import TEACHER_TOP
from pass_core.training.parts import LookaheadParts


class HasSequences(Protocol):
    """What an estimate needs of a corpus."""

    @property
    def train(self) -> Sequence[torch.Tensor]: ...


def refuse_untrainable(model: LanguageModel) -> None:
    """
    Raises:
        TrainingError: the model's attention or cache takes no look-ahead rows, or nothing feeds its head.
    """
    if not model.capabilities.supports_pass:
        raise TrainingError(f"{model.name} cannot draft with look-ahead rows: {model.capabilities.reason}")
    implementation = getattr(model.model.config, "_attn_implementation", "sdpa")
    if implementation not in ("sdpa", "eager"):
        raise TrainingError(
            f"{model.name} runs with {implementation} attention, which takes no block mask. Load it with SDPA."
        )
    if model.input_embedding.weight.shape[1] != model.hidden_size:
        raise TrainingError(
            f"{model.name} projects its input embeddings ({model.input_embedding.weight.shape[1]} wide) to its hidden "
            f"size ({model.hidden_size}); look-ahead embeddings need both to be the same."
        )


def estimate(
    model: LanguageModel,
    parts: LookaheadParts,
    config: TrainingConfig,
    corpus: HasSequences,
    memory: int,
    seconds_per_step: float,
) -> Estimate:
    """Memory from the shapes, time from one measured step.

    The most a step holds: what each look-ahead row leaves for the backward pass in every layer, the batch's prefixes
    (twice: kept, and side by side), and one sequence's float32 scores.
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
    scores = config.rows * min(model.vocabulary_size, 16_384) * 4 * 6
    trainable = sum(p.numel() for p in parts.parameters())
    working = rows * row + 2 * config.batch * sequence + mask + scores + trainable * 16
    kept = min(memory, len(corpus.train) * sequence)
    evaluations = 1 + (config.steps // config.evaluate_every if config.evaluate_every else 1)
    per_evaluation = seconds_per_step * config.evaluate_contexts * 5 / max(1, 3 * rows)
    seconds = seconds_per_step * config.steps + per_evaluation * evaluations
    return Estimate(trainable, working, kept, seconds_per_step, config.steps, seconds)
