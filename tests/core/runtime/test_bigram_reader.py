"""Reading a model's own bigrams: what is read, that it is kept, and that it can be stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pass_core.engine import Engine
from pass_core.lookahead.bigrams import COMMON, WEIGHT
from pass_core.models.language_model import LanguageModel
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.runtime import bigram_reader
from pass_core.runtime.torch_runtime import TorchRuntime
from tests import tiny


def after_alone(model: LanguageModel, start: int | None, token: int) -> torch.Tensor:
    ids = [token] if start is None else [start, token]
    with torch.inference_mode():
        return model.base(torch.tensor([ids])).last_hidden_state[0, -1]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("tokenizer", [True, False], ids=["start token", "no start token"])
def test_a_vector_comes_from_the_models_state_after_the_token_alone(family: str, tokenizer: bool) -> None:
    model = tiny.FAMILIES[family](tokenizer=tokenizer)
    start = None
    if tokenizer:
        start = model.tokenizer.bos_token_id
        start = model.tokenizer.eos_token_id if start is None else start
        assert start is not None
    bigrams = Engine(model).read_bigrams()
    assert bigrams.known == model.vocabulary_size
    common = torch.stack([after_alone(model, start, t) for t in range(bigrams.known)]).mean(0)
    for token in (0, 3, bigrams.known - 1):
        expected = WEIGHT * (after_alone(model, start, token) - COMMON * common)
        assert torch.allclose(bigrams.shifts[token].float(), expected, atol=0.02 * float(expected.abs().max()) + 0.01)


def test_they_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny.tiny_llama(tokenizer=True), cache=tmp_path)
    assert engine.bigrams is None
    first = engine.read_bigrams()
    assert engine.bigrams is first is engine.read_bigrams()
    monkeypatch.setattr(TorchRuntime, "forward", lambda *_: pytest.fail("read again"))
    again = Engine(tiny.tiny_llama(tokenizer=True), cache=tmp_path)
    kept = again.bigrams
    assert kept is not None
    assert torch.equal(kept.shifts, first.shifts)
    assert again.read_bigrams() is kept


def test_only_as_many_tokens_as_the_limit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.tiny_llama(tokenizer=True)
    monkeypatch.setattr(bigram_reader, "MOST_BYTES", 100 * 2 * model.hidden_size)
    assert Engine(model).read_bigrams().known == 100


def test_it_reports_and_can_be_stopped_between_two_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigram_reader, "ROWS", 16)
    model = tiny.tiny_llama(tokenizer=True)
    engine = Engine(model, cache=tmp_path)
    cancel = CancelToken()
    seen: list[Progress] = []

    def progress(report: Progress) -> None:
        seen.append(report)
        cancel.cancel()

    with pytest.raises(Cancelled):
        engine.read_bigrams(progress, cancel)
    assert (seen[0].done, seen[0].total, seen[0].unit) == (0, model.vocabulary_size, "tokens")
    assert engine.bigrams is None
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert engine.read_bigrams(seen.append).known == model.vocabulary_size
    assert seen[-1].done == seen[-1].total


def test_a_model_that_cannot_draft_has_none() -> None:
    model = tiny.tiny_llama(tokenizer=True, attention_chunk_size=8)
    assert not model.capabilities.supports_pass
    assert Engine(model).bigrams is None
