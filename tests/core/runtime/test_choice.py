"""The automatic weights: exact with regard to the checkpoint, the fastest as measured, measured once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from pass_core.models.errors import DeviceUnavailable, ModelUnsupported
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import load_model
from pass_core.models.quantize import quantization_config
from pass_core.runtime import choice, cost, kept_choices
from pass_core.runtime.choice import Candidate, Choice, exact_candidates, measure_choice
from pass_core.runtime.cost import CostModel
from pass_core.runtime.factory import make_runtime
from pass_core.runtime.kept_choices import kept_reasons
from pass_core.runtime.native.build import library
from pass_core.runtime.native.formats import Weights
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


class _Others:
    """Other programs keep so many processors busy, measurement by measurement; the last figure stays."""

    def __init__(self, *busy: float) -> None:
        self._busy = list(busy)

    def __call__(self) -> Any:
        return self

    def processors(self) -> float:
        return self._busy.pop(0) if len(self._busy) > 1 else self._busy[0]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where measurements are kept, on a quiet machine."""
    monkeypatch.setattr(choice, "OtherWork", _Others(0.0))
    folder = tmp_path / "kept"
    for module in (choice, kept_choices):
        monkeypatch.setattr(module, "choices_folder", lambda: folder)
    return folder


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, tuple[float, float]]) -> list[str]:
    """Calls of one row and of eight that take so long by format; the formats that were timed."""
    seen: list[str] = []

    def measure(runtime: Any, **_: Any) -> CostModel:
        seen.append(runtime.weights)
        one, eight = seconds[runtime.weights]
        return CostModel({1: one, choice.ROWS: eight})

    monkeypatch.setattr(cost, "measure", measure)
    return seen


def candidates_of(**least_bytes: int) -> list[Candidate]:
    class Made:
        def __init__(self, weights: str) -> None:
            self.weights = weights

    return [
        Candidate(cast("Weights", w), n, cast("Callable[[], NativeRuntime]", lambda w=w: Made(w)), w)
        for w, n in least_bytes.items()
    ]


def test_the_faster_way_to_a_token_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, {"gguf": (0.006, 0.02), "float32": (0.012, 0.0128)})
    monkeypatch.setattr(choice, "read_speed", lambda _: 1e10)
    found, runtime = measure_choice(candidates_of(gguf=0, float32=100_000_000))
    assert found.weights == "gguf"
    assert found.milliseconds == pytest.approx({"gguf": 6.0, "float32": 8.0})
    assert runtime is not None
    assert cast(Any, runtime).weights == "gguf"
    assert found.reason == "6.0 ms per token against 8.0 in float32 on this processor"
    assert replace(found, others=1000.0).reason.endswith("on this processor, measured while other programs ran")


def test_what_cannot_win_is_not_even_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """160 MB at 10 GB/s are 16 ms a call, and 0.9 of that by 1.6 tokens 9 ms a token."""
    seen = timed(monkeypatch, {"gguf": (0.006, 0.02), "bfloat16": (0.005, 0.02), "float32": (0.001, 0.001)})
    monkeypatch.setattr(choice, "read_speed", lambda _: 1e10)
    found, runtime = measure_choice(candidates_of(gguf=0, bfloat16=80_000_000, float32=160_000_000))
    assert seen == ["gguf", "bfloat16"]
    assert found.weights == cast(Any, runtime).weights == "bfloat16"
    assert found.at_least == pytest.approx({"float32": 9.0})
    assert found.reason == (
        "5.0 ms per token against 6.0 in the file's own blocks and 9.0 or more in float32 on this processor"
    )


def test_one_format_alone_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = timed(monkeypatch, {})
    assert measure_choice(candidates_of(float32=4)) == (Choice("float32"), None)
    assert not seen


def formats_of(model: LanguageModel) -> list[str]:
    return [c.weights for c in exact_candidates(model)]


@compiled
def test_only_exact_formats_come_into_question(file: Path) -> None:
    wide = tiny.tiny_llama(hidden=64)
    assert formats_of(wide) == ["float32"]
    narrow = tiny.tiny_llama(hidden=64, dtype=torch.bfloat16)
    assert formats_of(narrow) == ["bfloat16", "float32"]
    narrow.model.float()
    assert formats_of(narrow) == ["bfloat16", "float32"]
    assert formats_of(load_model(file, device="cpu")) == ["gguf", "float32"]


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
    model = load_model(file, device="cpu")
    assert isinstance(make_runtime(model), NativeRuntime)
    assert seen == ["gguf", "float32"] * 2
    assert kept_reasons() == {model.source: model.weights_reason}


@compiled
def test_what_was_measured_on_a_busy_machine_is_measured_again(
    file: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a quiet one, which stays; a busier measurement changes nothing."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(choice, "OtherWork", _Others(1.0, 1.5, 0.0))
    slow, fast = (0.004, 0.004), (0.002, 0.002)
    expected = [("float32", slow, fast), ("gguf", fast, slow), ("gguf", fast, slow), ("float32", slow, fast)]
    taken, measurements = [], []
    for _, gguf, float32 in expected:
        measurements.append(timed(monkeypatch, {"gguf": gguf, "float32": float32}))
        runtime = make_runtime(load_model(file, device="cpu"))
        assert isinstance(runtime, NativeRuntime)
        taken.append(runtime.weights)
    assert taken == ["float32", "float32", "gguf", "gguf"]
    assert [len(m) for m in measurements] == [2, 2, 2, 0]


@compiled
def test_the_reason_says_what_is_exact(file: Path, kept: Path) -> None:
    model = load_model(file, device="cpu")
    make_runtime(model)
    assert model.weights_reason.startswith(("the GGUF file's own weights (F32), nothing rounded again (", "float32, "))
    for options, said in (
        ({"dtype": "float32"}, "float32, which holds every weight as it is"),
        ({"dtype": "bfloat16"}, "bfloat16 weights and KV cache, sums in float32"),
        ({"quantize": "gguf"}, "the GGUF file's own weights (F32), nothing rounded again"),
    ):
        named = load_model(file, device="cpu", **cast(Any, options))
        make_runtime(named)
        assert named.weights_reason == said


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


def test_no_product_is_timed_for_a_checkpoint_that_float32_alone_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> torch.dtype:
        raise AssertionError

    monkeypatch.setattr("pass_core.models.device.fastest_cpu_dtype", never)
    wide = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "wide")
    assert load_model(wide, device="cpu").dtype == torch.float32


def test_automatic_weights_hold_a_checkpoint_exactly_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pass_core.models.device.fastest_cpu_dtype", lambda: torch.bfloat16)
    wide = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "wide")
    narrow = tiny.save(tiny.tiny_llama(tokenizer=True, dtype=torch.bfloat16), tmp_path / "narrow")
    assert load_model(wide, device="cpu").dtype == torch.float32
    assert load_model(narrow, device="cpu").dtype == torch.bfloat16
