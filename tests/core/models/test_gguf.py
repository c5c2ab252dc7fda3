"""GGUF files become models with the file's own logits, start and end tokens, or are refused."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from pass_core.models import children, convert
from pass_core.models.errors import ModelDamaged, ModelError, ModelUnsupported
from pass_core.models.fetch import fetch
from pass_core.models.gguf_check import check_gguf
from pass_core.models.gguf_header import read_header
from pass_core.models.loading import load_model
from tests.core.models import gguf_families
from tests.core.models.gguf_families import FAMILIES, Family

IDS = [int(i) for i in np.random.default_rng(3).integers(0, 256, 60)]


@pytest.fixture(autouse=True)
def _here(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in this process: a child needs longer to start than these files to convert (test_fetch has the child)."""
    monkeypatch.setattr(children, "run_job", lambda module, paths, *_: convert.convert_here(*map(Path, paths)))


def compared(family: Family, path: Path) -> None:
    model = load_model(path, device="cpu", dtype="float32")
    with torch.inference_mode():
        got = model.model(torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(got, gguf_families.logits(family, path, IDS), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_converted_model_has_the_logits_of_its_file(name: str, tmp_path: Path) -> None:
    compared(FAMILIES[name], gguf_families.write(FAMILIES[name], tmp_path / f"{name}.gguf"))


def test_so_has_a_quantised_one(tmp_path: Path) -> None:
    path = gguf_families.write(FAMILIES["llama"], tmp_path / "q8.gguf", gguf.GGMLQuantizationType.Q8_0)
    compared(FAMILIES["llama"], path)


TOKENS = "tokenizer.ggml."


@pytest.mark.parametrize(
    ("fields", "ids", "ends"),
    [
        ({}, [72, 105], {257}),
        ({"pre": "llama-bpe"}, [256, 72, 105], {257}),
        ({"pre": "llama-bpe", "add_bos_token": False}, [72, 105], {257}),
        ({"pre": "qwen2", "add_bos_token": True}, [256, 72, 105], {257}),
        ({"add_bos_token": True, "add_eos_token": True}, [256, 72, 105], {257}),
        ({"add_eos_token": True}, [72, 105], {257}),
        ({"eot_token_id": 258}, [72, 105], {257, 258}),
        ({"eot_token_id": 258, "eom_token_id": 259}, [72, 105], {257, 258, 259}),
        ({"pre": "llama-bpe", "bos_token_id": None}, [72, 105], {257}),
    ],
    ids=str,
)
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_start_and_end_tokens(
    arch: str, fields: dict[str, Any], ids: list[int], ends: set[int], tmp_path: Path
) -> None:
    family = dataclasses.replace(FAMILIES[arch], extra={TOKENS + k: v for k, v in fields.items()})
    model = load_model(gguf_families.write(family, tmp_path / "m.gguf"), device="cpu", dtype="float32")
    assert model.tokenizer("Hi")["input_ids"] == ids
    assert model.eos_token_ids == ends


@pytest.mark.parametrize(
    ("fields", "start"),
    [({}, [1]), ({"add_eos_token": True}, [1]), ({"add_bos_token": False, "add_eos_token": True}, [])],
    ids=str,
)
def test_sentencepiece_vocabularies_start_and_never_end(
    fields: dict[str, bool], start: list[int], tmp_path: Path
) -> None:
    """The ids between are those of the tokenizer that transformers makes of the file."""
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    for add, value in (
        (writer.add_block_count, 2), (writer.add_context_length, 512), (writer.add_embedding_length, 64),
        (writer.add_feed_forward_length, 96), (writer.add_head_count, 4), (writer.add_head_count_kv, 2),
        (writer.add_layer_norm_rms_eps, 1e-6),
    ):  # fmt: skip
        add(value)  # type: ignore[operator]
    letters = [*"abcdefghijklmnopqrstuvwxyzH", "▁"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *letters, "Hi", "▁Hi"]
    pieces += [f"▁unused{i}" for i in range(gguf_families.VOCABULARY - len(pieces))]
    normal = gguf.TokenType.NORMAL
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(i) for i in range(len(pieces))])
    writer.add_token_types([gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256,
                            *[normal] * (len(pieces) - 259)])  # fmt: skip
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for key, value in fields.items():
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    for name, array in gguf_families.tensors(FAMILIES["llama"]).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = load_model(path, device="cpu", dtype="float32")
    ids = model.tokenizer("Hi abé")["input_ids"]
    assert ids[: len(start)] == start
    assert ids[-1] != 2
    pieces_of = model.tokenizer.convert_ids_to_tokens(ids[len(start) :])
    assert pieces_of == ["▁Hi", "▁", "a", "b", "<0xC3>", "<0xA9>"]
    assert model.tokenizer.decode(ids, skip_special_tokens=True).strip() == "Hi abé"


def changed(path: Path, family: Family = FAMILIES["llama"], **changes: Any) -> Path:
    return gguf_families.write(dataclasses.replace(family, **changes), path)


@pytest.mark.parametrize(
    ("arch", "keys", "message"),
    [
        ("llama", {"rope.scaling.type": "ntk", "rope.scaling.factor": 2.0}, "rope scaling is “ntk”"),
        ("llama", {"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}, "LongRoPE lacks"),
        ("llama", {"rope.scaling.type": "linear", "rope.scaling.factor": -1.0}, "factor -1"),
        ("llama", {"expert_count": 4, "expert_used_count": 2}, "expert_count is 4"),
        ("llama", {"attention.sliding_window": 16}, "sliding_window is 16"),
        ("llama", {"logit_scale": 0.5}, "logit_scale is 0.5"),
        ("llama", {"attention.causal": False}, "causal is False"),
        ("llama", {"some.new.key": 3}, r"some\.new\.key is 3"),
        ("qwen2", {"attention.key_length": 32, "attention.value_length": 32}, "key_length is 32"),
        ("qwen3", {"attention.value_length": 8}, "value_length is 8"),
    ],
    ids=str,
)
def test_what_the_config_cannot_say_is_refused(arch: str, keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "m.gguf", FAMILIES[arch], keys=keys)
    with pytest.raises(ModelUnsupported, match=message):
        fetch(path)


def rewritten(path: Path, drop: str = "", **add: np.ndarray) -> Path:
    """The file without tensors whose names begin with `drop`, and with others."""
    reader = gguf.GGUFReader(path)
    out = path.with_name("other.gguf")
    writer = gguf.GGUFWriter(str(out), "llama")
    for name, value in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            kind = value.types[0]
            writer.add_key_value(
                name, value.contents(), kind, value.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            )
    for tensor in reader.tensors:
        if not (drop and tensor.name.startswith(drop)):
            writer.add_tensor(tensor.name, np.array(tensor.data))
    for name, array in add.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ("blk.1.", {}, r"lacks the weights blk\.1\.\*"),
        ("blk.1.ffn_up", {}, r"lacks the weights model\.layers\.1\.mlp\.up_proj\.weight"),
        ("output_norm", {}, r"lacks the weights model\.norm\.weight"),
        ("token_embd", {}, r"lacks the weights token_embd\.weight"),
        ("", {"blk.0.attn_q.bias": np.ones(64, np.float32)}, r"no place for its weights blk\.0\.attn_q\.bias"),
        ("", {"blk.2.attn_norm.weight": np.ones(64, np.float32)}, r"no place for its weights blk\.2\.attn_norm"),
        ("blk.0.ffn_up", {"blk.0.ffn_up.weight": np.ones((64, 64), np.float32)}, r"mlp\.up_proj\.weight.*shape"),
    ],
    ids=str,
)
def test_tensors_that_are_missing_left_over_or_of_another_shape(
    drop: str, add: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    path = rewritten(changed(tmp_path / "m.gguf"), drop, **add)
    with pytest.raises(ModelError, match=message):
        fetch(path)


def header_only(path: Path, fields: dict[str, Any], names: tuple[str, ...] = ("blk.0.attn_q.weight",)) -> Path:
    writer = gguf.GGUFWriter(str(path), str(fields.pop("general.architecture", "llama")))
    for key, value in fields.items():
        gguf_families.add_field(writer, key, value)
    for name in names:
        writer.add_tensor(name, np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("fields", "names", "message"),
    [
        ({"general.type": "adapter"}, ("blk.0.attn_q.weight.lora_a",), "adapter"),
        ({}, ("blk.0.attn_q.weight.lora_a",), "adapter"),
        ({"general.type": "mmproj"}, ("v.blk.0.attn_q.weight",), "projector"),
        ({"general.architecture": "clip"}, ("v.blk.0.attn_q.weight",), "projector"),
        ({}, ("mm.0.weight", "v.patch_embd.weight"), "projector"),
        ({"split.count": 2, "split.no": 1, "llama.block_count": 2}, ("blk.0.attn_q.weight",), "one of 2 parts"),
        ({"split.count": 3, "split.no": "x", "llama.block_count": 2}, ("blk.0.attn_q.weight",), "one of 3 parts"),
        ({"general.type": "imatrix"}, ("blk.0.attn_q.weight",), "imatrix"),
        ({}, ("blk.0.attn_q.weight",), r"llama\.block_count"),
        ({"llama.block_count": 0}, ("blk.0.attn_q.weight",), "num_hidden_layers = 0"),
        ({"llama.block_count": 1_000_000}, ("blk.0.attn_q.weight",), "num_hidden_layers = 1000000"),
        ({"llama.block_count": "two"}, ("blk.0.attn_q.weight",), "num_hidden_layers = 'two'"),
        ({"llama.block_count": 1}, ("blk.0.attn_q.weight",), "no tokenizer"),
        ({"llama.block_count": 1}, (), "no tensors"),
    ],
    ids=str,
)
def test_what_is_no_model_is_refused_before_anything_is_built(
    fields: dict[str, Any], names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    path = header_only(tmp_path / "m.gguf", dict(fields), names)
    with pytest.raises(ModelError, match=message):
        check_gguf(read_header(path))


def test_other_files_in_the_folder_play_no_part(tmp_path: Path) -> None:
    path = changed(tmp_path / "m.gguf")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_layer": 7}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    (tmp_path / "adapter_config.json").write_text("{}")
    model = load_model(path, device="cpu", dtype="float32")
    assert model.config.model_type == "llama"
    assert model.tokenizer("Hi")["input_ids"] == [72, 105]


def _lies(data: bytes) -> dict[str, bytes]:
    """Headers whose counts no file of this size can keep."""
    huge = struct.pack("<Q", 1 << 60)
    return {
        "tensors": data[:8] + huge + data[16:],
        "fields": data[:16] + huge + data[24:],
        "key": data[:24] + huge + data[32:],
        "version": data[:4] + struct.pack("<I", 77) + data[8:],
        "other byte order": data[:4] + struct.pack(">I", 3) + data[8:],
        "empty": b"",
        "magic alone": b"GGUF",
        "array": data[:16] + struct.pack("<QQ", 1, 1) + b"a" + struct.pack("<IIQ", 9, 8, 1 << 50) + bytes(64),
        "nested": data[:16] + struct.pack("<QQ", 1, 1) + b"a" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 999,
    }


def test_headers_that_lie_are_refused_at_once(tmp_path: Path) -> None:
    path = header_only(tmp_path / "m.gguf", {"llama.block_count": 1})
    for name, data in _lies(path.read_bytes()).items():
        other = tmp_path / f"{name.replace(' ', '-')}.gguf"
        other.write_bytes(data)
        with pytest.raises(ModelDamaged, match=r"GGUF|cut short"):
            read_header(other)


def test_random_damage_to_a_header_never_escapes(tmp_path: Path) -> None:
    whole = bytearray(changed(tmp_path / "m.gguf").read_bytes())
    rng = np.random.default_rng(11)
    path, refused = tmp_path / "damaged.gguf", 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 5))):
            data[int(rng.integers(0, 12_000))] = int(rng.integers(0, 256))
        path.write_bytes(data[: int(rng.integers(20, len(data)))] if rng.random() < 0.3 else data)
        try:
            check_gguf(read_header(path))
        except ModelError:
            refused += 1
    assert refused > 30
