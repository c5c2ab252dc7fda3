"""Choose the kernels of a model on its device."""

from __future__ import annotations

import functools

from pass_core.kernels.device_steps import DeviceSteps
from pass_core.kernels.interface import Kernels
from pass_core.kernels.native import NativeKernels
from pass_core.kernels.native_library import declared
from pass_core.kernels.native_plan import plan_in_library
from pass_core.kernels.reference import ReferenceKernels
from pass_core.models.language_model import LanguageModel
from pass_core.runtime.base import Runtime
from pass_core.runtime.cuda_graphs.runtime import CudaGraphRuntime
from pass_core.runtime.native.build import library


def make_kernels(model: LanguageModel, runtime: Runtime) -> Kernels:
    """The compiled kernels on a CPU where there is a library, the torch kernels elsewhere."""
    compiled = library() if model.device.type == "cpu" else None
    if compiled is None:
        return torch_kernels(model)
    return NativeKernels(compiled, model, getattr(runtime, "handle", None))


def torch_kernels(model: LanguageModel) -> ReferenceKernels:
    """The torch kernels; where there is a compiled library, it searches the shapes of passes, which the host does."""
    compiled = library()
    if compiled is None:
        return ReferenceKernels(model)
    return ReferenceKernels(model, plan=functools.partial(plan_in_library, declared(compiled)))


def device_steps(kernels: Kernels, runtime: Runtime) -> DeviceSteps | None:
    """Whole steps on the device: where passes are captured and the torch kernels compute; None elsewhere."""
    if isinstance(kernels, ReferenceKernels) and isinstance(runtime, CudaGraphRuntime):
        return kernels.device_steps(runtime)
    return None
