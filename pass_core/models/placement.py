"""Where the modules of a model compute: on one device, or on several under accelerate's hooks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def execution_device(module: nn.Module) -> torch.device:
    """The device a module computes on, also where its weights wait in memory or on disk between calls."""
    hook: Any = getattr(module, "_hf_hook", None)
    for one in (hook, *getattr(hook, "hooks", ())):
        chosen = getattr(one, "execution_device", None)
        if chosen is not None:
            return torch.device(chosen)
    return next(module.parameters()).device


def stored_parameter(module: nn.Module, name: str) -> torch.Tensor | None:
    """A parameter of the module, wherever it waits between calls; None where it has none of that name.

    Raises:
        RuntimeError: it was never loaded.
    """
    parameter: torch.Tensor | None = getattr(module, name, None)
    if parameter is None or parameter.device.type != "meta":
        return parameter
    hook: Any = getattr(module, "_hf_hook", None)
    for one in (hook, *getattr(hook, "hooks", ())):
        kept = getattr(one, "weights_map", None)
        if kept is not None:
            return kept[name]
    raise RuntimeError(f"the {name} of a {type(module).__name__} was never loaded")


def devices_of(model: nn.Module) -> list[torch.device]:
    """The devices that compute, in the order of the layers; one where the model is not spread."""
    placed: dict[Any, Any] | None = getattr(model, "hf_device_map", None)
    if not placed:
        return [next(model.parameters()).device]
    return list(dict.fromkeys(execution_device(model.get_submodule(name)) for name in placed))


def is_spread(model: nn.Module) -> bool:
    """Whether accelerate moves inputs or weights between devices while this model computes."""
    return len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
