"""Choose the fastest runtime that is right for a model on its device."""

from __future__ import annotations

from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Runtime
from pass_core.runtime.cuda_graphs.graphs import CudaGraphs
from pass_core.runtime.cuda_graphs.runtime import StaticRuntime
from pass_core.runtime.cuda_graphs.runtime import why_not as why_not_captured
from pass_core.runtime.cuda_setup import set_up
from pass_core.runtime.native.runtime import NativeRuntime, why_not
from pass_core.runtime.plain_runtime import PlainRuntime
from pass_core.runtime.torch_runtime import TorchRuntime


def make_runtime(model: LanguageModel) -> Runtime:
    """A runtime of a loaded model; its weights are packed now. `Engine` makes one for each model."""
    set_up(model.device)
    if not model.capabilities.supports_pass:
        return PlainRuntime(model)
    if model.device.type == "cuda" and not why_not_captured(model):
        return StaticRuntime(model, CudaGraphs(model.device))
    return TorchRuntime(model) if why_not(model) else NativeRuntime(model)
