"""A GGUF model in several files becomes one file: NAME-00001-of-00003.gguf and so on, as llama-gguf-split writes them.

The first part holds the metadata, every part holds tensors with a header of its own (llama.cpp, tools/gguf-split).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pass_core.models.errors import ModelDamaged, ModelNotFound
from pass_core.models.gguf_header import GgufHeader, GgufTensor, metadata_bytes, read_header
from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter

_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_MOST_PARTS = 9_999
_CHUNK = 1 << 20
_ALIGNMENT = 32
_OF_PARTS = "split."


def parts_of(path: Path) -> list[Path]:
    """All files of the model that `path` is one file of, in order; most models have one file only.

    Raises:
        ModelNotFound: parts are missing, named in the message.
    """
    found = _NAME.fullmatch(path.name)
    if found is None:
        return [path]
    count = int(found["count"])
    if not 1 <= int(found["number"]) <= count <= _MOST_PARTS:
        return [path]
    suffix = path.name[-len("gguf") :]
    parts = [path.with_name(f"{found['stem']}-{n:05}-of-{found['count']}.{suffix}") for n in range(1, count + 1)]
    missing = [p.name for p in parts if not p.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelNotFound(
            f"{path.name} is one of {count} parts, and the folder {path.parent} lacks {', '.join(missing[:3])}{more}. "
            "Put all parts into one folder, then choose any of them."
        )
    return parts


def model_stem(path: Path) -> str:
    """The file's name without suffix, and without the number of the part."""
    found = _NAME.fullmatch(path.name)
    return path.stem if found is None else found["stem"]


def merge(
    parts: Sequence[Path], target: Path, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> None:
    """Write one GGUF file with the first part's metadata and the tensors of all.

    Raises:
        ModelDamaged: the parts are not of one model, or a part is no whole GGUF file.
        OSError: the target cannot be written.
        Cancelled: the token was set.
    """
    headers = [read_header(p) for p in parts]
    _check(parts, headers)
    version, fields = metadata_bytes(parts[0])
    kept = [raw for key, raw in fields if not key.startswith(_OF_PARTS) and key != "general.alignment"]
    tensors = [t for h in headers for t in h.tensors.values()]
    places = _places(tensors)
    start = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kept)) + b"".join(kept)
    start += b"".join(_entry(t, at) for t, at in zip(tensors, places, strict=True))
    total = sum(t.nbytes for t in tensors)
    reporter = ProgressReporter(f"Joining the {len(parts)} parts", total, "B", progress, cancel)
    done = 0
    with target.open("wb") as sink:
        sink.write(start + bytes(-len(start) % _ALIGNMENT))
        for path, header in zip(parts, headers, strict=True):
            with path.open("rb") as source:
                for tensor in header.tensors.values():
                    source.seek(tensor.offset)
                    for size in _chunks(tensor.nbytes):
                        sink.write(_whole(source, size, path))
                        done += size
                        reporter.update(done)
                    sink.write(bytes(-tensor.nbytes % _ALIGNMENT))


def _check(parts: Sequence[Path], headers: Sequence[GgufHeader]) -> None:
    names: set[str] = set()
    for number, header in enumerate(headers):
        no, count = header.metadata.get("split.no"), header.metadata.get("split.count")
        if (no, count) != (number, len(parts)):
            says = "says nothing of parts" if count is None else f"says that it is part {_next(no)} of {count}"
            raise ModelDamaged(
                f"{header.name} {says}, and its name that it is part {number + 1} of {len(parts)}. "
                "Give the parts the names that they were made with, or download them again."
            )
        twice = names & set(header.tensors)
        if twice:
            raise ModelDamaged(
                f"{header.name} holds tensors that another part holds as well ({min(twice)}). They are not of one "
                "model: download them again."
            )
        names |= set(header.tensors)
    stated = {h.metadata.get("split.tensors.count") for h in headers} - {None}
    if stated - {len(names)}:
        raise ModelDamaged(
            f"The {len(parts)} parts of {model_stem(parts[0])} hold {len(names)} tensors, and should hold "
            f"{', '.join(sorted(map(str, stated)))}. They are not of one model: download them again."
        )


def _next(number: object) -> object:
    return number + 1 if isinstance(number, int) else number


def _places(tensors: Sequence[GgufTensor]) -> list[int]:
    """Where each tensor begins, counted from the first."""
    at, places = 0, list[int]()
    for tensor in tensors:
        places.append(at)
        at += math.ceil(tensor.nbytes / _ALIGNMENT) * _ALIGNMENT
    return places


def _entry(tensor: GgufTensor, at: int) -> bytes:
    name = tensor.name.encode()
    shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
    return struct.pack("<Q", len(name)) + name + shape + struct.pack("<IQ", tensor.type, at)


def _chunks(size: int) -> list[int]:
    return [min(_CHUNK, size - at) for at in range(0, size, _CHUNK)]


def _whole(source: IO[bytes], size: int, path: Path) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise ModelDamaged(f"{path.name} became shorter while it was read. Download it again.")
    return data
