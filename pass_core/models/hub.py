"""Models from the Hugging Face hub: what is cached already, and downloads in a child process that can be stopped.

Run as `python -m pass_core.models.hub REPO`. Partial files stay in the hub's own cache, where the next try resumes.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from pass_core.models import children
from pass_core.models.errors import ModelError, ModelGated, ModelNotFound, ModelOffline, ModelUnsupported
from pass_core.models.storage import require_space
from pass_core.progress import CancelToken, ProgressCallback

_CONFIG_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
_WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def weights_complete(folder: Path) -> bool:
    """Whether a transformers folder has all of its weight files."""
    for name in _WEIGHT_INDEXES:
        index = folder / name
        if index.is_file():
            try:
                shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, OSError):
                return False
            return all((folder / shard).is_file() for shard in shards)
    return any((folder / name).is_file() for name in _WEIGHTS)


def cached_snapshot(repo: str) -> Path | None:
    """The hub cache's folder of a repository when it holds config and all weights; asks no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, "config.json")
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    return folder if weights_complete(folder) else None


def download_snapshot(repo: str, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> Path:
    """Download config, tokenizer and weights.

    Raises:
        Cancelled, ModelNotFound, ModelGated, ModelOffline, ModelUnsupported, NoDiskSpace, ModelError.
    """
    return Path(children.run_job("pass_core.models.hub", [repo], progress, cancel))


def _wanted(names: list[str], repo: str) -> list[str]:
    """File patterns of what transformers loads: safetensors where there are any, otherwise PyTorch's own."""
    top = [n for n in names if "/" not in n]
    if "config.json" not in top:
        if any(n.endswith(".gguf") for n in names):
            raise ModelUnsupported(f"{repo} holds GGUF files only. Download one of them and give its path.")
        raise ModelUnsupported(f"{repo} holds no transformers model (no config.json). Choose another repository.")
    for kind in (".safetensors", ".bin"):
        weights = [n for n in top if n.endswith(kind) and n.startswith(("model", "pytorch_model"))]
        if weights:
            return [*_CONFIG_FILES, *weights]
    raise ModelUnsupported(f"{repo} holds no weights that transformers can read. Choose another repository.")


def _download(repo: str) -> str:
    from huggingface_hub import HfApi, constants, snapshot_download

    stage = f"Downloading {repo}"
    children.say(stage=stage, done=0, total=None, unit="B")
    files = HfApi().model_info(repo, files_metadata=True).siblings or []
    patterns = _wanted([f.rfilename for f in files], repo)
    sizes = {f.rfilename: f.size or 0 for f in files if "/" not in f.rfilename}
    total = sum(size for name, size in sizes.items() if any(Path(name).match(p) for p in patterns))
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    require_space(cache, total, f"Downloading {repo}")

    folder = snapshot_download(
        repo, allow_patterns=patterns, ignore_patterns=["*/*"], tqdm_class=byte_bar(stage, total)
    )
    children.say(stage=stage, done=total, total=total, unit="B")  # also for files that another try had left
    return folder


def byte_bar(stage: str, total: int) -> type[Any]:
    """A bar for the hub's downloads that tells the parent the bytes written, instead of drawing itself."""
    from tqdm.auto import tqdm

    counting = threading.Lock()

    class Bar(tqdm):  # pyright: ignore[reportUntypedBaseClass]
        """Files arrive side by side, each in a thread of the hub's."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            self._bytes = kwargs.get("unit") == "B" and "Downloading" not in str(kwargs.get("desc"))
            super().__init__(*args, **(kwargs | {"disable": True}))
            self._done = 0.0

        def update(self, n: float | None = 1) -> bool | None:
            with counting:
                self._done += n or 0
                if self._bytes:
                    children.say(stage=stage, done=min(self._done, total), total=total, unit="B")
            return None

    return Bar


def _is_transport_error(error: BaseException) -> bool:
    """Whether it comes from the hub's HTTP library (another one in every major version)."""
    return any(k.__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "requests") for k in type(error).__mro__)


def fail(error: BaseException, repo: str, instead: str) -> NoReturn:
    """Tell the parent what went wrong with a repository, and leave (the child's side).

    Args:
        instead: what can be done without the hub, such as "use the default model".
    """
    from huggingface_hub import errors

    if isinstance(error, ModelError):
        children.fail(error)
    if isinstance(error, errors.GatedRepoError):
        children.fail(
            ModelGated(
                f"{repo} is gated. Accept its licence at https://huggingface.co/{repo} and log in with “hf auth login”."
            )
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        children.fail(
            ModelNotFound(
                f"There is no model {repo} on the hub, or it is private. Check the name, or log in (“hf auth login”)."
            )
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.HfHubHTTPError) and status in (401, 403):
        children.fail(
            ModelGated(f"The hub does not let you use {repo} (status {status}). Log in with “hf auth login”.")
        )
    offline = (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError)
    if not isinstance(error, offline) and not _is_transport_error(error):
        children.fail(error)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    children.fail(
        ModelOffline(
            f"{repo} is not on this machine, and the hub cannot be reached ({reason}). "
            f"Check the network (HF_ENDPOINT, HF_HUB_OFFLINE, proxy), or {instead}."
        )
    )


def _main(repo: str) -> None:
    children.leave_with_parent()
    try:
        folder = _download(repo)
    except Exception as error:
        fail(error, repo, "use the default model")
    children.say(result=folder)


if __name__ == "__main__":
    _main(sys.argv[1])
