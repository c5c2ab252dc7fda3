"""Loading from folders: what is found out, what is refused and how it is said, and that unloading frees the memory."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pass_core.models import device
from pass_core.models.errors import DeviceUnavailable, ModelDamaged, ModelError, ModelTooLarge, ModelUnsupported
from pass_core.models.language_model import LanguageModel
from pass_core.models.loading import load_model, unload
from pass_core.models.memory import freeze_heap, memory_in_use, release_memory
from pass_core.models.prompts import chat_text, encode
from pass_core.models.shipped import default_lookahead, shipped_lookahead, untrained_lookahead
from pass_core.progress import Cancelled, CancelToken, Progress
from pass_core.prompt import ChatTemplateError, Prompt
from tests import tiny


def folder_of(tmp_path: Path, model: LanguageModel) -> Path:
    return tiny.save(model, tmp_path / model.name)


@pytest.mark.parametrize("kind", sorted(tiny.FAMILIES))
def test_a_folder_loads_as_it_was_saved(kind: str, tmp_path: Path) -> None:
    original = tiny.FAMILIES[kind](tokenizer=True)
    model = load_model(folder_of(tmp_path, original), device="cpu", dtype="float32")
    assert model.name == original.name
    assert model.source == str((tmp_path / original.name).resolve())
    assert model.fingerprint == original.fingerprint
    assert model.capabilities == original.capabilities
    assert model.eos_token_ids == {tiny.END}
    assert model.dtype == torch.float32
    assert not model.model.training
    assert not any(p.requires_grad for p in model.model.parameters())
    ids = torch.arange(20)[None]
    torch.testing.assert_close(model.model(ids).logits, original.model(ids).logits)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_fingerprint_is_the_same_in_every_dtype(tmp_path: Path, dtype: Any) -> None:
    original = tiny.tiny_llama(tokenizer=True, peak=1e-3)  # small weights, which float16 cuts off
    model = load_model(folder_of(tmp_path, original), device="cpu", dtype=dtype)
    assert str(model.dtype) == f"torch.{dtype}"
    assert model.fingerprint == original.fingerprint


def test_progress_counts_the_tensors_and_the_console_stays_clean(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path, tiny.tiny_llama(tokenizer=True))
    capfd.readouterr()
    seen: list[Progress] = []
    load_model(folder, device="cpu", dtype="float32", progress=seen.append)
    assert {p.stage for p in seen} == {"Loading tiny-llama"}
    assert seen[-1].total is not None
    assert seen[-1].done == seen[-1].total > 10
    assert capfd.readouterr() == ("", "")


def test_loading_can_be_cancelled_between_tensors(tmp_path: Path) -> None:
    folder, cancel = folder_of(tmp_path, tiny.tiny_llama(tokenizer=True)), CancelToken()

    def watch(report: Progress) -> None:
        if report.total is not None:
            cancel.cancel()

    with pytest.raises(Cancelled):
        load_model(folder, device="cpu", progress=watch, cancel=cancel)
    assert load_model(folder, device="cpu").name == "tiny-llama"


def test_the_end_of_a_turn_ends_a_text_too(tmp_path: Path) -> None:
    model = tiny.tiny_llama(tokenizer=True)
    model.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>", "<|eot_id|>"]})
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    model.model.generation_config.eos_token_id = [7, 9]
    loaded = load_model(folder_of(tmp_path, model), device="cpu")
    turn_end = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert loaded.eos_token_ids == {7, 9, tiny.END, turn_end}


def test_unloading_gives_the_memory_back(tmp_path: Path) -> None:
    original = tiny.tiny_llama(tokenizer=True, hidden=1024, layers=12, heads=8)
    size = original.weight_bytes()
    folder = folder_of(tmp_path, original)
    unload(original)
    model = load_model(folder, device="cpu", dtype="float32")  # warm: everything that stays for good is there
    unload(model)
    gc.collect()
    before = memory_in_use().process
    model = load_model(folder, device="cpu", dtype="float32")
    kept = model.layers[0]  # somebody still holds a part of it
    assert memory_in_use().process - before > 0.8 * size
    unload(model)
    assert memory_in_use().process - before < 0.2 * size
    assert model.model is None
    assert sum(p.numel() for p in kept.parameters()) == 0


def test_settled_memory_is_passed_over_by_collections_until_it_is_released() -> None:
    class Node:
        pass

    node = Node()
    node.itself = node  # type: ignore[attr-defined]
    alive = weakref.ref(node)
    freeze_heap()
    del node
    gc.collect()
    assert alive() is not None, "nothing that was alive is looked at again"
    release_memory()
    assert alive() is None


def _edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


@pytest.mark.parametrize(
    ("harm", "kind", "message"),
    [
        (_cut("model.safetensors", 5000), ModelDamaged, "incomplete or damaged"),
        (lambda f: (f / "model.safetensors").unlink(), ModelDamaged, "incomplete or damaged"),
        (_cut("config.json", 100), ModelError, "cannot be loaded|incomplete or damaged"),
        (_cut("tokenizer.json", 500), ModelDamaged, "tokenizer of tiny-llama"),
        (lambda f: _edit_config(f, model_type="brand-new"), ModelUnsupported, "cannot be loaded"),
        (lambda f: _edit_config(f, quantization_config={"quant_method": "gptq"}), ModelUnsupported, "quantised.*gptq"),
        (lambda f: _edit_config(f, model_type="bert", architectures=["BertForMaskedLM"]), ModelUnsupported, "BertFor"),
    ],
)
def test_what_cannot_be_loaded_is_said_plainly(
    tmp_path: Path, harm: Callable[[Path], None], kind: type[ModelError], message: str
) -> None:
    folder = folder_of(tmp_path, tiny.tiny_llama(tokenizer=True))
    harm(folder)
    with pytest.raises(kind, match=message) as caught:
        load_model(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_model_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path, tiny.tiny_llama(tokenizer=True))
    weights = (folder / "model.safetensors").stat().st_size
    have = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: have._replace(available=weights // 2 + 20_000))
    with pytest.raises(ModelTooLarge, match="or bfloat16 as dtype"):
        load_model(folder, device="cpu", dtype="float32")
    assert load_model(folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_devices_and_dtypes_that_are_not_there() -> None:
    for name in ("nonsense", "xpu", f"cuda:{torch.cuda.device_count()}"):
        with pytest.raises(DeviceUnavailable):
            device.choose_device(name)
    with pytest.raises(DeviceUnavailable, match="float8"):
        device.choose_dtype("float8", "cpu")  # pyright: ignore[reportArgumentType]
    assert device.choose_dtype("float16", "cpu") == torch.float16
    assert device.choose_dtype("auto", "cpu") in (torch.float32, torch.bfloat16)
    assert device.exact_cpu_dtype(torch.float16) == device.exact_cpu_dtype(torch.float32) == torch.float32


def test_a_chat_message_goes_through_the_template(tiny_model: LanguageModel) -> None:
    assert chat_text(tiny_model, "hi", system="be kind") == "[system]be kind<|end|>[user]hi<|end|>[assistant]"
    ids = encode(tiny_model, Prompt("hi", chat=True))
    assert ids[ids.index(tiny.END) + 1 :] == list(b"[assistant]")
    plain = tiny.tiny_llama(tokenizer=True)
    plain.tokenizer.chat_template = None
    with pytest.raises(ChatTemplateError, match="no chat template"):
        chat_text(plain, "hi")


def test_models_without_shipped_embeddings_get_untrained_ones(tiny_model: LanguageModel) -> None:
    assert shipped_lookahead(tiny_model) == []
    lookahead = default_lookahead(tiny_model)
    assert (lookahead.count, lookahead.hidden_size) == (5, tiny_model.hidden_size)
    assert not lookahead.trained
    assert "untrained" in lookahead.origin
    assert torch.equal(lookahead.embeddings, untrained_lookahead(tiny_model).embeddings)


def test_shipped_files_are_found_by_the_weights_they_belong_to(
    tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from pass_core.lookahead.embeddings import TrainingSummary

    plain = replace(untrained_lookahead(tiny_model, 3), training=TrainingSummary(steps=1))
    plain.save(tmp_path / "a-embeddings.safetensors")
    deep = replace(plain, deep=torch.zeros(len(tiny_model.layers), 3, tiny_model.hidden_size))
    deep.save(tmp_path / "b-best.safetensors")
    replace(deep, base_fingerprint="0" * 16).save(tmp_path / "c-other.safetensors")
    (tmp_path / "d-broken.safetensors").write_bytes(b"broken")
    monkeypatch.setattr("pass_core.models.shipped.resource_folder", lambda name: tmp_path)
    assert [p.name for p in shipped_lookahead(tiny_model)] == ["b-best.safetensors", "a-embeddings.safetensors"]
    assert default_lookahead(tiny_model).deep is not None
    assert default_lookahead(tiny_model, prefer="embeddings").deep is None


@pytest.mark.model
def test_the_default_model_is_what_it_should_be(default_model: LanguageModel, default_model_dir: Path) -> None:
    assert default_model.parameter_count == 134_515_008
    assert default_model.hidden_size == 576
    assert len(default_model.layers) == 30
    assert default_model.vocabulary_size == 49_152
    assert default_model.capabilities.supports_pass
    assert default_model.capabilities.context_length == 8192
    assert default_model.eos_token_ids == {default_model.tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert default_model.source == "smollm2-135m-instruct"
    assert default_model.model.config._attn_implementation == "sdpa"
    again = load_model(default_model_dir, device="cpu", dtype="bfloat16")
    assert again.fingerprint == default_model.fingerprint
    unload(again)
    text = chat_text(default_model, "What is the capital of France?")
    ids = torch.tensor([encode(default_model, Prompt("What is the capital of France?", chat=True))])
    answer = default_model.model.generate(ids, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(ids))
    assert text.endswith("<|im_start|>assistant\n")
    assert "Paris" in default_model.tokenizer.decode(answer[0, ids.shape[1] :])
