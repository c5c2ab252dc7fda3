"""Rotary embeddings of GGUF files: base, partial rotation, linear and YaRN scaling, and tables of factors.

Formulas as in llama.cpp (`ggml_rope_ext`, `rope_yarn`) and transformers (`modeling_rope_utils`), which agree on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from pass_core.models.errors import ModelUnsupported
from pass_core.models.gguf_header import GgufHeader

_SCALING = "rope.scaling"
_KEYS = frozenset(
    {
        "rope.freq_base", "rope.freq_base_swa", "rope.dimension_count", "rope.scale_linear", f"{_SCALING}.type",
        f"{_SCALING}.factor", f"{_SCALING}.original_context_length", f"{_SCALING}.attn_factor",
        f"{_SCALING}.yarn_attn_factor", f"{_SCALING}.yarn_beta_fast", f"{_SCALING}.yarn_beta_slow",
        f"{_SCALING}.yarn_ext_factor",
    }
)  # fmt: skip
FACTOR_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
# factor, low_freq_factor, high_freq_factor, original context of the published Llamas 3.1 to 3.3.
_LLAMA3 = ((8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 8192), (16.0, 1.0, 4.0, 8192))


def rope_keys(header: GgufHeader) -> frozenset[str]:
    """The keys that `set_rope` understands (without the architecture)."""
    return _KEYS


def set_rope(text: Any, header: GgufHeader, factors: dict[str, list[float]]) -> None:
    """Write `rope_parameters` into a config that has them.

    Args:
        factors: values of the file's `FACTOR_TENSORS`, by name.

    Raises:
        ModelUnsupported: a scaling that the config cannot express.
    """
    if not isinstance(getattr(text, "rope_parameters", None), dict):
        if header.of_model(f"{_SCALING}.type", "none") != "none" or factors:
            raise _refused(header, "its rotary embedding is scaled, and this architecture has none in transformers")
        return
    scaling = _scaling(text, header, factors)
    base, partial = header.of_model("rope.freq_base"), _partial(text, header)
    parameters = cast("dict[str, Any]", text.rope_parameters)
    layered = {k: v for k, v in parameters.items() if isinstance(v, dict)}  # one table for each kind of layer
    if layered:
        for kind, old in layered.items():
            # Layers with a window keep short distances: llama.cpp scales only the others.
            own = scaling if kind == "full_attention" else {"rope_type": "default"}
            theta = base if kind == "full_attention" else header.of_model("rope.freq_base_swa")
            parameters[kind] = {"rope_theta": float(theta or old["rope_theta"]), **own, **partial}
        text.rope_parameters = parameters
        return
    theta = float(base or parameters.get("rope_theta") or 10_000.0)
    text.rope_parameters = {"rope_theta": theta, **scaling, **partial}
    if "original_max_position_embeddings" in scaling and hasattr(text, "original_max_position_embeddings"):
        text.original_max_position_embeddings = scaling["original_max_position_embeddings"]


def _partial(text: Any, header: GgufHeader) -> dict[str, Any]:
    """The part of each head that is rotated, where it is not the whole."""
    rotated = header.of_model("rope.dimension_count")
    heads = int(text.num_attention_heads)
    width = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    takes = "partial_rotary_factor" in text.rope_parameters
    if rotated is None:
        return {"partial_rotary_factor": 1.0} if takes else {}
    if rotated == width and not takes:
        return {}
    if not takes or not 0 < rotated <= width:
        raise _refused(header, f"it rotates {rotated} of the {width} numbers of a head")
    return {"partial_rotary_factor": rotated / width}


def _scaling(text: Any, header: GgufHeader, factors: dict[str, list[float]]) -> dict[str, Any]:
    kind = str(header.of_model(f"{_SCALING}.type", ""))
    factor = header.of_model(f"{_SCALING}.factor", header.of_model("rope.scale_linear"))
    if not kind and "rope_factors_long.weight" in factors:
        kind = "longrope"
    if not kind:
        kind = "linear" if factor not in (None, 0, 1, 0.0, 1.0) else "none"  # files from before the key
    original = header.of_model(f"{_SCALING}.original_context_length")
    if kind == "longrope":
        return _longrope(text, header, factors, original)
    table = factors.get("rope_freqs.weight")
    if table is not None and any(f != 1.0 for f in table):
        if kind != "none" and factor not in (None, 1, 1.0):
            raise _refused(header, f"it has both rope_freqs.weight and {kind} rope scaling")
        return _from_table(text, header, table)
    if kind == "none" or (kind == "linear" and factor in (None, 0, 0.0, 1, 1.0)):
        return {"rope_type": "default"}
    if not isinstance(factor, (int, float)) or not 0 < factor < 1e6:
        raise _refused(header, f"its rope scaling is {kind} with the factor {factor}")
    if kind == "linear":
        return {"rope_type": "linear", "factor": float(factor)}
    if kind == "yarn":
        return _yarn(text, header, float(factor), original)
    raise _refused(header, f"its rope scaling is “{kind}”")


def _yarn(text: Any, header: GgufHeader, factor: float, original: Any) -> dict[str, Any]:
    if header.of_model(f"{_SCALING}.yarn_ext_factor", 1.0) not in (1.0, -1.0, 1, -1):
        raise _refused(header, "its YaRN mixes frequencies by a factor of its own")
    own = header.of_model(f"{_SCALING}.yarn_attn_factor", header.of_model(f"{_SCALING}.attn_factor", 1.0))
    found: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": int(original or text.max_position_embeddings),
        # Every attention score is multiplied by its square.
        "attention_factor": float(own) * (0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0),
    }
    for key, name, usual in (("yarn_beta_fast", "beta_fast", 32.0), ("yarn_beta_slow", "beta_slow", 1.0)):
        found[name] = float(header.of_model(f"{_SCALING}.{key}", usual))
    return found


def _longrope(text: Any, header: GgufHeader, factors: dict[str, list[float]], original: Any) -> dict[str, Any]:
    long, short = factors.get("rope_factors_long.weight"), factors.get("rope_factors_short.weight")
    if long is None or short is None or not original:
        raise _refused(header, "its LongRoPE lacks the tables of factors or the original context")
    found: dict[str, Any] = {
        "rope_type": "longrope",
        "long_factor": _rounded(long),
        "short_factor": _rounded(short),
        "original_max_position_embeddings": int(original),
    }
    attention = header.of_model(f"{_SCALING}.attn_factor", header.of_model(f"{_SCALING}.yarn_attn_factor"))
    if attention is not None:
        found["attention_factor"] = float(attention)
    return found


def _from_table(text: Any, header: GgufHeader, table: list[float]) -> dict[str, Any]:
    """A table of divisors for the frequencies: Llama 3's formula where it is one of those, else the table itself."""
    base = float(header.of_model("rope.freq_base", 10_000.0))
    for factor, low, high, original in _LLAMA3:
        wanted = llama3_factors(base, 2 * len(table), factor, low, high, original)
        if all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(table, wanted)):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }
    if any(f <= 0 or not math.isfinite(f) for f in table):
        raise _refused(header, "its rope_freqs.weight holds numbers that divide no frequency")
    # LongRoPE with the same table at every length.
    return {
        "rope_type": "longrope",
        "long_factor": _rounded(table),
        "short_factor": _rounded(table),
        "original_max_position_embeddings": int(text.max_position_embeddings),
        "attention_factor": 1.0,
    }


def llama3_factors(
    base: float, dimensions: int, factor: float, low: float, high: float, original: int
) -> Sequence[float]:
    """The divisors [dimensions / 2] that llama.cpp's converter writes for Llama 3.1 (`rope_freqs.weight`)."""
    out: list[float] = []
    for i in range(0, dimensions, 2):
        wavelength = 2 * math.pi * base ** (i / dimensions)
        if wavelength < original / high:
            out.append(1.0)
        elif wavelength > original / low:
            out.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return out


def _rounded(values: list[float]) -> list[float]:
    """Float32 numbers as a person wrote them: 1.08 instead of 1.0800000429153442."""
    return [float(f"{v:.7g}") for v in values]


def _refused(header: GgufHeader, why: str) -> ModelUnsupported:
    return ModelUnsupported(
        f"{header.name} cannot be converted rightly: {why}. Choose the original model, or another file."
    )
