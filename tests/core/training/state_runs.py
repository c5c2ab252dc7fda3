"""Small state heads on tiny models that their tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken
from pass_core.training.corpus import Corpus
from pass_core.training.state_config import StateHeadConfig
from pass_core.training.state_head import StateHeadTrainer
from pass_core.training.state_parts import StateHead
from tests.core.training.runs import options, own_corpus


def state_config(**changes: Any) -> StateHeadConfig:
    """A small head, a few steps."""
    fields: dict[str, Any] = {
        "depth": 3,
        "inner": 32,
        "fit_inner": 16,
        "steps": 8,
        "places": 128,
        "length": 32,
        "learning_rate": 3e-2,
        "warmup": 1,
        "ema": 0.5,
        "evaluate_every": 4,
        "evaluate_contexts": 48,
    }
    return StateHeadConfig(**(fields | changes))


def shaken_head(model: LanguageModel, config: StateHeadConfig | None = None, seed: int = 3) -> StateHead:
    """A head with every tensor away from its initial zeros."""
    head = StateHead.new(model.hidden_size, config or state_config(), torch.arange(model.vocabulary_size))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return head


def trainer_of(
    model: LanguageModel, folder: Path, *, corpus: Corpus | None = None, cancel: CancelToken | None = None, **more: Any
) -> StateHeadTrainer:
    """A run on the model's own text; `more` goes to the options, or (`config`) replaces the config."""
    config = more.pop("config", state_config())
    corpus = corpus or own_corpus(model, sequences=20, held=8)
    return StateHeadTrainer(Engine(model), corpus, replace(config), options(folder, **more), cancel or CancelToken())
