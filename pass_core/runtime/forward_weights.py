"""What the forward passes of a runtime compute with, in a few words and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Runtime
from pass_core.runtime.exactness import in_short
from pass_core.runtime.native.runtime import NativeRuntime


@dataclass(frozen=True, slots=True)
class ForwardWeights:
    """The weights that are multiplied with; the checkpoint in memory may have another format.

    Attributes:
        name: of the format, for people ("4-bit blocks as in the file").
        nbytes: of all weights in it.
    """

    name: str
    nbytes: int


def forward_weights(model: LanguageModel, runtime: Runtime) -> ForwardWeights:
    """Of a runtime that was made for `model`."""
    if isinstance(runtime, NativeRuntime):
        return ForwardWeights(in_short(runtime.weights, runtime.blocks), runtime.weight_bytes)
    dtype = str(model.dtype).removeprefix("torch.")
    name = f"{model.quantization} weights, {dtype}" if model.quantization else dtype
    return ForwardWeights(name, model.weight_bytes())
