"""Quantised weights: what is asked of transformers, what is refused and how, and the text where torchao is here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pass_core.engine import Engine
from pass_core.models import loading, quantize
from pass_core.models.errors import DeviceUnavailable, ModelTooLarge, ModelUnsupported, PackageMissing
from pass_core.models.loading import load_model
from pass_core.models.quantize import quantization_config
from pass_core.models.stored import stored_fingerprint
from pass_core.runtime import factory
from pass_core.runtime.factory import make_runtime
from pass_core.runtime.forward_weights import forward_weights
from pass_core.runtime.native.build import library
from pass_core.runtime.native.runtime import NativeRuntime, unsupported_reason
from pass_core.settings import Strategy
from tests import tiny
from tests.core.decoding.engine import ALL_PARTS, random_lookahead, run
from tests.engines import use

needs_library = pytest.mark.skipif(library() is None, reason="no compiled library on this machine")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("choice", "package"), [("int8", "torchao"), ("int4", "bitsandbytes")])
def test_a_missing_package_names_the_extra(choice: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.quantization", None)
    with pytest.raises(PackageMissing, match=rf"{package}.*pass-playground\[quant\]"):
        quantization_config(choice, CUDA, torch.bfloat16)


def test_what_a_device_cannot_do_is_refused() -> None:
    assert quantization_config("none", CPU, torch.float32) is None
    assert quantization_config("int8", CPU, torch.float32) is None, "the compiled library makes it"
    with pytest.raises(DeviceUnavailable, match="int4 weights need a CUDA GPU"):
        quantization_config("int4", CPU, torch.float32)
    with pytest.raises(DeviceUnavailable, match="Choose none, gguf, int8 or int4"):
        quantization_config("int2", CPU, torch.float32)  # pyright: ignore[reportArgumentType]


def test_the_refusal_comes_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "fetch", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(DeviceUnavailable, match="int4"):
        load_model("nobody/nothing", device="cpu", quantize="int4")


def test_transformers_is_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tiny.tiny_llama(tokenizer=True)
    folder = tiny.save(original, tmp_path / "model")
    asked: list[dict[str, Any]] = []
    genuine = loading._from_pretrained

    def plain(folder: Path, dtype: torch.dtype, own_code: bool, options: dict[str, Any]) -> Any:
        asked.append({"dtype": dtype, **options})
        return genuine(folder, dtype, own_code, {})

    monkeypatch.setattr(loading, "quantization_config", lambda *_: "a configuration")
    monkeypatch.setattr(loading, "_from_pretrained", plain)
    model = load_model(folder, device="cpu", dtype="bfloat16", quantize="int8")
    assert asked == [{"dtype": torch.bfloat16, "quantization_config": "a configuration", "device_map": {"": CPU}}]
    assert model.quantization == "int8"
    assert model.fingerprint == original.fingerprint
    assert "int8" in unsupported_reason(model)
    assert make_runtime(model).description == "transformers modules, bfloat16, int8 weights"


def test_quantised_weights_need_less_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    folder = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "model")
    free = (folder / "model.safetensors").stat().st_size * 3 // 4
    have = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: have._replace(available=free))
    monkeypatch.setattr(loading, "quantization_config", lambda choice, *_: None if choice == "none" else choice)
    monkeypatch.setattr(loading, "_from_pretrained", lambda *_: tiny.tiny_llama().model)
    with pytest.raises(ModelTooLarge, match="in float32"):
        load_model(folder, device="cpu", dtype="float32")
    assert load_model(folder, device="cpu", dtype="float32", quantize="int8").quantization == "int8"


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_the_files_have_the_fingerprint_of_the_model(family: str, tie: bool, tmp_path: Path) -> None:
    model = tiny.FAMILIES[family](tie=tie)
    folder = tiny.save(model, tmp_path / "model")
    # transformers stores the head of GPT-NeoX under another name: then the model itself is read once.
    renamed = family == "gpt_neox" and not tie
    assert stored_fingerprint(folder, model.model.config) == (None if renamed else model.fingerprint)
    (folder / "model.safetensors").unlink()
    assert stored_fingerprint(folder, model.model.config) is None


@pytest.fixture
def by_torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    """No compiled library."""
    pytest.importorskip("torchao")
    monkeypatch.setattr(factory, "unsupported_reason", lambda model: "there is none")


@pytest.mark.usefixtures("by_torchao")
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_the_text_of_torchaos_int8_weights_is_that_of_plain_decoding(family: str, tmp_path: Path) -> None:
    original = tiny.FAMILIES[family](tokenizer=True)
    model = load_model(tiny.save(original, tmp_path / "model"), device="cpu", dtype="float32", quantize="int8")
    assert model.fingerprint == original.fingerprint
    plain = run(model, [1, 2, 3], seed=1).ids
    assert model.quantization == "int8"
    lookahead = random_lookahead(original, 4, ALL_PARTS)
    assert run(model, [1, 2, 3], Strategy.FUSED, seed=1, k=4, lookahead=lookahead).ids == plain


@needs_library
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_the_library_makes_int8_of_a_loaded_model(family: str, tmp_path: Path) -> None:
    original = tiny.FAMILIES[family](tokenizer=True, hidden=64, intermediate=96, heads=4, head_dim=16)
    original.model.bfloat16()
    model = load_model(tiny.save(original, tmp_path / "model"), device="cpu", quantize="int8")
    assert (model.weights, model.quantization, model.dtype) == ("int8", "", torch.bfloat16)
    assert model.fingerprint == original.fingerprint
    engine = Engine(model)
    assert isinstance(engine.runtime, NativeRuntime)
    assert engine.runtime.weights == "int8"
    assert "int8, rounded" in model.weights_reason
    weights = forward_weights(model, engine.runtime)
    assert weights.name == "int8"
    assert weights.nbytes < 0.6 * model.weight_bytes()
    use(model, runtime=engine.runtime)
    texts = {
        temperature: run(model, [1, 2, 3], seed=1, temperature=temperature, top_p=0.9).ids for temperature in (0.0, 1.2)
    }
    for temperature, plain in texts.items():
        for strategy in (Strategy.TWO_CALL, Strategy.FUSED):
            for k, budget in ((1, None), (4, 16)):
                lookahead = random_lookahead(model, 4, ALL_PARTS, seed=k)
                options = {"seed": 1, "temperature": temperature, "top_p": 0.9, "row_budget": budget}
                assert run(model, [1, 2, 3], strategy, k=k, lookahead=lookahead, **options).ids == plain


def test_int8_that_nothing_here_can_make_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    folder = tiny.save(tiny.FAMILIES["gpt_neox"](tokenizer=True), tmp_path / "model")
    model = load_model(folder, device="cpu", quantize="int8")
    with pytest.raises(ModelUnsupported, match=r"not Llama-shaped.*torchao.*pass-playground\[quant\]"):
        make_runtime(model)


def test_what_is_too_large_as_a_whole_becomes_int8_while_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    folder = tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "model")
    have, free = psutil.virtual_memory(), (folder / "model.safetensors").stat().st_size * 3 // 4
    monkeypatch.setattr(psutil, "virtual_memory", lambda: have._replace(available=free))
    monkeypatch.setattr(loading, "while_loading", lambda dtype: "torchao's")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(loading, "_from_pretrained", lambda *a: asked.append(a[3]) or tiny.tiny_llama().model)
    assert load_model(folder, device="cpu", dtype="float32", quantize="int8").quantization == "int8"
    assert asked[-1]["quantization_config"] == "torchao's"

    def missing(dtype: torch.dtype) -> Any:
        raise PackageMissing("no torchao")

    monkeypatch.setattr(loading, "while_loading", missing)
    with pytest.raises(ModelTooLarge):
        load_model(folder, device="cpu", dtype="float32", quantize="int8")


def test_every_choice_has_a_size() -> None:
    assert quantize.BYTES_PER_WEIGHT.keys() == quantize._MAKERS.keys()
