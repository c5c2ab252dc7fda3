"""The name of the KV cache argument of a model's forward: transformers 5.24 began to rename it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_NAMES = ("cache", "cache_params", "past_key_values")


def cache_argument(forward: Callable[..., Any]) -> str:
    """The name of the cache among the parameters of `forward`, newest first."""
    takes = inspect.signature(forward).parameters
    return next((name for name in _NAMES if name in takes), "past_key_values")
