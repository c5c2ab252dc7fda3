"""Files as this program writes them: whole or not at all, and the folder for what can be made again.

A write goes to a temporary neighbour first, is flushed to the disk, and takes its name in one rename. So a full disk
or a killed process leaves the older file as it was. The temporary file of a killed process goes at the next write into
that folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import os
import platform
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import platformdirs
import psutil

CACHE_VARIABLE = "PASS_PLAYGROUND_CACHE"

Content = bytes | str | Callable[[BinaryIO], object]

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_HOST = hashlib.sha256(platform.node().encode(errors="replace")).hexdigest()[:8]
_TEMPORARY = re.compile(r"\.pass-([0-9a-f]{8})-(\d+)-\d+\.tmp")
_numbers = itertools.count()


class WriteError(OSError):
    """A file could not be written; the message says which, why, and what to do. Nothing half-made is left."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(cause.errno, _sentence(path, cause))

    def __str__(self) -> str:
        return str(self.strerror)


def cache_folder() -> Path:
    """The user's cache folder of this program (`PASS_PLAYGROUND_CACHE` overrides the system's place)."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else platformdirs.user_cache_path("pass-playground", appauthor=False)


def write_atomically(path: str | Path, content: Content, *, private: bool = False, durable: bool = True) -> None:
    """Replace the file `path` by `content` in one step; its folder is made where it is missing.

    Args:
        path: a link is followed; a device such as /dev/stdout is written directly.
        content: bytes, text (written as UTF-8, with U+FFFD for lone surrogates), or a function that writes to the file
            that it is given.
        private: whether only the user may read the file (mode 0600).
        durable: whether the content must be on the disk when this returns (fsync of file and folder).

    Raises:
        WriteError: the older file, if any, is unchanged.
    """
    path = Path(os.path.expanduser(path))
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb") as device:
                _write(device, content)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        temporary = _temporary_in(target.parent)
        try:
            with _create(temporary, private) as f:
                _write(f, content)
                if durable:
                    os.fsync(f.fileno())
            os.replace(temporary, target)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if durable:
            _flush_folder(target.parent)
    except OSError as error:
        raise WriteError(path, error) from error


def keep(path: Path, data: bytes) -> None:
    """Write a file that can be made again: a full or read-only disk only means making it again."""
    with contextlib.suppress(OSError):
        write_atomically(path, data, durable=False)


def append_whole(path: Path, file: io.FileIO, data: bytes) -> None:
    """Add bytes at the end of an unbuffered file; they are all on the disk when this returns, or the file is as before.

    Args:
        path: the file's, for the message.

    Raises:
        WriteError: nothing was added.
    """
    start = file.seek(0, os.SEEK_END)
    try:
        left = memoryview(data)
        while left:
            left = left[file.write(left) or 0 :]
        os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            file.truncate(start)
        raise WriteError(path, error) from error


def is_full(error: OSError) -> bool:
    """Whether the disk, or what this user may have of it, was full."""
    return error.errno in _FULL


def require_writable(path: str | Path, size: int = 1) -> None:
    """Find out, before the work whose result goes to `path`, that `size` bytes can be written there.

    Nothing is left behind: no file, and no folder that `write_atomically` would make.

    Raises:
        WriteError: the same sentence as the write would give.
    """
    path = Path(os.path.expanduser(path))
    try:
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if target.exists() and not target.is_file():
            os.close(os.open(target, os.O_WRONLY))
            return
        if len(os.fsencode(target.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        folder = next(p for p in target.parents if p.exists())
        temporary = _temporary_in(folder)
        with _create(temporary, private=True) as f:
            try:
                f.write(bytes(size))
                f.flush()
            finally:
                temporary.unlink()
    except OSError as error:
        raise WriteError(path, error) from error


def make_private(path: Path) -> None:
    """Let only the user read a file that another library made (mode 0600), where the system has such modes."""
    with contextlib.suppress(OSError):
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)


class _Noting(io.RawIOBase):
    """Remembers the error of the file below it: some libraries hide it behind one of their own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def write(self, data: Any, /) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise


def _write(file: BinaryIO, content: Content) -> None:
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    if isinstance(content, bytes):
        file.write(content)
    else:
        noting = _Noting(file)
        try:
            content(cast(BinaryIO, noting))
        except Exception as error:
            if noting.error is not None and error is not noting.error:
                raise noting.error from error
            raise
    file.flush()


def _create(path: Path, private: bool) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(path, flags, 0o600 if private else 0o666), "wb")


def _temporary_in(folder: Path) -> Path:
    return folder / f".pass-{_HOST}-{os.getpid()}-{next(_numbers)}.tmp"


def _sweep(folder: Path) -> None:
    """Remove the temporary files of this machine's processes that are gone."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            found = _TEMPORARY.fullmatch(name)
            if found and found[1] == _HOST and not psutil.pid_exists(int(found[2])):
                (folder / name).unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename durable; not every system can, and then there is nothing to be done."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sentence(path: Path, cause: OSError) -> str:
    if isinstance(cause, WriteError):
        return str(cause)
    if is_full(cause):
        return f"{path} was not written: the disk is full. Make room there, or choose another folder."
    if cause.errno == errno.EISDIR:
        return f"{path} is a folder. Give the name of a file."
    if cause.errno == errno.ENAMETOOLONG:
        return f"{path.name[:40]}… was not written: the name is too long. Choose a shorter one."
    reason = (cause.strerror or str(cause)).lower()
    return f"{path} cannot be written ({reason}). Choose a folder that you may write to."
