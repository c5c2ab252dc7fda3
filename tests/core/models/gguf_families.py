"""Random GGUF files of many architectures, and a plain forward that computes their logits from the file alone.

Nothing here comes from transformers: tensors are dequantised with `gguf`, and the forward is written from llama.cpp's
graphs (src/models/*.cpp), so that a conversion that drops or bends something shows as other logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch.nn import functional

VOCABULARY = 300
HIDDEN, LAYERS, HEADS, GROUPS, INNER, EXPERTS = 64, 2, 4, 2, 96, 4


@dataclass(frozen=True)
class Family:
    """What tells one architecture from Llama.

    Attributes:
        keys: further metadata of the architecture.
        extra: further metadata with whole names.
    """

    arch: str
    norm: str = "rms"  # or "layer", with biases
    qkv_bias: bool = False
    all_bias: bool = False
    qk_norm: bool = False
    fused: bool = False  # attn_qkv, and for phi3 gate and up in one
    gated: bool = True
    act: str = "silu"
    interleaved: bool = False
    head_dim: int = 16
    rotated: int = 0  # 0: the whole head
    sandwich: bool = False  # Gemma's norms after attention and MLP
    experts: bool = False
    shared: bool = False
    learned: bool = False
    parallel: bool = False
    tied: bool = False
    window: int = 0
    every: int = 0  # each so-many-th layer has no window
    layers: int = LAYERS
    context: int = 512
    keys: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)


FAMILIES: dict[str, Family] = {
    "llama": Family("llama", interleaved=True),
    "llama-wide": Family("llama", interleaved=True, head_dim=32),
    "llama-linear": Family(
        "llama", interleaved=True, keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    ),
    "llama-old-linear": Family("llama", interleaved=True, keys={"rope.scale_linear": 2.0}),
    "llama-3.1": Family("llama", interleaved=True, tables={"rope_freqs.weight": "llama3"}),
    "llama-table": Family("llama", interleaved=True, tables={"rope_freqs.weight": "random"}),
    "qwen2": Family("qwen2", qkv_bias=True),
    "qwen2-yarn": Family(
        "qwen2",
        qkv_bias=True,
        keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32},
    ),
    "qwen3": Family("qwen3", qk_norm=True, head_dim=32),
    "phi3": Family("phi3", fused=True, window=24),
    "phi3-longrope": Family(
        "phi3",
        fused=True,
        keys={"rope.scaling.original_context_length": 128, "rope.scaling.attn_factor": 1.19},
        tables={"rope_factors_short.weight": "random", "rope_factors_long.weight": "random"},
    ),
    "gemma2": Family(
        "gemma2", act="gelu", sandwich=True, head_dim=32, tied=True, window=8, every=2,
        keys={"attn_logit_softcapping": 40.0, "final_logit_softcapping": 20.0},
    ),
    "gemma3": Family(
        "gemma3", act="gelu", sandwich=True, head_dim=32, tied=True, qk_norm=True, window=8, every=6, layers=6
    ),
    "gemma3-linear": Family(
        "gemma3", act="gelu", sandwich=True, head_dim=32, tied=True, qk_norm=True, window=8, every=6, layers=6,
        keys={"rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
    ),
    "gpt2": Family("gpt2", norm="layer", all_bias=True, fused=True, gated=False, act="gelu", learned=True, context=300),
    "starcoder2": Family("starcoder2", norm="layer", all_bias=True, gated=False, act="gelu", tied=True),
    "stablelm": Family("stablelm", norm="layer", rotated=4),
    "qwen2moe": Family("qwen2moe", qkv_bias=True, experts=True, shared=True),
    "qwen3moe": Family("qwen3moe", qk_norm=True, experts=True, head_dim=32),
}  # fmt: skip
BASES = {"gemma3": 1_000_000.0}


def write(family: Family, path: Path, quantized: gguf.GGMLQuantizationType | None = None) -> Path:
    """A file with random weights; `quantized` is the type of its matrices."""
    writer = gguf.GGUFWriter(str(path), family.arch)
    writer.add_block_count(family.layers)
    writer.add_context_length(family.context)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    groups = HEADS if family.learned else GROUPS
    if not family.learned:
        writer.add_head_count_kv(groups)
    (writer.add_layer_norm_rms_eps if family.norm == "rms" else writer.add_layer_norm_eps)(1e-6)
    if not family.learned:
        writer.add_rope_freq_base(BASES.get(family.arch, 50_000.0))
        writer.add_rope_dimension_count(family.rotated or family.head_dim)
    if family.head_dim * HEADS != HIDDEN or family.arch.startswith(("gemma", "qwen3")):
        writer.add_key_length(family.head_dim)
        writer.add_value_length(family.head_dim)
    if family.window:
        writer.add_sliding_window(family.window)
    if family.experts:
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(48)
    if family.shared:
        writer.add_expert_shared_feed_forward_length(40)
    if family.arch == "stablelm":
        writer.add_parallel_residual(family.parallel)
    for key, value in family.keys.items():
        add_field(writer, f"{family.arch}.{key}", value)
    # Gemma's converter makes a tokenizer that cannot do without one.
    unknown = {"tokenizer.ggml.unknown_token_id": 260} if family.arch.startswith("gemma") else {}
    add_tokens(writer, unknown | family.extra)
    for name, array in tensors(family).items():
        if quantized is not None and array.ndim >= 2:
            packed = gguf.quants.quantize(array, quantized)
            writer.add_tensor(name, packed, raw_dtype=quantized)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokens(writer: gguf.GGUFWriter, extra: dict[str, Any]) -> None:
    """A byte-level vocabulary; <|bos|>, <|eos|>, <|eot|> and <|eom|> are 256 to 259; one merge; `extra` fields."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    alphabet = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    tokens = [*(alphabet[b] for b in range(256)), "<|bos|>", "<|eos|>", "<|eot|>", "<|eom|>", "th"]
    tokens += [f"<|unused{i}|>" for i in range(VOCABULARY - len(tokens))]
    kinds = [gguf.TokenType.CONTROL if t.startswith("<|") else gguf.TokenType.NORMAL for t in tokens]
    fields: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.bos_token_id": 256, "tokenizer.ggml.eos_token_id": 257,
    }  # fmt: skip
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h"])
    for key, value in (fields | extra).items():
        if value is not None:
            add_field(writer, key, value)


def add_field(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds[type(value)](key, value)


def tensors(family: Family) -> dict[str, np.ndarray]:
    """Random tensors under GGUF's names, [out, in]."""
    rng = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {}

    def matrix(name: str, *shape: int) -> None:
        found[f"{name}.weight"] = (rng.standard_normal(shape) * 1.5 / math.sqrt(shape[-1])).astype(np.float32)
        if family.all_bias and "embd" not in name and name != "output":
            bias(name, shape[0])

    def bias(name: str, size: int) -> None:
        found[f"{name}.bias"] = (rng.standard_normal(size) * 0.3).astype(np.float32)

    def norm(name: str, size: int = HIDDEN) -> None:
        found[f"{name}.weight"] = (1 + 0.3 * rng.standard_normal(size)).astype(np.float32)
        if family.norm == "layer":
            bias(name, size)

    width, groups = family.head_dim, HEADS if family.learned else GROUPS
    matrix("token_embd", VOCABULARY, HIDDEN)
    if family.learned:
        matrix("position_embd", family.context, HIDDEN)
    for i in range(family.layers):
        b = f"blk.{i}"
        norm(f"{b}.attn_norm")
        if family.fused:
            matrix(f"{b}.attn_qkv", (HEADS + 2 * groups) * width, HIDDEN)
        else:
            for part, heads in (("q", HEADS), ("k", groups), ("v", groups)):
                matrix(f"{b}.attn_{part}", heads * width, HIDDEN)
                if family.qkv_bias:
                    bias(f"{b}.attn_{part}", heads * width)
        if family.qk_norm:
            norm(f"{b}.attn_q_norm", width)
            norm(f"{b}.attn_k_norm", width)
        matrix(f"{b}.attn_output", HIDDEN, HEADS * width)
        if family.sandwich:
            norm(f"{b}.post_attention_norm")
            norm(f"{b}.post_ffw_norm")
        norm(f"{b}.ffn_norm")
        if family.experts:
            matrix(f"{b}.ffn_gate_inp", EXPERTS, HIDDEN)
            for part, shape in (("gate", (48, HIDDEN)), ("up", (48, HIDDEN)), ("down", (HIDDEN, 48))):
                matrix(f"{b}.ffn_{part}_exps", EXPERTS, *shape)
            if family.shared:
                found[f"{b}.ffn_gate_inp_shexp.weight"] = rng.standard_normal(HIDDEN).astype(np.float32) / 8
                for part, shape in (("gate", (40, HIDDEN)), ("up", (40, HIDDEN)), ("down", (HIDDEN, 40))):
                    matrix(f"{b}.ffn_{part}_shexp", *shape)
        else:
            if family.gated and not family.fused:
                matrix(f"{b}.ffn_gate", INNER, HIDDEN)
            matrix(f"{b}.ffn_up", INNER * (2 if family.fused and family.gated else 1), HIDDEN)
            matrix(f"{b}.ffn_down", HIDDEN, INNER)
    norm("output_norm")
    if not family.tied:
        matrix("output", VOCABULARY, HIDDEN)
    half = (family.rotated or family.head_dim) // 2
    for name, kind in family.tables.items():
        if kind == "llama3":
            from pass_core.models.gguf_rope import llama3_factors

            found[name] = np.array(llama3_factors(50_000.0, 2 * half, 8.0, 1.0, 4.0, 8192), dtype=np.float32)
        else:
            found[name] = (1 + 3 * rng.random(half)).astype(np.float32)
    return found


def logits(family: Family, path: Path, ids: list[int]) -> torch.Tensor:
    """[n, vocabulary] of the file's model, positions 0 to n-1."""
    reader = gguf.GGUFReader(path)
    t = {
        x.name: torch.from_numpy(np.array(gguf.quants.dequantize(x.data, x.tensor_type), dtype=np.float32))
        for x in reader.tensors
    }
    x = t["token_embd.weight"][ids]
    if family.learned:
        x = x + t["position_embd.weight"][: len(ids)]
    if family.sandwich:
        x = x * math.sqrt(HIDDEN)
    for i in range(family.layers):
        b = f"blk.{i}"
        slides = bool(family.window) and not (family.every and (i + 1) % family.every == 0)
        h = _norm(family, t, f"{b}.attn_norm", x)
        a = _attention(family, t, b, h, slides)
        if family.sandwich:
            a = _norm(family, t, f"{b}.post_attention_norm", a)
        x = x + a
        m = _mlp(family, t, b, _norm(family, t, f"{b}.ffn_norm", x))
        if family.sandwich:
            m = _norm(family, t, f"{b}.post_ffw_norm", m)
        x = x + m
    out = _norm(family, t, "output_norm", x) @ t["token_embd.weight" if family.tied else "output.weight"].T
    cap = family.keys.get("final_logit_softcapping")
    return torch.tanh(out / cap) * cap if cap else out


def _linear(t: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, t[f"{name}.weight"], t.get(f"{name}.bias"))


def _norm(family: Family, t: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    if family.norm == "layer":
        return functional.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], 1e-6)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * t[f"{name}.weight"]


def _attention(family: Family, t: dict[str, torch.Tensor], b: str, h: torch.Tensor, slides: bool) -> torch.Tensor:
    width, groups, n = family.head_dim, HEADS if family.learned else GROUPS, h.shape[0]
    if family.fused:
        q, k, v = _linear(t, f"{b}.attn_qkv", h).split([HEADS * width, groups * width, groups * width], -1)
    else:
        q, k, v = (_linear(t, f"{b}.attn_{p}", h) for p in "qkv")
    q, k, v = (x.view(n, -1, width) for x in (q, k, v))
    if family.qk_norm:
        q, k = _norm(family, t, f"{b}.attn_q_norm", q), _norm(family, t, f"{b}.attn_k_norm", k)
    if not family.learned:
        q, k = (_rotate(family, t, x, slides) for x in (q, k))
    k, v = (x.repeat_interleave(HEADS // groups, 1) for x in (k, v))
    scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(width)
    cap = family.keys.get("attn_logit_softcapping")
    if cap:
        scores = torch.tanh(scores / cap) * cap
    distance = torch.arange(n)[:, None] - torch.arange(n)[None]
    hidden = (distance < 0) | (slides & (distance >= family.window))
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return _linear(t, f"{b}.attn_output", torch.einsum("hij,jhd->ihd", weights, v).reshape(n, -1))


def _rotate(family: Family, t: dict[str, torch.Tensor], x: torch.Tensor, slides: bool) -> torch.Tensor:
    """RoPE by llama.cpp's `ggml_rope_ext`: pairs side by side (Llama) or half a head apart."""
    rotated = family.rotated or family.head_dim
    base = 10_000.0 if family.arch == "gemma3" and slides else BASES.get(family.arch, 50_000.0)
    at = torch.arange(0, rotated, 2, dtype=torch.float64)
    rate = base ** (-at / rotated)
    scale = 1.0
    kind = family.keys.get("rope.scaling.type", "linear" if "rope.scale_linear" in family.keys else "")
    factor = float(family.keys.get("rope.scaling.factor", family.keys.get("rope.scale_linear", 1.0)))
    if family.arch == "gemma3" and slides:
        kind = ""
    if "rope_freqs.weight" in t:
        rate = rate / t["rope_freqs.weight"].double()
    if "rope_factors_short.weight" in t:  # texts here stay below the original context
        rate = rate / t["rope_factors_short.weight"].double()
        scale = family.keys["rope.scaling.attn_factor"]
    if kind == "linear":
        rate = rate / factor
    elif kind == "yarn":
        original = family.keys["rope.scaling.original_context_length"]

        def place(rotations: float) -> float:
            return rotated * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

        low, high = max(0, math.floor(place(32.0))), min(rotated - 1, math.ceil(place(1.0)))
        ramp = 1 - ((at / 2 - low) / max(0.001, high - low)).clamp(0, 1)
        rate = rate / factor * (1 - ramp) + rate * ramp
        scale = 1 + 0.1 * math.log(factor)
    angle = torch.arange(x.shape[0], dtype=torch.float64)[:, None] * rate
    cos, sin = ((f(angle) * scale).float()[:, None] for f in (torch.cos, torch.sin))
    turned, rest = x[..., :rotated], x[..., rotated:]
    if family.interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        out = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        out = torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
    return torch.cat((out, rest), -1)


def _mlp(family: Family, t: dict[str, torch.Tensor], b: str, h: torch.Tensor) -> torch.Tensor:
    def act(x: torch.Tensor) -> torch.Tensor:
        return functional.silu(x) if family.act == "silu" else functional.gelu(x, approximate="tanh")

    if not family.gated:
        return _linear(t, f"{b}.ffn_down", act(_linear(t, f"{b}.ffn_up", h)))
    if not family.experts:
        if family.fused:
            gate, up = _linear(t, f"{b}.ffn_up", h).chunk(2, -1)
        else:
            gate, up = _linear(t, f"{b}.ffn_gate", h), _linear(t, f"{b}.ffn_up", h)
        return _linear(t, f"{b}.ffn_down", act(gate) * up)
    weights = _linear(t, f"{b}.ffn_gate_inp", h).softmax(-1)
    best, chosen = weights.topk(2, -1)
    if not family.shared:  # qwen3moe normalises them, qwen2moe does not
        best = best / best.sum(-1, keepdim=True)
    out = torch.zeros_like(h)
    for row in range(h.shape[0]):
        for weight, e in zip(best[row], chosen[row]):
            gate, up, down = (t[f"{b}.ffn_{p}_exps.weight"][e] for p in ("gate", "up", "down"))
            out[row] += weight * (down @ (act(gate @ h[row]) * (up @ h[row])))
    if family.shared:
        part = _linear(
            t, f"{b}.ffn_down_shexp", act(_linear(t, f"{b}.ffn_gate_shexp", h)) * _linear(t, f"{b}.ffn_up_shexp", h)
        )
        out = out + torch.sigmoid(h @ t[f"{b}.ffn_gate_inp_shexp.weight"])[:, None] * part
    return out
