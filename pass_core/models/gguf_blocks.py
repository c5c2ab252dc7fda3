"""The tensors of a GGUF file as they are stored, under the names that transformers gives them.

Layout of files and blocks: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; names: the `gguf` package.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pass_core.models.errors import ModelUnsupported
from pass_core.models.gguf_header import GgufTensor, read_header

ARCHITECTURES = frozenset({"llama", "qwen2", "qwen3"})
"""GGUF's names of what is read here; Mistral's files call themselves llama."""
_PERMUTED = frozenset({"llama"})
_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")


class GgufBlocks:
    """A file's tensors, mapped into memory and read when they are used.

    Attributes:
        path: the file.
        architecture: what the file says it is, such as "llama".

    Raises:
        ModelDamaged: the file cannot be read.
        ModelUnsupported: its architecture is none of `ARCHITECTURES`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header = read_header(path)
        self.architecture = self._header.architecture
        if self.architecture not in ARCHITECTURES:
            raise ModelUnsupported(
                f"{path.name} is a {self.architecture or 'nameless'} model: its blocks cannot be used as they are. "
                "Choose another format of weights."
            )
        self._bytes: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")

    def tensor(self, name: str) -> tuple[str, tuple[int, ...], npt.NDArray[np.uint8]]:
        """A tensor by transformers' name ("model.layers.0.mlp.up_proj.weight").

        Rows of q and k that llama.cpp stores in another order are put back into transformers' order; a row's blocks
        stay as they are.

        Returns:
            GGUF's name of the type ("Q4_1", "F32"), the shape as in torch, and the bytes, [rows, bytes of a row] (one
            row for a vector).

        Raises:
            KeyError: the file has no such tensor (a tied head is one).
        """
        stored = self._header.tensors[_stored_name(name)]
        first = stored.shape[0]
        rows = first if len(stored.shape) > 1 else 1
        data = self._bytes[stored.offset : stored.offset + stored.nbytes].reshape(rows, -1)
        heads = self._permuted_heads(name)
        if heads:
            data = _in_halves(data.reshape(first, -1), heads).reshape(data.shape)
        return _type_name(stored), stored.shape, data

    def types(self) -> dict[str, int]:
        """How many weights the file holds of each type, most first."""
        counts: dict[str, int] = {}
        for stored in self._header.tensors.values():
            kind = _type_name(stored)
            counts[kind] = counts.get(kind, 0) + stored.count
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for t in self._header.tensors.values())

    def _permuted_heads(self, name: str) -> int:
        """The heads whose rows llama.cpp reordered in this tensor, 0 where it left them."""
        if self.architecture not in _PERMUTED:
            return 0
        heads = int(self._header.of_model("attention.head_count"))
        if ".q_proj." in name:
            return heads
        return int(self._header.of_model("attention.head_count_kv", heads)) if ".k_proj." in name else 0


def _type_name(tensor: GgufTensor) -> str:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType(tensor.type).name


def _stored_name(name: str) -> str:
    """GGUF's name of a tensor.

    Raises:
        KeyError: there is none.
    """
    inside = _NAME.fullmatch(name)
    if inside:
        layer, part, kind = inside.groups()
        return f"blk.{layer}.{_LAYER[part]}.{kind}"
    module, _, kind = name.rpartition(".")
    return f"{_OUTSIDE[module]}.{kind}"


def _in_halves(rows: npt.NDArray[np.uint8], heads: int) -> npt.NDArray[np.uint8]:
    """llama.cpp's rotary pairs lie side by side in a head, transformers' half a head apart."""
    paired = rows.reshape(heads, rows.shape[0] // heads // 2, 2, rows.shape[1])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(rows.shape)
