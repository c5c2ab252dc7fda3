"""Windows slide over text, trees and look-ahead rows by position, in decoding and in training alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pass_core.lookahead.embeddings import mean_embedding
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.masks import layer_masks
from pass_core.runtime.rows import RowsBuilder, chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.training.chains import Chains
from pass_core.training.config import TrainingKind
from pass_core.training.forward import lookahead_forward, prefix_forward
from pass_core.training.parts import new_parts
from tests import tiny
from tests.core.training.runs import small_config

WINDOW, LENGTH = 8, 3


def windowed(kind: str) -> LanguageModel:
    """Mistral, all of whose layers slide, or Qwen2, whose first layer does not."""
    if kind == "mistral":
        return tiny.tiny_mistral(sliding_window=WINDOW)
    return tiny.tiny_qwen2(sliding_window=WINDOW, use_sliding_window=True, max_window_layers=1)


def test_the_window_counts_positions_and_not_rows() -> None:
    model = windowed("mistral")
    allowed = torch.ones(1, 4, dtype=torch.bool)
    distance = torch.tensor([[0, WINDOW - 1, WINDOW, 20]])
    mask = layer_masks(model, allowed, distance)
    assert isinstance(mask, torch.Tensor)
    assert mask.tolist() == [[True, True, False, False]]


def test_layers_without_the_window_get_a_mask_of_their_own() -> None:
    masks = layer_masks(windowed("qwen2"), torch.ones(1, 1, dtype=torch.bool), torch.tensor([[WINDOW]]))
    assert isinstance(masks, dict)
    assert {k: bool(m) for k, m in masks.items()} == {"full_attention": True, "sliding_attention": False}


@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_a_tree_past_the_window_gives_the_models_logits(kind: str) -> None:
    model = windowed(kind)
    text = np.arange(3, 23)
    runtime = TorchRuntime(model)
    cache = runtime.new_cache(64)
    runtime.forward(cache, chain_rows(text))
    cache.commit(range(text.size))
    rows = RowsBuilder()
    root = rows.add_token(7)
    rows.add_token(8, root)
    last = rows.add_token(10, rows.add_token(9, root))
    got = runtime.logits(runtime.forward(cache, rows.build()))
    for row, path in ((0, [7]), (1, [7, 8]), (2, [7, 9]), (last, [7, 9, 10])):
        with torch.inference_mode():
            wanted = model.model(torch.tensor([[*text.tolist(), *path]])).logits[0, -1]
        assert torch.allclose(got[row], wanted, atol=5e-5), row


@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_training_sees_what_decoding_sees(kind: str) -> None:
    model = windowed(kind)
    parts: Any = new_parts(model, small_config(kind=TrainingKind.EMBEDDINGS, with_sampler=False, lookahead=LENGTH))
    ids = torch.arange(3, 23)[None]
    ones = torch.ones(1, LENGTH, dtype=torch.int64)
    chains = Chains(20 * ones, 0 * ones, torch.arange(LENGTH)[None], ones.bool())
    with torch.no_grad():
        trained = lookahead_forward(model, parts, prefix_forward(model, ids), chains)[0]
    lookahead = replace(
        mean_embedding(model.input_embedding.weight, LENGTH), embeddings=parts.embeddings.detach().clone()
    )
    runtime = TorchRuntime(model)
    runtime.use_lookahead(lookahead)
    cache = runtime.new_cache(64)
    runtime.forward(cache, chain_rows(ids[0].numpy()))
    cache.commit(range(20))
    rows = RowsBuilder()
    rows.add_lookahead_chain(LENGTH, -1)
    torch.testing.assert_close(trained, runtime.forward(cache, rows.build()), atol=5e-5, rtol=1e-4)
