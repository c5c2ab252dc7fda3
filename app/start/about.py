"""The about box: versions, licences, sources."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from PySide6.QtWidgets import QMessageBox, QWidget

PACKAGES = ("torch", "transformers", "PySide6", "pyqtgraph")


def versions() -> str:
    """One line each: this program, Python, the libraries that matter in a report."""
    lines = [f"Python {platform.python_version()} on {platform.platform()}"]
    for name in ("pass-playground", *PACKAGES):
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return "\n".join(lines)


def about_box(parent: QWidget) -> QMessageBox:
    """Opened with `open()`."""
    box = QMessageBox(parent)
    box.setWindowTitle("About PASS Playground")
    box.setText("PASS Playground")
    box.setInformativeText(
        "Watch one frozen language model draft and verify its own tokens, losslessly.\n\n"
        "After “PaSS: Parallel Speculative Sampling”, Monea, Joulin and Grave 2023 (arXiv 2311.13581).\n\n"
        f"{versions()}\n\nApache-2.0. Fonts: Inter and JetBrains Mono, SIL Open Font License."
    )
    return box
