"""The look-ahead files that come with the program, and the fallback for models without one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from pass_core.lookahead.embeddings import LookaheadEmbeddings, mean_embedding
from pass_core.lookahead.format import load_lookahead
from pass_core.models.catalog import resource_folder
from pass_core.models.language_model import LanguageModel
from pass_core.settings import FALLBACK_LOOKAHEAD


def shipped_lookahead(model: LanguageModel) -> list[Path]:
    """The shipped files that were trained for exactly these weights, the one with most parts first."""
    found: list[tuple[int, str, Path]] = []
    for path in resource_folder("embeddings").glob("*.safetensors"):
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
        except (OSError, SafetensorError):
            continue
        if metadata.get("base_fingerprint") == model.fingerprint:
            parts = [p for p in metadata.get("parts", "").split(",") if p]
            found.append((-len(parts), path.name, path))
    return [path for _, _, path in sorted(found)]


def default_lookahead(model: LanguageModel, *, prefer: Literal["best", "embeddings"] = "best") -> LookaheadEmbeddings:
    """The shipped embeddings for a model: with every trained part, or the plain embeddings of the paper.

    A model that none was trained for gets the mean embedding, L = 5, labelled untrained.

    Raises:
        LookaheadError: a shipped file is damaged.
    """
    files = shipped_lookahead(model)
    if files:
        return load_lookahead(files[0] if prefer == "best" else files[-1])
    return untrained_lookahead(model)


def untrained_lookahead(model: LanguageModel, count: int = FALLBACK_LOOKAHEAD) -> LookaheadEmbeddings:
    """The training-free fallback for any model: the mean input embedding, labelled untrained."""
    return mean_embedding(
        model.input_embedding.weight, count, base_model=model.name, base_fingerprint=model.fingerprint
    )
