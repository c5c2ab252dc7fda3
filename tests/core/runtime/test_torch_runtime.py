"""The runtime over transformers modules: right rows, right bits, for every family and both attention kinds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.rows import Rows, RowsBuilder, chain_rows
from pass_core.runtime.torch_runtime import TorchRuntime
from pass_core.settings import LookaheadPart
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, random_lookahead

TEXT = np.array([3, 1, 4, 1, 5, 9, 2, 6], dtype=np.int64)
LENGTH = 3


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.FAMILIES[request.param]()


def tree() -> Rows:
    """Root 7; below it 8 and 9; 9 has a child 10; the root and 10 carry look-ahead chains."""
    rows = RowsBuilder()
    root = rows.add_token(7)
    rows.add_token(8, root)
    second = rows.add_token(9, root)
    last = rows.add_token(10, second)
    rows.add_lookahead_chain(2, root)
    rows.add_lookahead_chain(3, last)
    return rows.build()


def reference(model: LanguageModel, tokens: Sequence[int]) -> torch.Tensor:
    """Logits [n, vocabulary] of the whole model on plain text."""
    with torch.inference_mode():
        return model.model(torch.tensor([list(tokens)])).logits[0].float()


def test_a_prompt_in_one_call_gives_the_models_logits(model: LanguageModel) -> None:
    runtime = TorchRuntime(model)
    cache = runtime.new_cache(16)
    logits = runtime.logits(runtime.forward(cache, chain_rows(TEXT)))
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, reference(model, TEXT), atol=2e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_row_of_a_tree_sees_the_text_and_its_ancestors_alone(family: str, attention: str) -> None:
    model = tiny.FAMILIES[family](attention=attention)
    runtime = TorchRuntime(model)
    runtime.use_lookahead(random_lookahead(model, LENGTH, ALL_PARTS))
    cache = runtime.new_cache(64)
    runtime.forward(cache, chain_rows(TEXT))
    cache.commit(range(TEXT.size))
    logits = runtime.logits(runtime.forward(cache, tree()))
    for row, path in ((0, [7]), (1, [7, 8]), (2, [7, 9]), (3, [7, 9, 10])):
        assert torch.allclose(logits[row], reference(model, [*TEXT, *path])[-1], atol=5e-5), row


def test_lookahead_rows_are_inputs_at_their_positions(model: LanguageModel) -> None:
    """Without deep vectors and adapters a chain below the text is the text followed by other input vectors."""
    lookahead = random_lookahead(model, LENGTH)
    runtime = TorchRuntime(model)
    runtime.use_lookahead(lookahead)
    cache = runtime.new_cache(16)
    rows = RowsBuilder()
    at = -1
    for token in TEXT:
        at = rows.add_token(int(token), at)
    rows.add_lookahead_chain(LENGTH, at)
    got = runtime.logits(runtime.forward(cache, rows.build()))
    with torch.inference_mode():
        inputs = torch.cat((model.input_embedding(torch.from_numpy(TEXT)), lookahead.embeddings))
        expected = model.model(inputs_embeds=inputs[None]).logits[0]
    assert torch.allclose(got, expected, atol=5e-5)


@pytest.mark.parametrize("parts", [{LookaheadPart.DEEP}, {LookaheadPart.ADAPTER}, ALL_PARTS])
def test_lookahead_parts_never_touch_token_rows(model: LanguageModel, parts: frozenset[LookaheadPart]) -> None:
    """In calls of the same shape: bit for bit."""
    whole = random_lookahead(model, LENGTH, ALL_PARTS)
    results = []
    for lookahead in (whole.without(ALL_PARTS), whole.without(ALL_PARTS - parts)):
        runtime = TorchRuntime(model)
        runtime.use_lookahead(lookahead)
        cache = runtime.new_cache(64)
        runtime.forward(cache, chain_rows(TEXT))
        cache.commit(range(TEXT.size))
        results.append(runtime.forward(cache, tree()))
    without, with_parts = results
    is_token = torch.from_numpy(tree().tokens >= 0)
    assert torch.equal(without[is_token], with_parts[is_token])
    changed = (without[~is_token] - with_parts[~is_token]).abs().amax(1)
    assert bool((changed > 1e-3).all())


def test_lookahead_parts_are_gone_after_the_call(model: LanguageModel) -> None:
    before = reference(model, TEXT)
    runtime = TorchRuntime(model)
    runtime.use_lookahead(random_lookahead(model, LENGTH, ALL_PARTS))
    runtime.forward(runtime.new_cache(64), tree())
    assert torch.equal(reference(model, TEXT), before)
    runtime.use_lookahead(None)
    with pytest.raises(RuntimeError, match="use_lookahead"):
        runtime.forward(runtime.new_cache(64), tree())


def test_the_meaning_of_adapters_and_deep_vectors() -> None:
    """Against the definition, with a model of one layer written out by hooks of this test's own."""
    model = tiny.tiny_llama(layers=1)
    lookahead = random_lookahead(model, 1, frozenset({LookaheadPart.DEEP, LookaheadPart.ADAPTER}))
    runtime = TorchRuntime(model)
    runtime.use_lookahead(lookahead)
    rows = RowsBuilder()
    rows.add_lookahead_chain(1, -1)
    got = runtime.forward(runtime.new_cache(4), rows.build())

    assert lookahead.deep is not None
    merged = tiny.tiny_llama(layers=1)
    linears = merged.linears()
    with torch.inference_mode():
        for name, adapter in lookahead.adapters.items():
            linears[name].weight.copy_(linears[name].weight + adapter.up @ adapter.down)  # type: ignore[union-attr]
        inputs = lookahead.embeddings + lookahead.deep[0]
        expected = merged.base(inputs_embeds=inputs[None]).last_hidden_state[0]
    assert torch.allclose(got, expected, atol=1e-4)


def test_committed_rows_equal_recomputation(model: LanguageModel) -> None:
    """Accepting 9 and 10 out of the tree, then going on, is the same as having had that text from the start."""
    runtime = TorchRuntime(model)
    runtime.use_lookahead(random_lookahead(model, LENGTH, ALL_PARTS))
    cache = runtime.new_cache(64)
    runtime.forward(cache, chain_rows(TEXT))
    cache.commit(range(TEXT.size))
    runtime.forward(cache, tree())
    cache.commit([0, 2, 3])
    assert cache.length == TEXT.size + 3
    got = runtime.logits(runtime.forward(cache, chain_rows(np.array([11, 12]))))
    expected = reference(model, [*TEXT, 7, 9, 10, 11, 12])
    assert torch.allclose(got, expected[-2:], atol=5e-5)
    # Nothing committed of that call: it never happened.
    cache.commit([])
    again = runtime.logits(runtime.forward(cache, chain_rows(np.array([11, 12]))))
    assert torch.equal(got, again)
    cache.truncate(TEXT.size)
    back = runtime.logits(runtime.forward(cache, chain_rows(np.array([20]))))
    assert torch.allclose(back[0], reference(model, [*TEXT, 20])[-1], atol=5e-5)


def test_the_cache_never_grows_nor_moves(model: LanguageModel) -> None:
    runtime = TorchRuntime(model)
    runtime.use_lookahead(random_lookahead(model, LENGTH))
    cache = runtime.new_cache(64)
    runtime.forward(cache, chain_rows(TEXT))
    cache.commit(range(TEXT.size))
    size = cache.nbytes
    addresses = [b.data_ptr() for b in cache._buffers.values()]
    for _ in range(10):
        runtime.forward(cache, tree())
        cache.commit([0, 2, 3])
    assert cache.length == TEXT.size + 30
    assert cache.nbytes == size
    assert [b.data_ptr() for b in cache._buffers.values()] == addresses


def test_rows_beyond_the_capacity_are_refused() -> None:
    runtime = TorchRuntime(tiny.tiny_llama())
    cache = runtime.new_cache(4)
    runtime.forward(cache, chain_rows(TEXT[:4]))
    cache.commit(range(4))
    with pytest.raises(RuntimeError, match="4 slots cannot hold 5"):
        runtime.forward(cache, chain_rows(TEXT[:1]))


@pytest.mark.parametrize("name", ["GemmaTwo", "Granite"])
def test_families_that_change_their_logits_after_the_head(name: str) -> None:
    if name == "GemmaTwo":
        from transformers import Gemma2Config, Gemma2ForCausalLM

        extra = {"num_key_value_heads": 1, "head_dim": 8, "final_logit_softcapping": 2.0, "sliding_window": 256}
        model = tiny._build(Gemma2ForCausalLM, Gemma2Config, "tiny-gemma2", extra, attention="eager")
    else:
        from transformers import GraniteConfig, GraniteForCausalLM

        extra = {"num_key_value_heads": 2, "logits_scaling": 8.0, "embedding_multiplier": 3.0}
        model = tiny._build(GraniteForCausalLM, GraniteConfig, "tiny-granite", extra)
    runtime = TorchRuntime(model)
    hidden = runtime.forward(runtime.new_cache(16), chain_rows(TEXT))
    assert torch.allclose(logits := runtime.logits(hidden), reference(model, TEXT), atol=2e-5)
    some = torch.arange(1, model.vocabulary_size, 3)
    assert torch.allclose(runtime.shortlist(some)(hidden), logits[:, some], atol=1e-6)
