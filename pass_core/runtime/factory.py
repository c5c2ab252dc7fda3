"""Choose the fastest runtime that is right for a model on its device."""

from __future__ import annotations

from pass_core.models.errors import ModelUnsupported, PackageMissing
from pass_core.models.language_model import LanguageModel
from pass_core.models.quantize import EXTRA, after_loading
from pass_core.runtime.base import Runtime
from pass_core.runtime.choice import automatic_runtime, blocks_of
from pass_core.runtime.cuda_graphs.graphs import CudaGraphs
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.runtime.cuda_graphs.runtime import unsupported_reason as capture_unsupported_reason
from pass_core.runtime.cuda_setup import set_up
from pass_core.runtime.exactness import exactness
from pass_core.runtime.native.runtime import NativeRuntime, unsupported_reason
from pass_core.runtime.plain_runtime import PlainRuntime
from pass_core.runtime.torch_runtime import TorchRuntime


def make_runtime(model: LanguageModel) -> Runtime:
    """A runtime of a loaded model; its weights are packed now. `Engine` makes one for each model."""
    set_up(model.device)
    if model.weights == "int8":
        reason = unsupported_reason(model)
        if not reason:
            model.weights_reason = exactness("int8")
            return NativeRuntime(model, weights="int8")
        _int8_by_torchao(model, reason)
    if not model.capabilities.supports_pass:
        return PlainRuntime(model)
    if model.device.type == "cuda" and not capture_unsupported_reason(model):
        return CudaGraphRuntime(model, CudaGraphs(model.device))
    reason = unsupported_reason(model)
    if model.weights == "gguf":
        blocks = blocks_of(model)
        if reason or blocks is None:
            raise ModelUnsupported(
                f"{model.name} cannot be computed with its file's own blocks: "
                f"{reason or 'there is no GGUF file of it here'}. Choose other weights."
            )
        model.weights_reason = exactness("gguf", blocks)
        return NativeRuntime(model, weights="gguf", blocks=blocks)
    if reason:
        return TorchRuntime(model)
    automatic = automatic_runtime(model) if model.weights == "auto" else None
    if automatic is not None:
        return automatic
    runtime = NativeRuntime(model)
    model.weights_reason = exactness(runtime.weights)
    return runtime


def _int8_by_torchao(model: LanguageModel, reason: str) -> None:
    """
    Raises:
        ModelUnsupported: it is not installed.
    """
    try:
        after_loading(model.model)
    except PackageMissing as error:
        raise ModelUnsupported(
            f"{model.name} cannot have int8 weights here: the compiled library does not take it "
            f"({reason.rstrip('.')}), and the package torchao, which would, is missing. "
            f"Install it with {EXTRA}, or choose no quantisation."
        ) from error
    model.quantization, model.weights = "int8", "module"
