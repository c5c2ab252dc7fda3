"""Where models live on this machine: the cache folder, locks between processes, folders published whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from pass_core.files import CACHE_VARIABLE, cache_folder, is_full
from pass_core.models.errors import ModelError, NoDiskSpace
from pass_core.progress import CancelToken, Progress, ProgressCallback

GGUF_KEPT = "model.gguf"  # what a downloaded model was converted from; a person's own file stays where it is
RECEIPT = "pass_playground.json"  # written last into every folder that is made here
_PARTIAL = ".partial"
_ORPHAN_SECONDS = 24 * 3600.0


def models_folder() -> Path:
    """Where converted models are kept, one folder each."""
    return cache_folder() / "models"


def read_receipt(folder: Path) -> dict[str, Any] | None:
    """The receipt of a folder that was published here, None when the folder is missing or not whole.

    The receipt lists each file's size, so that a file cut short by a full disk or a stray hand is noticed without
    reading it.
    """
    try:
        receipt: dict[str, Any] = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in receipt["files"].items())
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    return receipt if whole else None


@contextlib.contextmanager
def locked(name: str, progress: ProgressCallback | None = None, cancel: CancelToken | None = None) -> Generator[None]:
    """Hold the lock of one cache entry against other processes and threads.

    The operating system drops the lock with its process, so a crash never leaves it behind.

    Raises:
        Cancelled: while waiting.
        ModelError: the cache folder cannot be written.
    """
    folder = models_folder() / ".locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock", thread_local=False)
        waited = False
        while True:
            try:
                lock.acquire(timeout=0.2)
                break
            except Timeout:
                if cancel is not None:
                    cancel.raise_if_cancelled()
                if not waited and progress is not None:
                    progress(Progress("Waiting for another window that is getting the same model", 0))
                waited = True
    except OSError as error:
        raise ModelError(_unwritable(folder, error)) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def staging(name: str) -> Generator[Path]:
    """A fresh folder beside the target `models/name`; it is gone afterwards unless `publish` moved it. Hold the lock.

    Leftovers of processes that died are removed first.

    Raises:
        ModelError: the cache folder cannot be written. NoDiskSpace: the disk became full in the block.
    """
    parent = models_folder()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent, name)
        folder = parent / f".{name}.{os.getpid()}{_PARTIAL}"
        folder.mkdir()
    except OSError as error:
        raise ModelError(_unwritable(parent, error)) from error
    try:
        yield folder
    except OSError as error:
        if not is_full(error):
            raise
        raise full_disk(parent) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, name: str, receipt: dict[str, Any]) -> Path:
    """Move a finished folder to `models/name` in one rename; an older or broken one there gives way."""
    files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    (folder / RECEIPT).write_text(json.dumps(receipt | {"files": files}, indent=1), encoding="utf-8")
    target = models_folder() / name
    if target.exists():
        old = models_folder() / f".{name}.old.{os.getpid()}{_PARTIAL}"
        os.replace(target, old)
        shutil.rmtree(old, ignore_errors=True)
    os.replace(folder, target)
    return target


def full_disk(folder: Path) -> NoDiskSpace:
    """The disk became full while something was written below `folder`."""
    return NoDiskSpace(
        f"The disk of {folder} is full. Make room, or set {CACHE_VARIABLE} to a folder on another disk, and try again."
    )


def remove(name: str) -> None:
    """Delete the cache entry, so that the next use gets it again."""
    with locked(name):
        shutil.rmtree(models_folder() / name, ignore_errors=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raises:
    NoDiskSpace: fewer than `needed` bytes are free where `folder` is.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoDiskSpace(
            f"{what} needs {needed / 1e9:.1f} GB on the disk of {folder}, and {free / 1e9:.1f} GB are free. "
            f"Make room, or set {CACHE_VARIABLE} to a folder on another disk."
        )


def _sweep(parent: Path, name: str) -> None:
    """Remove partial folders of this entry (its lock is held, so nobody works there) and of processes long dead."""
    for path in parent.glob(f".*{_PARTIAL}"):
        owner = path.name.removesuffix(_PARTIAL).rpartition(".")[2]
        ours = path.name.startswith(f".{name}.")
        try:
            aged = time.time() - path.stat().st_mtime > _ORPHAN_SECONDS
        except OSError:
            continue  # its owner has just finished
        if ours or (aged and owner.isdigit() and not psutil.pid_exists(int(owner))):
            shutil.rmtree(path, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> str:
    return (
        f"The cache folder {folder} cannot be written ({error.strerror or error}). "
        f"Mend its permissions, or set {CACHE_VARIABLE} to another folder."
    )
