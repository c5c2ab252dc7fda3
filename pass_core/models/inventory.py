"""What models are on this machine, what is known besides, and taking one away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pass_core.models import storage
from pass_core.models.catalog import find, known_models, resource_folder
from pass_core.models.children import files_in
from pass_core.models.errors import ModelError
from pass_core.models.fetch import cached
from pass_core.models.hub import cached_snapshot


class Kind(StrEnum):
    """Where an entry's files are kept."""

    KNOWN = "known"  # a model of the catalog
    GGUF = "gguf"  # converted from a GGUF file of the user's
    HUB = "hub"  # in the Hugging Face cache, which other programs use, too


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model.

    Attributes:
        source: what `load_model` takes.
        name: what a person calls it.
        license, note: "" where nobody knows.
        parameters, download_bytes: None where nobody knows before it is here.
        folder: its files, None while it is not on this machine.
        disk_bytes: of all of them.
        weight_bytes: of its weights alone, as they would be in memory.
        gated: the hub asks for a login.
    """

    kind: Kind
    source: str
    name: str
    license: str = ""
    note: str = ""
    parameters: int | None = None
    download_bytes: int | None = None
    folder: Path | None = None
    disk_bytes: int = 0
    weight_bytes: int = 0
    gated: bool = False


def inventory() -> list[ModelEntry]:
    """The catalog's models (with their folders where they are here), converted GGUF files, and what the hub's cache
    holds whole."""
    entries: list[ModelEntry] = []
    for known in known_models():
        folder = cached(known.id)
        entries.append(
            ModelEntry(
                Kind.KNOWN,
                known.id,
                known.name,
                known.license,
                known.note,
                known.parameters,
                known.bytes,
                folder,
                *_sizes(folder),
                known.gated,
            )
        )
    return [*entries, *_converted(), *_from_hub({known.hub.lower() for known in known_models()})]


def _converted() -> Iterator[ModelEntry]:
    for folder in sorted(storage.models_folder().glob("gguf-*")):
        receipt = storage.read_receipt(folder)
        if receipt is not None:
            yield ModelEntry(
                Kind.GGUF,
                str(receipt["origin"]),
                str(receipt["name"]),
                "",
                "Converted from a GGUF file.",
                None,
                None,
                folder,
                *_sizes(folder),
            )


def _from_hub(known: set[str]) -> Iterator[ModelEntry]:
    for repo in _hub_cache():
        folder = cached_snapshot(repo.repo_id)
        if repo.repo_type == "model" and repo.repo_id.lower() not in known and folder is not None:
            weights = _sizes(folder)[1]
            note = "In the Hugging Face cache, which other programs use, too."
            yield ModelEntry(
                Kind.HUB, repo.repo_id, repo.repo_id, "", note, None, None, folder, repo.size_on_disk, weights
            )


def delete(entry: ModelEntry) -> None:
    """Take a model's files away; the next use gets them again. A GGUF file that somebody made it from stays.

    Raises:
        ModelError: it is not on this machine, or its files cannot be removed.
    """
    if entry.folder is None:
        raise ModelError(f"{entry.name} is not on this machine.")
    try:
        known = find(entry.source) if entry.kind is Kind.KNOWN else None
        if entry.kind is Kind.HUB or (known is not None and known.gguf is None):
            _delete_from_hub(known.hub if known is not None else entry.source)
        else:
            storage.remove(entry.folder.name)
    except OSError as error:
        raise ModelError(f"{entry.name} cannot be deleted ({error.strerror or error}). Check the folder.") from error
    if entry.folder.exists():
        raise ModelError(f"Some files of {entry.name} could not be removed from {entry.folder}. Remove them by hand.")


def lookahead_files(name: str, folders: Iterable[Path] = ()) -> list[Path]:
    """Look-ahead files that name a model of this name as theirs: shipped ones, and those in `folders`.

    Whether a file fits is known when both are loaded: it then names the weights themselves.
    """
    from safetensors import SafetensorError, safe_open

    found: list[Path] = []
    for folder in (resource_folder("embeddings"), *folders):
        for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
            try:
                with safe_open(str(path), framework="pt") as file:
                    metadata: dict[str, str] = file.metadata() or {}
            except (OSError, SafetensorError):
                continue
            if metadata.get("base_model", "").lower() == name.lower():
                found.append(path)
    return found


def _sizes(folder: Path | None) -> tuple[int, int]:
    """Bytes of all files, and of the weights among them."""
    if folder is None:
        return 0, 0
    weights = [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    return sum(files_in(folder)), sum(path.stat().st_size for path in weights)


def _hub_cache() -> list[_Repo]:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return [_Repo(r.repo_id, r.repo_type, r.size_on_disk) for r in scan_cache_dir().repos]
    except (CacheNotFound, ValueError, OSError):
        return []


@dataclass(frozen=True, slots=True)
class _Repo:
    repo_id: str
    repo_type: str
    size_on_disk: int


def _delete_from_hub(repo_id: str) -> None:
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir()
    for repo in cache.repos:
        if repo.repo_type == "model" and repo.repo_id.lower() == repo_id.lower():
            cache.delete_revisions(*(revision.commit_hash for revision in repo.revisions)).execute()
