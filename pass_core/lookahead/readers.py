"""The kinds of file that hold tensors: each shows names, shapes and dtypes first, and reads a tensor when asked.

Nothing here runs code of a file: safetensors and NumPy headers are data, and torch's own `weights_only` unpickler reads
PyTorch files, with their storages mapped, not read. The size of the file bounds a reader's work, not the sizes that the
file speaks of: compressed members are refused, or read only as far as their checked header says.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open

from pass_core.lookahead.errors import FileNotFound, LookaheadError, NotALookaheadFile, TooLarge, TruncatedFile

SUFFIXES = (".safetensors", ".pt", ".pth", ".npy", ".npz")
LARGEST_HEADER = 8_000_000  # bytes; of 10,000 tensors about one
LARGEST_PICKLE = 4_000_000  # bytes; torch's safe unpickler is slow
LARGEST_BYTES = 4_000_000_000  # of all tensors that are read

_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}


@dataclass(frozen=True)
class Stored:
    """One tensor as its file's header describes it.

    Attributes:
        dtype: torch's name of it without “torch.”; the file's own word where torch has none.
        read: reads the values; may raise anything that a damaged file provokes.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], torch.Tensor]

    @property
    def floating(self) -> bool:
        """Whether embeddings may have this dtype."""
        return self.dtype in _SIZES

    @property
    def bytes(self) -> int:
        """Size of the values in memory."""
        return math.prod(self.shape) * _SIZES.get(self.dtype, 8)


@dataclass(frozen=True)
class Content:
    """What a file says that it holds."""

    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@contextmanager
def opened(path: Path) -> Generator[Content]:
    """The headers of a file of any kind; its tensors can be read until the end of the `with`.

    Raises:
        LookaheadError: there is no such file, it is of another kind, or its header is damaged.
    """
    suffix = path.suffix.lower()
    _require_file(path, suffix)
    if suffix == ".safetensors":
        with _safetensors(path) as content:
            yield content
    elif suffix == ".npz":
        with _npz(path) as content:
            yield content
    elif suffix == ".npy":
        with path.open("rb") as file:
            yield Content({"lookahead": _array(path, "lookahead", file)})
    else:
        yield _torch(path)


def read(path: Path, name: str, tensor: Stored) -> torch.Tensor:
    """The values of one tensor.

    Raises:
        TruncatedFile: they cannot be read.
    """
    try:
        return tensor.read()
    except Exception as error:  # any reader's error means that the file is not whole
        raise _damaged(path, f"“{name}”: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """An error's first line, or its kind where it says nothing."""
    return str(error).splitlines()[0][:200] if str(error).strip() else type(error).__name__


def _require_file(path: Path, suffix: str) -> None:
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or no name at all
        exists = False
    if not exists:
        raise FileNotFound(f"There is no file {path}. Choose an existing {', '.join(SUFFIXES)} file.")
    if suffix not in SUFFIXES:
        raise NotALookaheadFile(
            f"{path.name} is not a look-ahead file: expected one of {', '.join(SUFFIXES)}, "
            f"got “{path.suffix or 'no suffix'}”."
        )
    try:
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise FileNotFound(f"{path} cannot be opened: {error.strerror or error}. Mend its permissions.") from error
    if size == 0:
        raise TruncatedFile(f"{path.name} is empty. Download or copy it again.")


def _damaged(path: Path, why: str) -> TruncatedFile:
    return TruncatedFile(f"{path.name} is damaged or cut short ({why}). Download or copy it again.")


# --- safetensors


@contextmanager
def _safetensors(path: Path) -> Generator[Content]:
    with path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
    if LARGEST_HEADER < length <= path.stat().st_size:
        raise TooLarge(f"{path.name} has a header of {length / 1e6:.0f} MB, which no look-ahead file has.")
    try:
        file: Any = safe_open(path, framework="pt").__enter__()
    except Exception as error:  # SafetensorError, OSError, and others of other versions
        raise TruncatedFile(
            f"{path.name} is damaged, cut short or no safetensors file ({first_line(error)}). "
            "Download or copy it again."
        ) from error
    try:
        yield _safetensors_content(path, file)
    finally:
        file.__exit__(None, None, None)


def _safetensors_content(path: Path, file: Any) -> Content:
    tensors: dict[str, Stored] = {}
    try:
        for name in file.keys():  # noqa: SIM118
            slice_ = file.get_slice(name)
            dtype = str(slice_.get_dtype())
            shape = tuple(int(n) for n in slice_.get_shape())
            tensors[name] = Stored(shape, _SAFETENSORS.get(dtype, dtype), lambda n=name: file.get_tensor(n))
        metadata: dict[str, str] = dict(file.metadata() or {})
    except Exception as error:  # as above
        raise _damaged(path, first_line(error)) from error
    return Content(tensors, metadata)


# --- PyTorch


def _torch(path: Path) -> Content:
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
    if archive:
        _check_archive(path)
    elif path.stat().st_size > LARGEST_BYTES:
        raise TooLarge(f"{path.name} has {path.stat().st_size / 1e9:.0f} GB, which no look-ahead file has.")
    try:
        raw: Any = torch.load(str(path), map_location="cpu", weights_only=True, mmap=archive)
    except (RuntimeError, EOFError) as error:  # a broken archive
        raise TruncatedFile(
            f"{path.name} is damaged, cut short or no PyTorch file ({first_line(error)}). Download or copy it again."
        ) from error
    except Exception as error:  # unpickling raises many kinds, all meaning that the file cannot be read safely
        raise NotALookaheadFile(
            f"{path.name} could not be read as plain tensors (files that carry code are refused): "
            f"{first_line(error)}. Save the tensor alone with torch.save(tensor, file)."
        ) from error
    if isinstance(raw, torch.Tensor):
        return Content({"lookahead": _stored(path, "lookahead", raw)})
    if not isinstance(raw, dict):
        raise NotALookaheadFile(
            f"{path.name} holds a {type(raw).__name__}, not a tensor. Save a tensor of [L, hidden]."
        )
    tensors = {str(k): _stored(path, str(k), v) for k, v in raw.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise NotALookaheadFile(
            f"{path.name} holds a dictionary without a tensor at its top level. Save a tensor of [L, hidden]."
        )
    return Content(tensors)


def _stored(path: Path, name: str, tensor: torch.Tensor) -> Stored:
    """
    Raises:
        NotALookaheadFile: it is a tensor of a kind that holds no plain values.
    """
    kind = (
        "nested"
        if tensor.is_nested
        else "sparse"
        if tensor.layout is not torch.strided
        else "meta (without values)"
        if tensor.is_meta
        else ""
    )
    if kind:
        raise NotALookaheadFile(
            f"{path.name}: “{name}” is a {kind} tensor. Save a plain one: torch.save(tensor.to_dense(), file)."
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Stored(tuple(tensor.shape), dtype, lambda: tensor.detach().clone(memory_format=torch.contiguous_format))


def _check_archive(path: Path) -> None:
    """torch unpacks compressed members into memory before anybody knows how large they are; it writes none itself."""
    with _archive(path) as archive:
        members = archive.infolist()
    if any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise TooLarge(f"{path.name} is compressed inside, as torch.save never does. Save it with torch.save.")
    if any(m.file_size > LARGEST_PICKLE for m in members if m.filename.endswith(".pkl")):
        raise TooLarge(f"{path.name} has a table of contents of several MB, which no look-ahead file has.")
    if any(m.filename.endswith("/constants.pkl") for m in members):
        raise NotALookaheadFile(f"{path.name} is a TorchScript program. Save a tensor with torch.save(tensor, file).")


# --- NumPy


@contextmanager
def _archive(path: Path) -> Generator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises OSError, ValueError, NotImplementedError … besides its own
        raise _damaged(path, first_line(error)) from error
    with archive:
        yield archive


@contextmanager
def _npz(path: Path) -> Generator[Content]:
    with _archive(path) as archive:
        names = archive.namelist()
        other = next((n for n in names if not n.endswith(".npy")), None)
        if other is not None or not names:
            raise NotALookaheadFile(
                f"{path.name} holds “{other}”, which is no array. Save the array alone with numpy.savez."
                if other is not None
                else f"{path.name} holds no array."
            )
        tensors: dict[str, Stored] = {}
        for name in names:
            key = name.removesuffix(".npy")
            try:
                with archive.open(name) as member:
                    header = _array(path, key, member)
            except LookaheadError:
                raise
            except Exception as error:  # an encrypted member, an unknown compression …
                raise _damaged(path, f"“{name}”: {first_line(error)}") from error
            tensors[key] = Stored(header.shape, header.dtype, lambda n=name, k=key: _member(path, archive, n, k))
        yield Content(tensors)


def _member(path: Path, archive: zipfile.ZipFile, name: str, key: str) -> torch.Tensor:
    with archive.open(name) as member:
        return _array(path, key, member).read()


def _array(path: Path, name: str, file: IO[bytes]) -> Stored:
    """The array that begins here: its header is read now, its values later.

    Raises:
        NotALookaheadFile, TruncatedFile: it is no array, or one of Python objects.
    """
    import numpy as np
    from numpy.lib import format as npy

    try:
        magic = file.read(len(npy.MAGIC_PREFIX) + 2)
        if not magic.startswith(npy.MAGIC_PREFIX):
            if magic.startswith(b"\x80"):
                raise _carries_code(path)
            raise ValueError("no NumPy header")
        reader = npy.read_array_header_1_0 if magic[-2] == 1 else npy.read_array_header_2_0
        if magic[-2] not in (1, 2, 3):
            raise ValueError(f"unknown version {magic[-2]} of NumPy's format")
        shape, fortran, dtype = reader(file)
        if dtype.hasobject:
            raise _carries_code(path)
    except LookaheadError:
        raise
    except Exception as error:  # the header is Python source of a dictionary: parsing it may fail in many ways
        raise TruncatedFile(
            f"{path.name} is damaged, cut short or no NumPy file ({first_line(error)}). Download or copy it again."
        ) from error
    plain = np.issubdtype(dtype, np.floating) and dtype.shape == ()
    known = plain and dtype.itemsize <= 8 and dtype.itemsize > 1
    word = str(dtype.newbyteorder("=")) if known else "float32" if plain else str(dtype)

    def values() -> torch.Tensor:
        count = math.prod(shape)
        data = file.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"{len(data)} bytes of values instead of {count * dtype.itemsize}")
        array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(np.array(array, dtype=np.dtype(word), order="C"))

    return Stored(tuple(int(n) for n in shape), word, values)


def _carries_code(path: Path) -> NotALookaheadFile:
    return NotALookaheadFile(
        f"{path.name} holds Python objects, or is no NumPy file; files that can carry code are refused. "
        "Save the array alone with numpy.save."
    )
