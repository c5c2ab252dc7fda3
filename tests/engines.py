"""One engine for each model of the tests, so that weights are packed once."""

from __future__ import annotations

from typing import Any

from pass_core.engine import Engine
from pass_core.models.language_model import LanguageModel

_KEPT = "engine of the tests"


def engine_of(model: LanguageModel) -> Engine:
    """The model's engine; it lives as long as the model does."""
    return vars(model).setdefault(_KEPT, None) or use(model)


def use(model: LanguageModel, **parts: Any) -> Engine:
    """A new engine of the model, with these parts (runtime, cost, bigrams) instead of its own."""
    engine = Engine(model, **parts)
    vars(model)[_KEPT] = engine
    return engine
