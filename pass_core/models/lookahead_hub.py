"""Look-ahead files by their names on the Hugging Face hub: `hf:user/name` or `hf:user/name/file.safetensors`.

A child process (`pass_core.models.lookahead_download`) looks at a file on the hub and downloads it into the hub's own
cache. A file that is there is used without the network.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pass_core.lookahead.embeddings import FORMAT, LookaheadEmbeddings
from pass_core.lookahead.format import load_lookahead
from pass_core.lookahead.readers import LARGEST_BYTES
from pass_core.models import children
from pass_core.models.errors import ModelOffline
from pass_core.models.hub_names import SUFFIX, HubName, is_hub_name, parse_hub_name
from pass_core.models.language_model import LanguageModel
from pass_core.models.lookahead_download import Wanted
from pass_core.progress import CancelToken, ProgressCallback


def load_named(
    text: str,
    model: LanguageModel | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> LookaheadEmbeddings:
    """A look-ahead file by its path or by its name on the hub, which is its `origin`.

    Args:
        model: that it must fit where it comes from the hub; it is asked before the download.

    Raises:
        LookaheadError: as `load_lookahead`, or it is for another model.
        ModelError, Cancelled: as `fetch_lookahead`.
    """
    if not is_hub_name(text):
        return load_lookahead(Path(text).expanduser())
    named = parse_hub_name(text)
    path = fetch_lookahead(named, model.fingerprint if model is not None else "", progress, cancel)
    loaded = replace(load_lookahead(path), origin=str(replace(named, file=named.file or path.name)))
    if model is not None:
        loaded.check(model)
    return loaded


def cached_lookahead(named: HubName) -> Path | None:
    """The file where the hub's cache has it; asks no network."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    if named.file:
        found = try_to_load_from_cache(named.repo, named.file)
        return Path(found) if isinstance(found, str) else None
    try:
        folder = Path(snapshot_download(named.repo, allow_patterns=["*" + SUFFIX], local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    files = sorted(folder.rglob("*" + SUFFIX))
    return files[0] if len(files) == 1 else None


def fetch_lookahead(
    named: HubName, fingerprint: str = "", progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> Path:
    """The file, from the hub's cache or downloaded. A name without a file asks the hub which one it is, and does with
    the cached one while the hub cannot be reached.

    Args:
        fingerprint: of the model that it must have been trained for; "" for any.

    Raises:
        Cancelled; ModelNotFound, ModelGated, ModelOffline: the repository or the file cannot be had.
        ModelTooLarge, ModelUnsupported: refused before the download.
        ModelDamaged: what arrived is not what the hub lists. NoDiskSpace, ModelError.
    """
    kept = cached_lookahead(named)
    if kept is not None and named.file:
        return kept
    try:
        wanted = Wanted(named.repo, named.file, fingerprint, FORMAT, LARGEST_BYTES)
        return Path(children.run_job("pass_core.models.lookahead_download", [wanted.to_json()], progress, cancel))
    except ModelOffline:
        if kept is None:
            raise
        return kept
