"""The automatic weights: exact with regard to the checkpoint, the fastest as measured, measured once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from pass_core.models.errors import DeviceUnavailable, ModelUnsupported
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import load_model
from pass_core.models.quantize import quantization_config
from pass_core.runtime import choice, cost
from pass_core.runtime.base import Runtime
from pass_core.runtime.choice import Choice, exact_makers, measure_choice
from pass_core.runtime.cost import CostModel
from pass_core.runtime.factory import make_runtime
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime
from tests import tiny
from tests.core.models.gguf_files import gguf_model, write_gguf

compiled = pytest.mark.skipif(library() is None, reason="the compiled library is not here")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of a model that the library runs; what is made of it goes beside it, once."""
    folder = tmp_path_factory.mktemp("choice")
    return write_gguf(folder / "tiny.gguf", gguf_model(hidden=64))


@pytest.fixture
def file(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PASS_PLAYGROUND_CACHE", str(shelf.parent / "cache"))
    return shelf


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where measurements are kept."""
    monkeypatch.setattr(choice, "cache_folder", lambda: tmp_path / "kept")
    return tmp_path / "kept" / "weights"


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, tuple[float, float]]) -> list[str]:
    """Calls of one row and of eight that take so long by format; the formats that were timed."""
    seen: list[str] = []

    def measure(runtime: Any, **_: Any) -> CostModel:
        seen.append(runtime.weights)
        one, eight = seconds[runtime.weights]
        return CostModel({1: one, choice.ROWS: eight})

    monkeypatch.setattr(cost, "measure", measure)
    return seen


def makers_of(*formats: str) -> dict[str, Callable[[], Runtime]]:
    class Made:
        def __init__(self, weights: str) -> None:
            self.weights = weights

    return {w: cast("Callable[[], Runtime]", lambda w=w: Made(w)) for w in formats}


def test_the_faster_way_to_a_token_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, {"gguf": (0.006, 0.02), "float32": (0.012, 0.0128)})
    found, runtime = measure_choice(makers_of("gguf", "float32"))
    assert found.weights == "gguf"
    assert found.milliseconds == pytest.approx({"gguf": 6.0, "float32": 8.0})
    assert runtime is not None
    assert cast(Any, runtime).weights == "gguf"
    assert found.reason == "the file's own blocks: 6.0 ms per token against 8.0 in float32 on this processor"


def test_one_format_alone_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = timed(monkeypatch, {})
    assert measure_choice(makers_of("float32")) == (Choice("float32", {}), None)
    assert not seen


@compiled
def test_only_exact_formats_come_into_question(file: Path) -> None:
    wide = tiny.tiny_llama(hidden=64)
    assert list(exact_makers(wide)) == ["float32"]
    narrow = tiny.tiny_llama(hidden=64, dtype=torch.bfloat16)
    assert list(exact_makers(narrow)) == ["bfloat16", "float32"]
    narrow.model.float()
    assert list(exact_makers(narrow)) == ["bfloat16", "float32"]
    assert list(exact_makers(load_model(file, device="cpu"))) == ["gguf", "float32"]


@compiled
def test_a_measurement_is_made_once_and_its_reason_is_told(
    file: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = timed(monkeypatch, {"gguf": (0.004, 0.004), "float32": (0.002, 0.002)})
    for _ in range(2):
        model = load_model(file, device="cpu")
        assert model.weights == "auto"
        runtime = make_runtime(model)
        assert isinstance(runtime, NativeRuntime)
        assert runtime.weights == "float32"
        assert "ms per token against" in model.weights_reason
    assert seen == ["gguf", "float32"]
    next(kept.glob("*.json")).write_text("{}")
    assert isinstance(make_runtime(load_model(file, device="cpu")), NativeRuntime)
    assert seen == ["gguf", "float32"] * 2


@compiled
def test_named_dtypes_and_weights_are_taken_as_named(file: Path, kept: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        runtime = make_runtime(load_model(file, device="cpu", dtype=dtype))
        assert isinstance(runtime, NativeRuntime)
        assert runtime.weights == dtype
    runtime = make_runtime(load_model(file, device="cpu", quantize="gguf"))
    assert isinstance(runtime, NativeRuntime)
    assert runtime.weights == "gguf"
    assert not kept.exists()


def test_the_files_blocks_are_refused_in_a_sentence_where_there_are_none(tmp_path: Path) -> None:
    folder = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "tiny")
    with pytest.raises(ModelUnsupported, match="need a model from a GGUF file"):
        load_model(folder, device="cpu", quantize="gguf")
    gpt2: LanguageModel = tiny.tiny_gpt2()
    gpt2.weights = "gguf"
    with pytest.raises(ModelUnsupported, match=r"tiny-gpt2 cannot be computed with its file's own blocks: gpt2 is not"):
        make_runtime(gpt2)
    with pytest.raises(DeviceUnavailable, match="own blocks are computed on the CPU"):
        quantization_config("gguf", torch.device("cuda"), torch.bfloat16)


def test_automatic_weights_hold_a_checkpoint_exactly_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pass_core.models.device.fastest_cpu_dtype", lambda: torch.bfloat16)
    wide = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "wide")
    narrow = tiny.save(tiny.tiny_llama(tokenizer=True, dtype=torch.bfloat16), tmp_path / "narrow")
    assert load_model(wide, device="cpu").dtype == torch.float32
    assert load_model(narrow, device="cpu").dtype == torch.bfloat16
