"""Small runs on tiny models that all training tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pass_core.models.language_model import LanguageModel
from pass_core.training.acceptance import HeldOut
from pass_core.training.config import TrainingConfig, TrainingKind
from pass_core.training.corpus import Corpus
from pass_core.training.options import TrainingOptions
from pass_core.training.writing import continue_text


def small_config(**changes: Any) -> TrainingConfig:
    """Everything on, a few steps, few rows."""
    fields: dict[str, Any] = {
        "kind": TrainingKind.ALL,
        "with_sampler": True,
        "lookahead": 4,
        "rank": 2,
        "sampler_inner": 16,
        "steps": 8,
        "batch": 3,
        "rows": 24,
        "length": 32,
        "warmup": 2,
        "evaluate_every": 4,
        "evaluate_contexts": 24,
        "checkpoint_every": 2,
    }
    return TrainingConfig(**(fields | changes))


def own_corpus(model: LanguageModel, sequences: int = 10, held: int = 4, length: int = 32) -> Corpus:
    """Texts that the tiny model wrote, of different lengths."""
    generator = torch.Generator().manual_seed(1)
    count = sequences + held
    prefixes = torch.randint(0, min(64, model.vocabulary_size), (count, 4), generator=generator)
    ids = continue_text(model, prefixes, length, torch.full((count,), 0.8), torch.full((count,), 10), generator)
    train = [row[: length - i % 3] for i, row in enumerate(ids[:sequences])]
    return Corpus(train, [HeldOut(row, 4, "prose") for row in ids[sequences:]], "tiny text")


def options(folder: Path, **changes: Any) -> TrainingOptions:
    return TrainingOptions(**({"out": folder / "made.safetensors", "dtype": torch.float32} | changes))
