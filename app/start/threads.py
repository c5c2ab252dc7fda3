"""How many threads compute: chosen in the preferences, handed to PyTorch before it is imported."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from app.state.preferences import Preferences

VARIABLE = "OMP_NUM_THREADS"
KEY = "machine/threads"
OURS = "PASS_PLAYGROUND_SET_THREADS"  # marks a variable that the preferences set, and nobody outside


def apply_threads(preferences: Preferences, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variable that PyTorch and the compiled library go by; one that was set outside stays."""
    threads = preferences.get(KEY, 0)
    if threads > 0 and not set_outside(environment):
        environment[VARIABLE] = str(threads)
        environment[OURS] = "1"


def set_outside(environment: MutableMapping[str, str] = os.environ) -> str:
    """The number that the environment asks for, "" where it leaves the choice to the preferences."""
    return "" if OURS in environment else environment.get(VARIABLE, "")
