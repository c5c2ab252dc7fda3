"""What a run is said to take before it starts."""

from __future__ import annotations

import pytest
import torch

from pass_core.engine import Engine
from pass_core.models.capabilities import Capabilities
from pass_core.training.config import TrainingError
from pass_core.training.estimate import Pace, pace, refuse_untrainable
from pass_core.training.preview import preview
from pass_core.training.step import frozen
from pass_core.training.store import PrefixStore
from tests import tiny
from tests.core.training.runs import small_config


def test_steps_that_fit_a_budget_use_it_and_no_more() -> None:
    config = small_config(evaluate_every=10)
    measured = Pace(new=2.0, kept=0.5, new_steps=30)
    for seconds in (100.0, 400.0, 3000.0):
        steps = measured.steps_in(seconds, config)
        assert measured.seconds(steps, config) <= seconds < measured.seconds(steps + 11, config)
    assert measured.steps_in(0.1, config) == 1  # no floor of many steps: one, so that there is a file


def test_pace_counts_prefixes_once_only_when_memory_holds_them() -> None:
    model = tiny.tiny_llama()
    sequences = [torch.arange(20)] * 9
    config = small_config(batch=3)
    for budget, expected in ((10**9, 3), (30_000, 2**62)):
        store = PrefixStore(model, sequences, budget)
        with frozen(model):
            store.batch([0, 1, 2])
        assert pace(2.0, 0.5, sequences, config, store).new_steps == expected


def test_preview_needs_no_text_and_keeps_the_model_as_it_was() -> None:
    model = tiny.tiny_llama()
    before = {n: p.clone() for n, p in model.model.named_parameters()}
    told = preview(Engine(model), small_config(steps=50), sequences=30)
    assert told.steps == 50
    assert told.seconds > 0
    assert told.bytes_kept > 0
    assert told.trainable > 4 * model.hidden_size
    short, long = (preview(Engine(model), small_config(minutes=m), sequences=30) for m in (0.05, 50))
    assert short.steps == 1 or short.seconds <= 3.0  # by its own pace, whatever this machine's is
    assert short.steps < long.steps
    assert long.seconds <= 3000
    assert all(torch.equal(p, before[n]) for n, p in model.model.named_parameters())


def test_kept_memory_is_what_was_announced() -> None:
    model = tiny.tiny_llama()
    config = small_config(length=32, batch=3)
    told = preview(Engine(model), config, sequences=6)
    store = PrefixStore(model, [torch.arange(32)] * 6, 10**9)
    with frozen(model):
        store.batch(range(6))
    assert store.kept_bytes == told.bytes_kept
    assert preview(Engine(model), config, sequences=6, memory=1000).bytes_kept == 1000


def test_models_that_cannot_draft_are_refused_with_the_reason() -> None:
    model = tiny.tiny_llama()
    model.capabilities = Capabilities(False, "its state cannot be rolled back.", 256)
    with pytest.raises(TrainingError, match="rolled back"):
        refuse_untrainable(model)
