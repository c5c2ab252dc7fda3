"""A GGUF file's blocks: the same numbers as transformers' conversion, in the file's own bytes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from pass_core.models.errors import ModelDamaged, ModelUnsupported
from pass_core.models.gguf_blocks import GgufBlocks
from pass_core.models.language_model import LanguageModel
from tests import tiny
from tests.core.models.gguf_files import gguf_model, write_gguf

Q = gguf.GGMLQuantizationType
HEADS, KV_HEADS, HIDDEN = 4, 2, 64


def wide(blocks: GgufBlocks, name: str) -> torch.Tensor:
    """A tensor as float32, by the `gguf` package."""
    kind, shape, data = blocks.tensor(name)
    return torch.from_numpy(gguf.quants.dequantize(data, Q[kind]).astype(np.float32).reshape(shape).copy())


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of rows (convert_hf_to_gguf.py, LlamaModel.permute)."""
    dim = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, dim, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_llama(path: Path, model: LanguageModel, kind: Q) -> Path:
    """A tiny Llama without a tokenizer as llama.cpp's converter writes it: q and k permuted, matrices in blocks."""
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    names |= {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    for name, parameter in model.model.state_dict().items():
        module, _, suffix = name.rpartition(".")
        if module.startswith("model.layers."):
            _, _, layer, part = module.split(".", 3)
            stored = f"blk.{layer}.{names[part]}.{suffix}"
        else:
            stored = f"{names[module]}.{suffix}"
        weight = parameter.numpy().astype(np.float32)
        if "q_proj" in name or "k_proj" in name:
            weight = permuted(weight, HEADS if "q_proj" in name else KV_HEADS)
        if weight.ndim == 1:
            writer.add_tensor(stored, weight)
        else:
            writer.add_tensor(stored, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny.tiny_llama(hidden=HIDDEN, heads=HEADS, attention_bias=True)


@pytest.mark.parametrize("kind", [Q.Q4_0, Q.Q4_1, Q.Q8_0, Q.BF16, Q.F32])
def test_every_tensor_is_the_models_own_in_the_files_blocks(kind: Q, model: LanguageModel, tmp_path: Path) -> None:
    blocks = GgufBlocks(write_llama(tmp_path / "m.gguf", model, kind))
    for name, parameter in model.model.state_dict().items():
        found, shape, data = blocks.tensor(name)
        assert shape == tuple(parameter.shape)
        assert data.dtype == np.uint8
        assert found == (kind.name if parameter.ndim == 2 else "F32")
        # Blocks run along the inputs, so that moving rows changes no number of them.
        own = parameter.numpy().astype(np.float32)
        if parameter.ndim == 2:
            own = gguf.quants.dequantize(gguf.quants.quantize(own, kind), kind)
        assert torch.equal(wide(blocks, name), torch.from_numpy(own.astype(np.float32))), name


def test_blocks_are_the_numbers_that_conversion_gives(tmp_path: Path) -> None:
    """Unpermuted families, from the file that the tests of conversion use."""
    model = gguf_model()
    blocks = GgufBlocks(write_gguf(tmp_path / "qwen.gguf", model))
    for name, parameter in model.model.state_dict().items():
        assert torch.equal(wide(blocks, name), parameter), name


def test_types_and_size_are_told(model: LanguageModel, tmp_path: Path) -> None:
    blocks = GgufBlocks(write_llama(tmp_path / "m.gguf", model, Q.Q4_1))
    parameters = list(model.model.parameters())
    matrices = sum(p.numel() for p in parameters if p.ndim == 2)
    vectors = sum(p.numel() for p in parameters if p.ndim == 1)
    assert blocks.types() == {"Q4_1": matrices, "F32": vectors}
    assert blocks.nbytes == matrices // 32 * 20 + vectors * 4


def test_what_the_file_lacks_is_a_key_error(tmp_path: Path) -> None:
    tied = tiny.tiny_llama(hidden=HIDDEN, heads=HEADS, tie=True)
    state = {k: v for k, v in tied.model.state_dict().items() if k != "lm_head.weight"}
    tied.model.state_dict = lambda: state
    blocks = GgufBlocks(write_llama(tmp_path / "m.gguf", tied, Q.Q8_0))
    with pytest.raises(KeyError):
        blocks.tensor("lm_head.weight")
    with pytest.raises(KeyError):
        blocks.tensor("model.layers.0.self_attn.q_norm.weight")


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(8))
    with pytest.raises(ModelDamaged, match=r"broken\.gguf cannot be read as GGUF"):
        GgufBlocks(broken)
    writer = gguf.GGUFWriter(str(tmp_path / "gpt2.gguf"), "gpt2")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelUnsupported, match="is a gpt2 model"):
        GgufBlocks(tmp_path / "gpt2.gguf")
