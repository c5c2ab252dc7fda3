"""Downloads one look-ahead file from the Hugging Face hub; a child process, which imports no torch.

Before anything large arrives, the hub tells the file's size and its safetensors header: what is no look-ahead file, too
large, or trained for another model is refused there. What arrived is compared with the hash that the hub lists.

Run as `python -m pass_core.models.lookahead_download WANTED`, a JSON object (`Wanted`).
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pass_core.models import children, hub
from pass_core.models.errors import ModelDamaged, ModelNotFound, ModelTooLarge, ModelUnsupported
from pass_core.models.hub_names import SUFFIX, HubName
from pass_core.models.storage import require_space


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the parent wants.

    Attributes:
        repo, file: as in `HubName`.
        fingerprint: of the model that it must have been trained for; "" for any.
        format: what its metadata must say that it is.
        largest: bytes that it may have.
    """

    repo: str
    file: str
    fingerprint: str
    format: str
    largest: int

    def to_json(self) -> str:
        """For the child's command line."""
        return json.dumps(asdict(self))


def _download(wanted: Wanted) -> str:
    from huggingface_hub import HfApi, constants, snapshot_download

    named = HubName(wanted.repo, wanted.file)
    stage = f"Downloading {named}"
    children.say(stage=stage, done=0, total=None, unit="B")
    api = HfApi()
    info = api.model_info(named.repo, files_metadata=True)
    sibling = _chosen(named, info.siblings or [])
    named = replace(named, file=sibling.rfilename)
    size = sibling.size or 0
    if size > wanted.largest:
        raise ModelTooLarge(
            f"{named} has {size / 1e9:.1f} GB; a look-ahead file has at most {wanted.largest / 1e9:.0f} GB. "
            "Choose another file."
        )
    _check_header(named, api.parse_safetensors_file_metadata(named.repo, named.file).metadata, wanted)
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    require_space(cache, size, f"Downloading {named}")
    pattern = re.sub(r"([*?\[])", r"[\1]", named.file)
    folder = Path(snapshot_download(named.repo, allow_patterns=[pattern], tqdm_class=hub.byte_bar(stage, size)))
    path = folder / named.file
    _check_content(named, path, sibling)
    children.say(stage=stage, done=size, total=size, unit="B")
    return str(path)


def _chosen(named: HubName, siblings: list[Any]) -> Any:
    """The file that is named, or the only one that it can be."""
    files = [s for s in siblings if s.rfilename.endswith(SUFFIX)]
    wanted = [s for s in files if named.file in ("", s.rfilename)]
    if len(wanted) == 1:
        return wanted[0]
    names = ", ".join(s.rfilename for s in files[:10]) or f"no {SUFFIX} file at all"
    if named.file:
        raise ModelNotFound(f"{named.repo} has no {named.file} on the hub. It has: {names}.")
    raise ModelNotFound(f"{named.repo} does not say which look-ahead file is meant. It has: {names}. Name one of them.")


def _check_header(named: HubName, metadata: dict[str, str], wanted: Wanted) -> None:
    if metadata.get("format") != wanted.format:
        raise ModelUnsupported(f"{named} is no look-ahead file of this program. Choose another file.")
    base = metadata.get("base_fingerprint", "")
    if wanted.fingerprint and base and base != wanted.fingerprint:
        raise ModelUnsupported(
            f"{named} was trained for {metadata.get('base_model') or 'another model'}, not for the weights that are "
            "loaded. Load that model, or choose another file."
        )


def _check_content(named: HubName, path: Path, sibling: Any) -> None:
    """Compare what arrived with the hash that the hub lists: SHA-256 of a large file, git's own of a small one."""
    blob = path.resolve()
    if sibling.lfs is not None:
        digest, expected = hashlib.sha256(), sibling.lfs.sha256
    else:
        digest, expected = hashlib.sha1(f"blob {blob.stat().st_size}\0".encode()), sibling.blob_id
    with blob.open("rb") as file:
        hashlib.file_digest(file, lambda: digest)
    if digest.hexdigest() != expected:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise ModelDamaged(f"{named} arrived damaged: its hash is not the one that the hub lists. Download it again.")


def _main(wanted: Wanted) -> None:
    children.leave_with_parent()
    try:
        path = _download(wanted)
    except Exception as error:
        hub.fail(error, wanted.repo, "use a file on this machine")
    children.say(result=path)


if __name__ == "__main__":
    _main(Wanted(**json.loads(sys.argv[1])))
