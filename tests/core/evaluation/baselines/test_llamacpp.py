"""llama.cpp as a baseline: the same prompt, the same greedy text, its own timings, plain and speculative."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pass_core.evaluation.baselines.contestant import Contestant, Job, Source, SourceUnavailable, text_hash
from pass_core.evaluation.baselines.llamacpp import MODES, LlamaCppRunner, llama_cpp_installed
from pass_core.evaluation.speed.plan import contestants_for
from pass_core.models.language_model import LanguageModel
from pass_core.settings import SamplingSettings
from tests.core.models.gguf_files import gguf_model, write_gguf

PROMPT = tuple(b"abcabcabcabcabcabc")
NEW = 24
needs_llama_cpp = pytest.mark.skipif(not llama_cpp_installed(), reason="the extra llamacpp is not installed")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return gguf_model()


@pytest.fixture(scope="module")
def runner(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> LlamaCppRunner:
    path = write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", model)
    return LlamaCppRunner(path, model, context=128, threads=1)


def job(**changes: object) -> Job:
    fields: dict[str, object] = {"ids": PROMPT, "sampling": SamplingSettings(0.0, 0), "seed": 1}
    return Job(**(fields | {"max_new_tokens": NEW, "ignore_eos": True} | changes))  # type: ignore[arg-type]


def greedy(model: LanguageModel) -> list[int]:
    ids = list(PROMPT)
    with torch.inference_mode():
        for _ in range(NEW):
            ids.append(int(model.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


@needs_llama_cpp
@pytest.mark.parametrize("mode", list(MODES))
def test_every_mode_writes_the_models_greedy_text(mode: str, runner: LlamaCppRunner, model: LanguageModel) -> None:
    measured = runner(Contestant(Source.LLAMA_CPP, mode), job(), lambda: False)
    assert measured.text_hash == text_hash(greedy(model))
    assert (measured.new_tokens, measured.timed_tokens) == (NEW, NEW - 1)
    assert measured.calls == NEW - 1 - measured.accepted
    assert measured.decode_seconds > 0
    assert measured.prefill_seconds > 0
    assert not measured.cancelled


@needs_llama_cpp
@pytest.mark.parametrize("cut", [(1e-6, 0.0), (1.0, 1.0)], ids=["top-p", "min-p"])
def test_one_token_left_is_the_likeliest(
    cut: tuple[float, float], runner: LlamaCppRunner, model: LanguageModel
) -> None:
    sampling = SamplingSettings(1.5, 10, *cut)
    measured = runner(Contestant(Source.LLAMA_CPP, "generate"), job(sampling=sampling, seed=3), lambda: False)
    assert measured.text_hash == text_hash(greedy(model))


@needs_llama_cpp
def test_seeds_and_settings_reach_the_sampler(runner: LlamaCppRunner) -> None:
    plain = Contestant(Source.LLAMA_CPP, "generate")
    hashes = [
        runner(plain, job(sampling=SamplingSettings(1.0, 10), seed=seed), lambda: False).text_hash for seed in (1, 1, 2)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@needs_llama_cpp
def test_a_cancelled_run_ends_early_and_says_so(runner: LlamaCppRunner) -> None:
    measured = runner(Contestant(Source.LLAMA_CPP, "generate"), job(max_new_tokens=100), lambda: True)
    assert measured.cancelled
    assert measured.new_tokens < 100


def test_the_table_has_llama_cpps_own_modes_when_it_is_asked_for() -> None:
    found = [c for c in contestants_for([], [], llama_cpp=True) if c.source is Source.LLAMA_CPP]
    assert [c.strategy for c in found] == list(MODES)
    assert len({c.label for c in found}) == len(MODES)


@needs_llama_cpp
def test_a_file_that_is_not_there_or_no_model_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="There is no GGUF file"):
        LlamaCppRunner(tmp_path / "none.gguf", model, context=64)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and no more")
    broken = LlamaCppRunner(tmp_path / "broken.gguf", model, context=64)
    with pytest.raises(SourceUnavailable, match=r"cannot load broken\.gguf"):
        broken(Contestant(Source.LLAMA_CPP, "generate"), job(), lambda: False)
