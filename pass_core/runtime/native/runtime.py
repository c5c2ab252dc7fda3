"""Llama-shaped models on a CPU: one compiled call for all layers, weights packed once."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pass_core.lookahead.embeddings import AdapterWeights, LookaheadEmbeddings
from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, ProgressCallback
from pass_core.runtime.base import Cache, Shortlist
from pass_core.runtime.native.arrays import floats, halves, pointer
from pass_core.runtime.native.build import library, reason_missing
from pass_core.runtime.native.formats import ACTIVATION_BITS, Format, Weights
from pass_core.runtime.native.shortlist import NativeShortlist
from pass_core.runtime.native.weights import Blocks, WeightSource
from pass_core.runtime.rows import Rows

_FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_STATIC_ROPE = frozenset({"default", "linear", "llama3", "yarn"})
_OWN_WEIGHTS: dict[torch.dtype, Weights] = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_NO_MEMORY = "There is not enough memory to pack the model's weights. Close other programs."
_LINEARS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


class _Shape(ctypes.Structure):
    _fields_ = (
        *((n, ctypes.c_int32) for n in ("hidden", "layers", "heads", "kv_heads", "head_dim", "inner", "vocabulary")),
        *((n, ctypes.c_int32) for n in ("threads", "cache_format", "bits")),
        ("epsilon", ctypes.c_float),
    )


def unsupported_reason(model: LanguageModel) -> str:
    """Why this model cannot run natively, "" when it can."""
    config = model.config
    if model.device.type != "cpu" or model.dtype not in _OWN_WEIGHTS:
        return "it is for float32 and bfloat16 on a CPU"
    if model.quantization:
        return f"its weights are {model.quantization}"
    if config.model_type not in _FAMILIES:
        return f"{config.model_type} is not Llama-shaped"
    if not model.capabilities.supports_pass:
        return model.capabilities.reason
    if model.capabilities.sliding_window is not None:
        return f"its layers see a window of {model.capabilities.sliding_window} tokens"
    if getattr(config, "hidden_act", "silu") not in ("silu", "swish") or getattr(config, "mlp_bias", False):
        return "its MLP is not SwiGLU without bias"
    rope = getattr(getattr(model.base, "rotary_emb", None), "rope_type", "")
    if rope not in _STATIC_ROPE:
        return f"its rotary embedding ({rope or 'none'}) changes with the length"
    head_dim = _head_dim(config)
    if head_dim % 16 or head_dim > 256 or config.hidden_size % 16 or config.intermediate_size % 16:
        return "its sizes are not multiples of 16"
    if getattr(model.lm_head, "bias", None) is not None or _other_bias(model):
        return "it has biases outside q, k and v"
    if getattr(config, "partial_rotary_factor", 1.0) not in (1.0, None):
        return "it rotates only a part of each head"
    if library() is None:
        return reason_missing()
    return ""


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _other_bias(model: LanguageModel) -> bool:
    allowed = ("q_proj", "k_proj", "v_proj")
    return any(getattr(m, "bias", None) is not None and not n.endswith(allowed) for n, m in model.linears().items())


class _Spare:
    """The memory of the last cache that was given up, for the next one: fresh memory takes 20 ms."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self.lib = lib
        self.handle: int | None = None
        self.capacity = 0

    def take(self, model: int, capacity: int) -> tuple[int | None, int]:
        """(handle, capacity) of a cache with room for `capacity` entries; the handle is None without memory."""
        handle, room = self.handle, self.capacity
        self.handle = None
        if handle and room >= capacity:
            return handle, room
        if handle:
            self.lib.pass_cache_free(ctypes.c_void_p(handle))
        self.lib.pass_cache_new.restype = ctypes.c_void_p
        return self.lib.pass_cache_new(ctypes.c_void_p(model), capacity), capacity

    def keep(self, handle: int, capacity: int) -> None:
        """A cache that is no longer used."""
        if self.handle:
            self.lib.pass_cache_free(ctypes.c_void_p(handle))
            return
        self.handle, self.capacity = handle, capacity

    def __del__(self) -> None:
        if self.handle:
            self.lib.pass_cache_free(ctypes.c_void_p(self.handle))
            self.handle = None


class NativeCache:
    """KV cache in the library's packed layout."""

    def __init__(self, spare: _Spare, model: int, capacity: int) -> None:
        self.lib, self._spare = spare.lib, spare
        self.handle, self._room = spare.take(model, capacity)
        if not self.handle:
            raise MemoryError(f"There is not enough memory for a context of {capacity} tokens. Ask for fewer tokens.")
        self.capacity = capacity
        self.length = 0

    def commit(self, rows: Sequence[int]) -> None:
        at = np.fromiter(rows, dtype=np.int32)
        self.lib.pass_commit(ctypes.c_void_p(self.handle), self.length, pointer(at), at.size)
        self.length += at.size

    def truncate(self, length: int) -> None:
        self.length = min(self.length, length)

    @property
    def nbytes(self) -> int:
        self.lib.pass_cache_bytes.restype = ctypes.c_int64
        return int(self.lib.pass_cache_bytes(ctypes.c_void_p(self.handle)))

    def __del__(self) -> None:
        if self.handle:
            self._spare.keep(self.handle, self._room)
            self.handle = None


class NativeRuntime:
    """See csrc/forward.h: the result of a row does not depend on the other rows of its pass.

    Args:
        threads: computing threads; by default as many as PyTorch uses.
        weights: what to compute with, by default the model's own dtype.
        wide_cache: keep keys, values and adapters in float32 instead of bfloat16; by default where weights are float32.
        blocks: the tensors of the GGUF file that the model came from, for weights="gguf".
        bits: 8 or 16, of the integers that rows become where weights are integers (16 where the processor has no
            products of bytes).
    """

    def __init__(
        self,
        model: LanguageModel,
        threads: int | None = None,
        *,
        weights: Weights | None = None,
        blocks: Blocks | None = None,
        bits: int = ACTIVATION_BITS,
        wide_cache: bool | None = None,
    ) -> None:
        lib = library()
        if lib is None:
            raise RuntimeError("the native library is not available")
        self.lib = lib
        self.model = model
        self.threads = threads or min(torch.get_num_threads(), os.cpu_count() or 1)
        config = model.config
        self._heads, self._kv_heads = int(config.num_attention_heads), int(config.num_key_value_heads)
        self._head_dim = _head_dim(config)
        self._hidden = int(config.hidden_size)
        self._vocabulary = model.vocabulary_size
        rotary: Any = model.base.rotary_emb
        self._frequencies = rotary.inv_freq.float().cpu().numpy()
        self._rope_scale = float(getattr(rotary, "attention_scaling", 1.0))
        self.weights: Weights = weights or _OWN_WEIGHTS[model.dtype]
        self.bits = bits
        self._spare = _Spare(lib)
        wide = self.weights == "float32" if wide_cache is None else wide_cache
        self._cache_format = Format.F32 if wide else Format.BF16
        self._lookahead: LookaheadEmbeddings | None = None
        self._shortlist: NativeShortlist | None = None
        self.blocks = blocks
        self._source = WeightSource(lib, model, self.weights, blocks)
        self._table = self._source.table()
        self.handle: int = self._build(config)

    @property
    def isa(self) -> str:
        """The instruction set that the library in use was compiled for."""
        name = self.lib.pass_isa
        name.restype = ctypes.c_char_p
        return str(name().decode())

    @property
    def description(self) -> str:
        integers = f" by {self.bits} bits" if self.weights in ("int8", "gguf") else ""
        return f"native {self.weights}{integers}, {self.isa}, {self.threads} threads"

    @property
    def weight_bytes(self) -> int:
        """Bytes of packed weights: what a forward pass with the lm_head reads of memory."""
        self.lib.pass_weight_bytes.restype = ctypes.c_int64
        return int(self.lib.pass_weight_bytes(ctypes.c_void_p(self.handle)))

    def _build(self, config: Any) -> int:
        lib, source = self.lib, self._source
        count = len(self.model.layers)
        shape = _Shape(
            self._hidden,
            count,
            self._heads,
            self._kv_heads,
            self._head_dim,
            int(config.intermediate_size),
            self._vocabulary,
            self.threads,
            self._cache_format,
            self.bits,
            float(config.rms_norm_eps),
        )
        lib.pass_new.restype = ctypes.c_void_p
        norm = source.floats("model.norm.weight")
        table = pointer(self._table.data)
        handle = lib.pass_new(ctypes.byref(shape), pointer(norm), table, self._table.format)
        if not handle:
            raise MemoryError(_NO_MEMORY)
        for index in range(count):
            self._pack_layer(handle, index)
        head = source.lm_head()
        if lib.pass_set_lm_head(ctypes.c_void_p(handle), pointer(head.data), head.format):
            raise MemoryError(_NO_MEMORY)
        return handle

    @property
    def row_buckets(self) -> tuple[int, ...]:
        return ()

    def warm_up(self, on_progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> None:
        """Nothing to prepare: weights are packed when the runtime is made."""

    def _pack_layer(self, handle: int, index: int) -> None:
        source, place = self._source, f"model.layers.{index}."
        names = [f"{place}{linear}.weight" for linear in _LINEARS]
        groups = [source.group(*names[:3]), source.group(names[3]), source.group(*names[4:6]), source.group(names[6])]
        biases = [source.floats(f"{place}{linear}.bias") for linear in _LINEARS[:3]]
        bias = None if biases[0] is None else np.concatenate([b for b in biases if b is not None])
        norms = [
            source.floats(f"{place}{name}.weight")
            for name in ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
        ]
        formats = np.array([group[0].format for group in groups], dtype=np.int32)
        failed = self.lib.pass_set_layer(
            ctypes.c_void_p(handle),
            index,
            pointer(formats),
            *(pointer(matrix.data) for group in groups for matrix in group),
            *(pointer(n) for n in norms[:2]),
            pointer(bias),
            *(pointer(n) for n in norms[2:]),
        )
        if failed:
            raise MemoryError(_NO_MEMORY)

    def new_cache(self, capacity: int) -> NativeCache:
        return NativeCache(self._spare, self.handle, capacity)

    def use_lookahead(self, lookahead: LookaheadEmbeddings | None) -> None:
        if lookahead is self._lookahead:
            return
        self._lookahead = lookahead
        handle = ctypes.c_void_p(self.handle)
        vectors = None if lookahead is None else floats(self._narrow(lookahead.embeddings))
        deep = None if lookahead is None or lookahead.deep is None else floats(lookahead.deep)
        self.lib.pass_set_lookahead(handle, pointer(vectors), pointer(deep), lookahead.count if lookahead else 0)
        adapters = {} if lookahead is None else lookahead.adapters
        for index in range(len(self.model.layers)):
            for which, name in enumerate(_LINEARS):
                self._set_adapter(index, which, adapters.get(f"layers.{index}.{name}"))

    def _narrow(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if self._cache_format is Format.F32 else tensor.to(torch.bfloat16)

    def _set_adapter(self, layer: int, linear: int, adapter: AdapterWeights | None) -> None:
        handle = ctypes.c_void_p(self.handle)
        if adapter is None:
            self.lib.pass_set_adapter(handle, layer, linear, None, None, 0, 0, 0)
            return
        as_kept = floats if self._cache_format is Format.F32 else halves
        down, up = as_kept(adapter.down), as_kept(adapter.up)
        rank, inputs = down.shape
        if self.lib.pass_set_adapter(handle, layer, linear, pointer(down), pointer(up), rank, inputs, up.shape[0]):
            raise MemoryError("There is not enough memory for the look-ahead adapters. Switch them off.")

    def forward(self, cache: Cache, rows: Rows) -> torch.Tensor:
        assert isinstance(cache, NativeCache)
        is_token = rows.lookahead < 0
        tokens = int(is_token.sum())
        if not is_token[:tokens].all():
            raise ValueError("the native runtime needs token rows before look-ahead rows")
        # No torch operation from here on: its threads would spin on the cores that the library computes on.
        ids = np.ascontiguousarray(rows.tokens[:tokens])
        if tokens and not 0 <= int(ids.min()) <= int(ids.max()) < self._vocabulary:
            raise IndexError(f"token ids must be below {self._vocabulary}")
        steps = rows.lookahead.astype(np.int32)
        if tokens < rows.count:
            if self._lookahead is None:
                raise RuntimeError("look-ahead rows need look-ahead embeddings: call use_lookahead first")
            if int(steps.max()) >= self._lookahead.count:
                raise IndexError(f"the look-ahead embeddings have {self._lookahead.count} steps")
        angles = (rows.depths + cache.length).astype(np.float32)[:, None] * self._frequencies
        cosine, sine = np.cos(angles) * self._rope_scale, np.sin(angles) * self._rope_scale
        parents = rows.parents.astype(np.int32)
        hidden = torch.empty(rows.count, self._hidden, dtype=torch.float32)
        failed = self.lib.pass_forward(
            ctypes.c_void_p(self.handle),
            ctypes.c_void_p(cache.handle),
            cache.length,
            rows.count,
            tokens,
            pointer(ids),
            pointer(cosine),
            pointer(sine),
            pointer(parents),
            pointer(steps),
            ctypes.c_void_p(hidden.data_ptr()),
        )
        if failed == 2:
            raise RuntimeError(f"KV cache of {cache.capacity} slots cannot hold {cache.length + rows.count} rows")
        if failed:
            raise MemoryError("There is not enough memory for this call. Choose a smaller row budget.")
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.head(hidden, self._vocabulary)

    def shortlist(self, ids: torch.Tensor) -> Shortlist:
        if self._shortlist is None or self._shortlist.ids is not ids:
            self._shortlist = NativeShortlist(self, ids)
        return self._shortlist

    def head(self, hidden: torch.Tensor, wanted: int, shortlist: int | None = None) -> torch.Tensor:
        """Logits [m, wanted] of all tokens, or of a shortlist in the library."""
        hidden = hidden.contiguous()
        out = torch.empty(hidden.shape[0], (wanted + 15) // 16 * 16, dtype=torch.float32)
        failed = self.lib.pass_head(
            ctypes.c_void_p(self.handle),
            ctypes.c_void_p(shortlist),
            ctypes.c_void_p(hidden.data_ptr()),
            hidden.shape[0],
            ctypes.c_void_p(out.data_ptr()),
        )
        if failed:
            raise MemoryError("There is not enough memory for this call. Choose a smaller row budget.")
        return out[:, :wanted]

    def read(self, buffer: torch.Tensor) -> float:
        """Read a float32 buffer (a multiple of 512 bytes) once, as weights are read, and return its sum: to measure the
        memory."""
        self.lib.pass_read.restype = ctypes.c_float
        lines = buffer.numel() // 16
        address = ctypes.c_void_p(buffer.data_ptr())
        return float(self.lib.pass_read(ctypes.c_void_p(self.handle), address, ctypes.c_int64(lines)))

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when they are done."""

    def __del__(self) -> None:
        handle = getattr(self, "handle", None)
        if handle:
            self.lib.pass_free(ctypes.c_void_p(handle))
