"""The one factor of the whole interface's size: 1 is the usual size."""

from __future__ import annotations

STEPS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)
_factor = 1.0


def factor() -> float:
    """The present factor; 1 is the usual size."""
    return _factor


def set_factor(value: float) -> None:
    """Change it for everything that is drawn or sized from now on (`resize_all` takes along what is there)."""
    global _factor
    _factor = min(STEPS[-1], max(STEPS[0], value))


def next_step(steps: int) -> float:
    """The factor that many steps larger (smaller: below 0) than the present one."""
    nearest = min(range(len(STEPS)), key=lambda i: abs(STEPS[i] - _factor))
    return STEPS[min(len(STEPS) - 1, max(0, nearest + steps))]


def scaled(pixels: float) -> int:
    """A length of the usual size at the present one."""
    return round(pixels * _factor)
