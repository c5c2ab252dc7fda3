"""Parallel Speculative Sampling with a frozen language model, as a library without any Qt.

    from pass_core import DecodingSettings, Engine, default_lookahead, load_model

    engine = Engine(load_model())
    lookahead = default_lookahead(engine.model)
    for step in engine.decode("Once upon a time", DecodingSettings(k=5), lookahead=lookahead):
        print("".join(token.text for token in step.tokens), end="", flush=True)

`models` loads them, `engine` owns a loaded one, `decoding` generates and yields events, `lookahead` reads and writes
the trained files, `training` makes them, `evaluation` measures, `runtime` runs forward passes, `cli` is the command
line. Source of the method: PaSS, arXiv 2311.13581.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pass_core.engine import Engine as Engine
    from pass_core.engine import EngineBusy as EngineBusy
    from pass_core.lookahead.format import load_lookahead as load_lookahead
    from pass_core.models.loading import load_model as load_model
    from pass_core.models.shipped import default_lookahead as default_lookahead
    from pass_core.prompt import Prompt as Prompt
    from pass_core.settings import DecodingSettings as DecodingSettings
    from pass_core.settings import SamplingSettings as SamplingSettings
    from pass_core.settings import StopConditions as StopConditions
    from pass_core.settings import Strategy as Strategy

# Resolved on first use: importing torch takes seconds, and `pass_core.settings` needs none of it.
_HOMES = {
    "Engine": "engine",
    "EngineBusy": "engine",
    "load_lookahead": "lookahead.format",
    "load_model": "models.loading",
    "default_lookahead": "models.shipped",
    "Prompt": "prompt",
    "DecodingSettings": "settings",
    "SamplingSettings": "settings",
    "StopConditions": "settings",
    "Strategy": "settings",
}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
