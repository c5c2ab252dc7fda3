"""Contrast, colour distance, and what eyes with a colour vision deficiency see: published formulas, nothing else."""

from __future__ import annotations

import numpy as np

# Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# table 1, severity 1.0; on linear RGB.
DEFICIENCIES = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
# IEC 61966-2-1: linear sRGB to CIE XYZ, and the white point D65.
_XYZ = np.array(((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)))
_WHITE = np.array((0.9505, 1.0, 1.089))


def linear(color: str) -> np.ndarray:
    """Linear RGB of "#rrggbb"."""
    encoded = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(front: str, back: str) -> float:
    """Contrast ratio of WCAG 2.2: (lighter + 0.05) / (darker + 0.05) of relative luminances."""
    lights = sorted(float(linear(c) @ _XYZ[1]) for c in (front, back))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def seen(color: str, deficiency: str | None) -> np.ndarray:
    """Linear RGB of what an eye with the deficiency sees (None: with none)."""
    rgb = linear(color)
    return rgb if deficiency is None else np.clip(np.array(DEFICIENCIES[deficiency]) @ rgb, 0, 1)


def distance(a: str, b: str, deficiency: str | None = None) -> float:
    """CIE 1976 colour difference; about 2 is just noticeable."""
    return float(np.linalg.norm(_lab(seen(a, deficiency)) - _lab(seen(b, deficiency))))


def _lab(rgb: np.ndarray) -> np.ndarray:
    t = (_XYZ @ rgb) / _WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array((116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])))
