"""Look-ahead files, broken on purpose: each kind of file is taken apart, changed in one or several places, and put
together again, so that most mutations get past the first check. The same seed makes the same files.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from pass_core.lookahead.embeddings import TrainingSummary

L, HIDDEN = 3, 8

Mutated = tuple[str, bytes]  # suffix, content

ODD_NUMBERS: tuple[Any, ...] = (
    0,
    -1,
    1,
    2,
    65,
    2**31,
    2**33,
    2**62,
    2**63,
    2**64,
    10**30,
    1.5,
    "3",
    None,
    True,
    [],
    {},
)
ODD_TEXTS = ("", "²", "١", "-1", "1e3", "0x1", "９", " 1", "1 ", "\0", "é" * 300, "1" * 5000, "nan", "null", "[" * 3000)
DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F6_E2M3",
    "F4",
    "C64",
    "I64",
    "U64",
    "BOOL",
    "",
)
DESCRIPTIONS = (
    "<f4",
    ">f4",
    "<f2",
    "<f8",
    "<f16",
    "<i4",
    "|b1",
    "|O",
    "<c8",
    "<U3",
    "|V4",
    "<m8[s]",
    "f",
    "",
    "[('a','<f4')]",
)


def whole() -> dict[str, torch.Tensor]:
    """The tensors of a file with every part."""
    g = torch.Generator().manual_seed(0)

    def t(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g)

    return {
        "lookahead": t(L, HIDDEN),
        "deep": t(2, L, HIDDEN),
        "adapter.layers.0.mlp.up_proj.down": t(2, HIDDEN),
        "adapter.layers.0.mlp.up_proj.up": t(16, 2),
        "sampler.in.weight": t(4, 2 * HIDDEN),
        "sampler.step": t(L, 4),
        "sampler.out.weight": t(HIDDEN, 4),
    }


def metadata() -> dict[str, str]:
    """The metadata of such a file."""
    return {
        "format": "pass-lookahead",
        "format_version": "1",
        "base_model": "tiny",
        "base_fingerprint": "0" * 16,
        "hidden_size": str(HIDDEN),
        "lookahead": str(L),
        "parts": "embeddings,deep,adapter,sampler",
        "training": json.dumps({"steps": 5, "tokens": 9, "acceptance": [0.5, 0.2], "temperature": 0.8, "top_k": 10}),
    }


def mutated(rng: random.Random) -> Mutated:
    """One broken (or, now and then, still sound) file."""
    suffix, content = rng.choice(_MAKERS)(rng)
    if rng.random() < 0.35:
        content = _bytes(rng, content)
    if rng.random() < 0.1:
        suffix = rng.choice((suffix.upper(), ".safetensors", ".pt", ".npy", ".npz", ".pth"))
    return suffix, content


def _bytes(rng: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = rng.randrange(min(len(data), rng.choice((16, 200, len(data)))))
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.choice((1, 8, 400)))
        elif kind == 3:
            data[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**20, 2**31, 2**40, 2**63, 2**64 - 1)))
        elif kind == 4:
            del data[at : at + rng.choice((1, 8, 64))]
        else:
            data += data[at : at + 200]
    return bytes(data)


def _safetensors(rng: random.Random) -> Mutated:
    content = save(whole(), metadata())
    length = struct.unpack("<Q", content[:8])[0]
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    values = bytearray(content[8 + length :])
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice([n for n in header if n != "__metadata__"] or ["lookahead"])
        _change_header(rng, header, name)
    if rng.random() < 0.7:
        values = _laid_out_again(header)
    if len(values) > 4 and rng.random() < 0.2:
        at = rng.randrange(0, len(values) - 4, 4)
        values[at : at + 4] = struct.pack("<f", rng.choice((float("nan"), float("inf"), 1e38)))
    text = json.dumps(header, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return ".safetensors", struct.pack("<Q", len(text)) + text + bytes(values)


def _laid_out_again(header: dict[str, Any]) -> bytearray:
    """Values for the shapes as they are now, with offsets that fit: only the shapes themselves are wrong."""
    sizes = {"F64": 8, "I64": 8, "C64": 8, "F32": 4, "F16": 2, "BF16": 2}
    values = bytearray()
    for name, entry in header.items():
        if name == "__metadata__" or not isinstance(entry, dict) or not isinstance(entry.get("shape"), list):
            continue
        if all(type(n) is int and 0 <= n < 100 for n in entry["shape"]):
            size = math.prod(entry["shape"]) * sizes.get(entry.get("dtype"), 1)
            if size < 1_000_000:
                entry["data_offsets"] = [len(values), len(values) + size]
                values += (b"\0\0\x80\x3f" * size)[:size]
    return values


def _change_header(rng: random.Random, header: dict[str, Any], name: str) -> None:
    about: dict[str, str] = header.get("__metadata__") or {}
    entry: Any = header.get(name)
    kind = rng.randrange(10)
    if kind == 0 and isinstance(entry, dict):
        entry["dtype"] = rng.choice(DTYPES)
    elif kind == 1 and isinstance(entry, dict):
        shape = entry.get("shape")
        if isinstance(shape, list) and shape:
            shape[rng.randrange(len(shape))] = rng.choice(ODD_NUMBERS)
    elif kind == 2 and isinstance(entry, dict):
        entry["shape"] = rng.choice(([], [L * HIDDEN], [1, L, HIDDEN], [0], [HIDDEN, L], [1] * 70, "x", None))
    elif kind == 3 and isinstance(entry, dict):
        entry["data_offsets"] = rng.choice(([0, 0], [0, 96], [2**40, 2**41], [96, 0], [0], "x", [-1, 5]))
    elif kind == 4:
        header.pop(name, None)
    elif kind == 5:
        header[rng.choice(("adapter.", "adapter..up", "adapter.x.down", "deep", "sampler.step", "é\0", "x" * 999))] = (
            entry
        )
    elif kind == 6 and about:
        about[rng.choice(list(about))] = rng.choice(ODD_TEXTS)
        header["__metadata__"] = about
    elif kind == 7 and about:
        about["training"] = _training(rng)
        header["__metadata__"] = about
    elif kind == 8:
        header["__metadata__"] = rng.choice(({}, None, [], {"format": 1}, {"format": "pass-lookahead"}))
    else:
        header[name] = rng.choice((None, [], {}, {"dtype": "F32"}, 5))


def _training(rng: random.Random) -> str:
    fields = tuple(TrainingSummary.__dataclass_fields__)
    odd = (*ODD_NUMBERS, *ODD_TEXTS, [1, "x"], [[1]], {"a": 1}, [None], [0.1, 1e308, float("nan")], float("inf"))
    if rng.random() < 0.2:
        return rng.choice(("[" * 100_000, "{" * 50_000, '{"steps":' * 20_000, "1" * 6000, "null", "[]", '"\\ud800"'))
    return json.dumps({rng.choice(fields): rng.choice(odd) for _ in range(rng.randint(1, 4))})


class Harmful:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code of a file ran",))


def _objects(rng: random.Random) -> Any:
    plain = torch.randn(L, HIDDEN, generator=torch.Generator().manual_seed(1))
    makers: tuple[Callable[[], Any], ...] = (
        lambda: plain,
        lambda: torch.nn.Parameter(plain),
        lambda: plain.to_sparse(),
        lambda: plain.to_sparse_csr(),
        lambda: torch.zeros(L, HIDDEN, device="meta"),
        lambda: torch.zeros(1).expand(L, 10**9),
        lambda: torch.zeros(1).expand(10**9, HIDDEN),
        lambda: plain.t(),
        lambda: plain[:, ::2],
        lambda: torch.quantize_per_tensor(plain, 0.1, 0, torch.quint8),
        lambda: torch.nested.nested_tensor([plain, plain[:1]]),
        lambda: plain.to(torch.complex64),
        lambda: plain.to(rng.choice((torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.float64))),
        lambda: torch.ones(L, HIDDEN, dtype=rng.choice((torch.int64, torch.bool, torch.uint8))),
        lambda: torch.full((L, HIDDEN), rng.choice((float("nan"), float("-inf")))),
        lambda: torch.zeros(rng.choice(((), (0, 4), (4, 0), (L, 1, HIDDEN), (100, 4)))),
        lambda: Harmful(),
        lambda: rng.choice(
            (5, None, "text", [plain], (plain, plain), {1: plain, "1": plain}, bytearray(9), {"a": {"b": plain}})
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = rng.choice(makers)()
    return rng.choice((made, made, {"lookahead": made}, {"a": made, "b": plain}, {"step": 3, "la": made}))


def _torch(rng: random.Random) -> Mutated:
    out = io.BytesIO()
    made = _objects(rng)
    kind = rng.randrange(10)
    if kind == 0:
        return ".pt", pickle.dumps(Harmful(), protocol=rng.randrange(6))
    try:
        torch.save(made, out, _use_new_zipfile_serialization=kind != 1)
    except Exception:  # a few kinds cannot be saved in the old format
        out = io.BytesIO()
        torch.save(made, out)
    content = out.getvalue()
    return ".pt", _rezipped(rng, content) if kind in (2, 3, 4) and content[:2] == b"PK" else content


def _rezipped(rng: random.Random, content: bytes) -> bytes:
    """The same archive with one member changed, dropped, doubled, compressed or added."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        warnings.simplefilter("ignore")  # a name twice
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            data = old.read(name)
            if name == chosen:
                data = rng.choice((_bytes(rng, data), b"", data * 2, data + bytes(1000)))
                if rng.random() < 0.2:
                    continue
            packed = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
            new.writestr(name, data, packed)
        if rng.random() < 0.3:
            new.writestr(
                rng.choice((chosen, "README.txt", "x/constants.pkl", "folder/", "../x.npy", "lookahead.npy")), b"x"
            )
    return out.getvalue()


def _npy_bytes(rng: random.Random) -> bytes:
    array = np.arange(L * HIDDEN, dtype=rng.choice(("<f4", ">f4", "<f2", "<f8", "<i4"))).reshape(L, HIDDEN)
    out = io.BytesIO()
    np.save(out, np.asfortranarray(array) if rng.random() < 0.3 else array)
    content = out.getvalue()
    if rng.random() < 0.2:
        return content
    length = struct.unpack("<H", content[8:10])[0]
    header, values = content[10 : 10 + length].decode("latin1"), content[10 + length :]
    kind = rng.randrange(6)
    if kind == 0:
        header = header.replace(
            f"({L}, {HIDDEN})", rng.choice((f"({L}, {10**11})", f"({10**12},)", "()", "(-1, 8)", "('a',)", "3"))
        )
    elif kind == 1:
        header = f"{{'descr': {rng.choice(DESCRIPTIONS)!r}, 'fortran_order': False, 'shape': ({L}, {HIDDEN}), }}\n"
    elif kind == 2:
        header = rng.choice(
            ("(" * 5000, "-" * 9000 + "1", "{'descr': " * 300, "[]", "{}", "__import__('os')", "\0", "{1:2}")
        )
    elif kind == 3:
        header = header.replace("False", rng.choice(("True", "1", "None", "'x'")))
    elif kind == 4:
        values = values[: rng.randrange(len(values))]
    version = rng.choice((1, 1, 1, 2, 3, 0, 9))
    size = struct.pack("<H" if version == 1 else "<I", len(header) if rng.random() < 0.9 else 2**15)
    return b"\x93NUMPY" + bytes((version, 0)) + size + header.encode("latin1") + values


def _npy(rng: random.Random) -> Mutated:
    return ".npy", _npy_bytes(rng)


def _npz(rng: random.Random) -> Mutated:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # a name twice
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(("lookahead.npy", "a.npy", "lookahead.npy", "lookahead", "README.txt", ".npy", "é.npy"))
            packed = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            archive.writestr(name, _npy_bytes(rng) if rng.random() < 0.8 else rng.randbytes(50), packed)
    content = out.getvalue()
    return ".npz", _rezipped(rng, content) if rng.random() < 0.2 else content


_MAKERS = (_safetensors, _safetensors, _torch, _torch, _npy, _npz)


def write_mutated(folder: Path, number: int, seed: int) -> Path:
    """The file `number` of the sequence `seed`."""
    suffix, content = mutated(random.Random(f"{seed}/{number}"))
    path = folder / f"m{number}{suffix}"
    path.write_bytes(content)
    return path
