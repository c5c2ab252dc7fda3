"""Which GGUF file a converted model came from, where it is still on this machine."""

from __future__ import annotations

from pathlib import Path

from pass_core.models.storage import GGUF_KEPT, read_receipt


def gguf_of(folder: Path) -> Path | None:
    """The GGUF file of a converted model's folder, None where there is none, or another one lies in its place now."""
    receipt = read_receipt(folder)
    if receipt is None:
        return None
    if (folder / GGUF_KEPT).is_file():
        return folder / GGUF_KEPT
    from pass_core.models.errors import ModelError
    from pass_core.models.fetch import gguf_identity

    origin = Path(str(receipt.get("origin", "")))
    try:
        same = origin.suffix == ".gguf" and origin.is_file() and gguf_identity(origin) == receipt.get("identity")
    except (OSError, ModelError):
        return None
    return origin if same else None
