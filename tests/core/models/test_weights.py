"""Files that do not hold the model of their config, and configs that make no model: refused in a plain sentence."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pass_core.models.errors import ModelDamaged, ModelError, ModelTooLarge, ModelUnsupported
from pass_core.models.loading import load_model
from pass_core.models.weights import stored_shapes
from pass_core.progress import Cancelled, CancelToken, Progress
from tests import tiny

GATE = "model.layers.1.mlp.gate_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save(tiny.tiny_llama(tokenizer=True), tmp_path / "model")


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change(folder: Path, work: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Rewrite the safetensors file with other tensors."""
    path = folder / "model.safetensors"
    tensors = {n: t.clone() for n, t in load_file(path).items()}
    work(tensors)
    save_file(tensors, path, {"format": "pt"})


def shards(folder: Path, keep: Callable[[str], bool] = lambda _: True) -> None:
    """Two shards with an index; those that `keep` refuses are in neither."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {n: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, n in enumerate(sorted(tensors))}
    for file in set(where.values()):
        save_file({n: tensors[n] for n in where if where[n] == file and keep(n)}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def refused(folder: Path, kind: type[ModelError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        load_model(folder, device="cpu", dtype="float32")
    assert "\n" not in str(caught.value)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change(folder, lambda t: t.pop(GATE))
    refused(folder, ModelDamaged, f"lacks the weights {GATE}")


def test_a_tensor_that_no_shard_has_is_named(folder: Path) -> None:
    shards(folder, lambda name: name != GATE)
    refused(folder, ModelDamaged, GATE)


def test_whole_shards_load(folder: Path) -> None:
    whole = load_model(folder, device="cpu", dtype="float32").fingerprint
    shards(folder)
    assert load_model(folder, device="cpu", dtype="float32").fingerprint == whole


def test_a_shard_that_is_not_there_is_said(folder: Path) -> None:
    shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, ModelDamaged, "incomplete or damaged")


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    change(folder, lambda t: t.update({GATE: torch.zeros(64, 48)}))
    refused(folder, ModelDamaged, rf"{GATE}.*shape \[64, 48\]")


def test_more_layers_than_the_files_have(folder: Path) -> None:
    edit(folder, num_hidden_layers=3)
    refused(folder, ModelDamaged, r"model\.layers\.2\.")


def test_fewer_layers_than_the_files_have(folder: Path) -> None:
    """The text of half a model looks like one, and is another's."""
    edit(folder, num_hidden_layers=1)
    refused(folder, ModelDamaged, r"no place for: model\.layers\.1\.")


def test_a_bias_that_the_config_denies(folder: Path) -> None:
    change(folder, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}))
    refused(folder, ModelDamaged, r"no place for: model\.layers\.0\.self_attn\.q_proj\.bias")


def test_buffers_of_older_versions_are_no_reason(folder: Path) -> None:
    change(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    load_model(folder, device="cpu", dtype="float32")


def test_a_config_for_a_much_larger_model_takes_no_memory(folder: Path) -> None:
    edit(folder, hidden_size=8192, head_dim=2048, intermediate_size=32768)
    refused(folder, ModelDamaged, r"its files hold .* weights, and its config\.json asks for")


def test_a_config_larger_than_memory_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")  # whose contents no header tells
    edit(folder, hidden_size=1 << 17, vocab_size=1 << 24)
    refused(folder, ModelTooLarge, "GB are free|GB of memory")


@pytest.mark.parametrize(
    "fields",
    [
        {"num_hidden_layers": 1_000_000},
        {"num_attention_heads": 0},
        {"num_key_value_heads": 0},
        {"num_key_value_heads": 3},
        {"hidden_size": -32},
        {"vocab_size": 1 << 40},
        {"num_hidden_layers": 2.5},
        {"num_hidden_layers": "2"},
        {"hidden_size": [32, "x"]},
        {"hidden_size": True},
        {"rms_norm_eps": float("nan")},
        {"num_hidden_layers": None, "hidden_size": 0},
    ],
    ids=str,
)
def test_sizes_that_make_no_model(folder: Path, fields: dict[str, Any]) -> None:
    edit(folder, **fields)
    refused(folder, ModelDamaged, "says")


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_act": "no_such_function"},
        {"hidden_act": 7},
        {"rope_parameters": {"rope_type": "no_such_type", "rope_theta": 1e4}},
        {"rope_parameters": "linear"},
        {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": [1.0], "short_factor": "x"}},
        {"layer_types": ["full_attention"]},
        {"layer_types": "full_attention"},
        {"head_dim": 0},
        {"head_dim": 7},
        {"rms_norm_eps": "small"},
        {"eos_token_id": "end"},
        {"tie_word_embeddings": "perhaps"},
        {"dtype": "float128"},
        {"architectures": 5},
        {"text_config": 3},
        {"model_type": 7},
        {"model_type": ["llama"]},
        {"quantization_config": "int3"},
        {"attention_bias": None, "max_position_embeddings": "many"},
    ],
    ids=str,
)
def test_fields_of_the_wrong_kind_never_end_in_a_traceback(folder: Path, fields: dict[str, Any]) -> None:
    """Some are read leniently by transformers and load; whatever does not is one plain sentence."""
    edit(folder, **fields)
    said = ""
    try:
        load_model(folder, device="cpu", dtype="float32")
    except ModelError as error:
        said = str(error)
    assert "\n" not in said
    assert not said or said.endswith((".", ")"))


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"a":' * 50_000, "\ufeff{}", '{"model_type": null}'])
def test_a_config_that_is_no_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    refused(folder, ModelError, ".")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 4096, pickle.dumps({"a": print}), b"\x80\x05cos\nsystem\n(S'true'\ntR.", b"PK\x03\x04 broken"],
)
def test_a_pickle_that_cannot_be_read(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(data)
    refused(folder, ModelError, "incomplete or damaged|cannot be loaded")


@pytest.mark.parametrize(
    "head",
    [
        (1 << 62).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (40).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_o',
        (72).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[999999999],"data_offsets":[0,3999999996]}}  ',
    ],
)
def test_a_header_that_lies(folder: Path, head: bytes) -> None:
    (folder / "model.safetensors").write_bytes(head)
    refused(folder, ModelDamaged, "incomplete or damaged")


@pytest.mark.parametrize("kind", ["brand-new", "llama"])
def test_code_in_the_folder_never_runs(folder: Path, kind: str) -> None:
    mark = folder / "it-ran"
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass C: pass\n")
    names = {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.C", "AutoTokenizer": ["code.C", "code.C"]}
    edit(folder, model_type=kind, auto_map=names)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": names}))
    if kind == "llama":  # transformers has this one itself
        load_model(folder, device="cpu", dtype="float32")
    else:
        refused(folder, ModelUnsupported, "runs only with Python code")
    assert not mark.exists()


def test_a_tokenizer_with_code_of_its_own_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    fields = {"tokenizer_class": "NoSuchTokenizer", "auto_map": {"AutoTokenizer": ["code.C", None]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    (folder / "tokenizer.json").unlink()
    refused(folder, ModelError, "tokenizer")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_make_no_numbers_are_refused(folder: Path, value: float) -> None:
    change(folder, lambda t: t[GATE].__setitem__((0, 0), value))
    refused(folder, ModelDamaged, "computes no numbers")


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_weights_stored_as_whole_numbers_are_refused(folder: Path, dtype: torch.dtype) -> None:
    change(folder, lambda t: t.__setitem__(GATE, (100 * t[GATE]).to(dtype)))
    refused(folder, ModelDamaged, f"{GATE} as whole numbers")


@pytest.mark.parametrize(
    "fields",
    [
        {"rms_norm_eps": -1.0},
        {"rms_norm_eps": float("nan")},
        {"rope_theta": 0},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": -10.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0.0}},
    ],
    ids=str,
)
def test_settings_that_make_no_numbers_are_refused(folder: Path, fields: dict[str, Any]) -> None:
    edit(folder, **fields)
    refused(folder, ModelDamaged, "of which no number can be computed")


def test_a_tokenizer_that_cannot_read_a_text_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": [[1]]}))
    refused(folder, ModelDamaged, "tokenizer of model cannot be loaded")


def test_an_adapter_beside_a_model_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, ModelUnsupported, "adapter")


def test_headers_are_read_without_the_weights(folder: Path) -> None:
    shapes = stored_shapes(folder)
    assert shapes is not None
    assert shapes[GATE] == (64, 32)


def test_a_cancelled_load_ends_before_memory_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = CancelToken()
    monkeypatch.setattr("pass_core.models.loading._from_pretrained", lambda *_: pytest.fail("weights were read"))
    checked = threading.Event()

    def watch(_: Progress) -> None:
        checked.set()
        cancel.cancel()

    with pytest.raises(Cancelled):
        load_model(folder, device="cpu", dtype="float32", progress=watch, cancel=cancel)
    assert checked.is_set()
