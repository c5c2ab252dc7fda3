"""In words for people: which checkpoint each format of the compiled library holds exactly."""

from __future__ import annotations

from pass_core.models.gguf_blocks import GgufBlocks
from pass_core.runtime.native.formats import ACTIVATION_BITS, EXACT, Weights

_BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}
_ACTIVATIONS = f"activations {ACTIVATION_BITS}-bit"
_SAID: dict[Weights, str] = {
    "float32": "float32, which holds every weight as it is",
    "bfloat16": "bfloat16 weights and KV cache, sums in float32",
    "int8": f"int8, rounded from the model's weights in blocks of 32 (the text is exact for these); {_ACTIVATIONS}",
}
_BFLOAT16_HOLDS = "bfloat16, which holds every weight as it is; KV cache in bfloat16, sums in float32"
SHORT: dict[Weights, str] = {
    "gguf": "the file's own blocks",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "int8": "int8",
}


def in_short(weights: Weights, blocks: object = None) -> str:
    """The name of the format alone ("4-bit blocks as in the file"); `blocks` as NativeRuntime has them."""
    if blocks is None:
        return weights
    bits = _BITS.get(_types(blocks)[0]) if isinstance(blocks, GgufBlocks) else None
    return "weights as in the file" if bits is None else f"{bits}-bit blocks as in the file"


def _types(blocks: GgufBlocks) -> list[str]:
    """The formats of a file's matrices; vectors are float32 in every file."""
    return [kind for kind in blocks.types() if kind != "F32"] or ["F32"]


def exactness(weights: Weights, blocks: GgufBlocks | None = None, *, holds: bool = False) -> str:
    """What is computed with, and whether something is rounded for it.

    Args:
        blocks: the file's tensors, for weights="gguf".
        holds: whether every weight of the checkpoint is known to be a number of this format.
    """
    if blocks is None:
        return _BFLOAT16_HOLDS if holds and weights == "bfloat16" else _SAID[weights]
    types = _types(blocks)
    bits = _BITS.get(types[0])
    what = "weights" if bits is None else f"{bits}-bit blocks"
    rest = f"; {_ACTIVATIONS}" if _BITS.keys() & set(types) else ""
    wide = [kind for kind in types if kind not in EXACT]
    inside = f", {' and '.join(wide)} as float32" if wide else ""
    return f"the GGUF file's own {what} ({', '.join(types)}){inside}, nothing rounded again{rest}"
