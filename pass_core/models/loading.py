"""A name or path becomes a ready LanguageModel. (Signature fixed; being written.)"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pass_core.models.language_model import LanguageModel
from pass_core.progress import CancelToken, ProgressCallback

DeviceChoice = str  # "auto", "cpu", "cuda", "cuda:1", "mps"
DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]


def load_model(
    source: str | Path | None = None,
    *,
    device: DeviceChoice = "auto",
    dtype: DtypeChoice = "auto",
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> LanguageModel:
    """Load a catalog name, Hugging Face id, local directory or GGUF file; None is the default model."""
    raise NotImplementedError
