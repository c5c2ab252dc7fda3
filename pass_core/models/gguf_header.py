"""The header of a GGUF file, read strictly: nothing it says about sizes is believed before the file has the bytes.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The `gguf` package trusts the counts in a file, and
a file of 100 bytes can make it loop for ever.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pass_core.models.errors import ModelDamaged

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 65_535


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor's entry; `shape` is in the order of numpy and torch (GGUF writes it reversed).

    Attributes:
        offset: where its bytes begin in the file.
        nbytes: how many they are.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int = 0
    nbytes: int = 0

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata (scalars, strings, lists) and tensors of a file.

    Attributes:
        name: the file's name, for messages.
    """

    name: str
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def of_model(self, key: str, default: Any = None) -> Any:
        """The value of `<architecture>.<key>`."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


def read_header(path: Path) -> GgufHeader:
    """Read a GGUF file's header and check that the file has every byte that it speaks of.

    Raises:
        ModelDamaged: it is no GGUF file, is cut short, or lies about its sizes.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(path.name, data)
    except ValueError as error:  # also mmap's, for an empty file
        raise ModelDamaged(
            f"{path.name} cannot be read as GGUF ({error}). It is cut short or damaged: download it again."
        ) from error
    except OSError as error:
        raise ModelDamaged(f"{path} cannot be read ({error.strerror or error}).") from error


def metadata_bytes(path: Path) -> tuple[int, list[tuple[str, bytes]]]:
    """The format's version and every metadata field as the file has it, in order, of a file that `read_header` took."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data)
        cursor.take(4)
        version, _, count = cursor.scalar("I"), cursor.scalar("Q"), cursor.scalar("Q")
        fields: list[tuple[str, bytes]] = []
        for _ in range(count):
            start = cursor.at
            key = cursor.string()
            cursor.value(cursor.scalar("I"))
            fields.append((key, data[start : cursor.at]))
        return version, fields


def _parse(name: str, data: mmap.mmap) -> GgufHeader:
    cursor = _Cursor(data)
    if cursor.take(4) != b"GGUF":
        raise ModelDamaged(f"{name} is not a GGUF file. Choose another file, or download it again.")
    version = cursor.scalar("I")
    if version not in (2, 3):
        raise ValueError(f"version {version} is unknown; a file of the other byte order looks so, too")
    tensor_count, field_count = cursor.scalar("Q"), cursor.scalar("Q")
    metadata: dict[str, Any] = {}
    for _ in cursor.counted(field_count, 13):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.scalar("I"))
    tensors: dict[str, GgufTensor] = {}
    ends = [0]
    for _ in cursor.counted(tensor_count, 24):
        tensor = _tensor(cursor)
        if tensor.name in tensors:
            raise ValueError(f"two tensors are called {tensor.name}")
        tensors[tensor.name] = tensor = replace(tensor, nbytes=_bytes(tensor))
        ends.append(tensor.offset + tensor.nbytes)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise ValueError(f"its alignment is {alignment}")
    start = math.ceil(cursor.at / alignment) * alignment
    if start + max(ends) > len(data) and tensors:
        raise ModelDamaged(f"{name} is cut short: its tensors end beyond the file. Download it again.")
    return GgufHeader(name, metadata, {n: replace(t, offset=start + t.offset) for n, t in tensors.items()})


def _tensor(cursor: _Cursor) -> GgufTensor:
    """An entry; its offset counts from the first tensor's place."""
    name = cursor.string(_LONGEST_NAME)
    dimensions = cursor.scalar("I")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise ValueError(f"{name} has {dimensions} dimensions")
    shape = tuple(cursor.scalar("Q") for _ in range(dimensions))[::-1]
    return GgufTensor(name, shape, cursor.scalar("I"), cursor.scalar("Q"))


def _bytes(tensor: GgufTensor) -> int:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
    except (ValueError, KeyError):
        raise ValueError(f"{tensor.name} is stored in the unknown type {tensor.type}") from None
    if tensor.count == 0 or tensor.shape[-1] % block:
        raise ValueError(f"{tensor.name} has the shape {list(tensor.shape)}, which its type cannot store")
    return tensor.count // block * size


class _Cursor:
    """Reads forwards, and never past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self.at:
            raise ValueError("it ends in the middle of its header")
        self.at += size
        return self._data[self.at - size : self.at]

    def scalar(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(kind)))[0]

    def string(self, longest: int = 1 << 30) -> str:
        size = self.scalar("Q")
        if size > longest:
            raise ValueError(f"a name has {size} bytes")
        return self.take(size).decode("utf-8", errors="replace")

    def counted(self, count: int, least: int) -> Iterator[int]:
        """`range(count)` of items with at least `least` bytes each, if the file can hold that many."""
        if count * least > len(self._data) - self.at:
            raise ValueError("it ends in the middle of its header")
        return iter(range(count))

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.scalar("I"), self.scalar("Q")
            if depth > 2:
                raise ValueError("its arrays are nested too deeply")
            if inner in _SCALARS:
                size = struct.calcsize(_SCALARS[inner])
                self.counted(count, size)
                return list(struct.unpack(f"<{count}{_SCALARS[inner]}", self.take(count * size)))
            return [self.value(inner, depth + 1) for _ in self.counted(count, 8)]
        if kind not in _SCALARS:
            raise ValueError(f"a value has the unknown type {kind}")
        return self.scalar(_SCALARS[kind])
