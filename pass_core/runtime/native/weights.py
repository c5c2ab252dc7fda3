"""Where the compiled library gets its weights from: a model's modules, or the blocks of a GGUF file."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.native.arrays import floats, halves, pointer
from pass_core.runtime.native.formats import BLOCK, BLOCK_BYTES, EXACT, Format, Weights

TABLE = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


class Blocks(Protocol):
    """The tensors of a GGUF file under the names that transformers gives them."""

    def tensor(self, name: str) -> tuple[Any, tuple[int, ...], np.ndarray]:
        """A tensor's type (GGUF's name of it, or an enum with that name), shape [outputs, inputs] and bytes (uint8).

        Raises:
            KeyError: the file has no such tensor.
        """
        ...


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows [outputs, inputs] in the order of a file of that format."""

    format: Format
    data: np.ndarray


class WeightSource:
    """The tensors of one model by name.

    Args:
        weights: what matrices become; "gguf" takes them from `blocks`.
    """

    def __init__(self, lib: Any, model: LanguageModel, weights: Weights, blocks: Blocks | None) -> None:
        if (weights == "gguf") != (blocks is not None):
            raise ValueError("weights='gguf' and blocks belong together")
        self._lib, self._weights, self._blocks = lib, weights, blocks
        self._modules: dict[str, torch.Tensor] = {} if blocks is not None else dict(model.model.named_parameters())
        if blocks is None:
            self._modules[TABLE], self._modules[HEAD] = model.input_embedding.weight, model.lm_head.weight
        self.mixed: set[str] = set()  # types of the file that became float32

    def table(self) -> Matrix:
        """The input embeddings, in the precision that the model has them."""
        if self._blocks is not None:
            return self._stored(TABLE)
        weight = self._modules[TABLE]
        return Matrix(Format.BF16, halves(weight)) if weight.dtype is torch.bfloat16 else _wide(weight)

    def lm_head(self) -> Matrix:
        if self._blocks is None:
            return self._rounded(self._modules[HEAD])
        try:
            return self._stored(HEAD)
        except KeyError:  # tied
            return self._stored(TABLE)

    def group(self, *names: str) -> list[Matrix]:
        """Matrices that lie side by side in the library: in one format, float32 where the file mixes several."""
        if self._blocks is None:
            return [self._rounded(self._modules[name]) for name in names]
        found = [self._stored(name) for name in names]
        if len({m.format for m in found}) > 1:
            found = [Matrix(Format.F32, self._dequantised(name)) for name in names]
        return found

    def floats(self, name: str) -> np.ndarray | None:
        """A vector in float32, None where the model has none of that name."""
        if self._blocks is None:
            weight = self._modules.get(name)
            return None if weight is None else floats(weight)
        try:
            return self._dequantised(name)
        except KeyError:
            return None

    def _rounded(self, weight: torch.Tensor) -> Matrix:
        if self._weights == "float32":
            return _wide(weight)
        if self._weights == "bfloat16":
            return Matrix(Format.BF16, halves(weight))
        wide = _wide(weight).data
        rows, inputs = wide.shape
        if inputs % BLOCK:
            wide = np.ascontiguousarray(np.pad(wide, ((0, 0), (0, -inputs % BLOCK))))
        out = np.empty((rows, wide.shape[1] // BLOCK * BLOCK_BYTES[Format.Q8_0]), dtype=np.uint8)
        self._lib.pass_quantise(pointer(wide), ctypes.c_int64(rows), wide.shape[1], pointer(out))
        return Matrix(Format.Q8_0, out)

    def _stored(self, name: str) -> Matrix:
        assert self._blocks is not None
        kind, _, data = self._blocks.tensor(name)
        found = EXACT.get(_type_name(kind))
        if found is None:
            self.mixed.add(_type_name(kind))
            return Matrix(Format.F32, self._dequantised(name))
        return Matrix(found, np.ascontiguousarray(data))

    def _dequantised(self, name: str) -> np.ndarray:
        import gguf

        assert self._blocks is not None
        kind, shape, data = self._blocks.tensor(name)
        known = gguf.GGMLQuantizationType[_type_name(kind)]
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        if known == gguf.GGMLQuantizationType.F32:
            wide = raw.view(np.float32)
        else:
            row = raw.size // int(np.prod(shape[:-1], dtype=np.int64))
            wide = gguf.quants.dequantize(raw.reshape(-1, row), known)
        return np.ascontiguousarray(wide, dtype=np.float32).reshape(shape)


def _wide(weight: torch.Tensor) -> Matrix:
    """float32, the module's own memory where it is that already."""
    own = weight.detach().float().contiguous().cpu().numpy()
    return Matrix(Format.F32, own)


def _type_name(kind: Any) -> str:
    return str(getattr(kind, "name", kind))
