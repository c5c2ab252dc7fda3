"""Whatever a look-ahead file holds: it is loaded rightly or refused with a LookaheadError, in bounded memory."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from pass_core.lookahead.embeddings import LookaheadEmbeddings
from pass_core.lookahead.errors import (
    FileNotFound,
    LookaheadError,
    NotALookaheadFile,
    PartMismatch,
    TooLarge,
    UnsupportedVersion,
)
from pass_core.lookahead.format import MOST_HIDDEN, MOST_STEPS, load_lookahead
from tests.core.lookahead.mutations import HIDDEN, L, metadata, whole, write_mutated

REPOSITORY = Path(__file__).parents[3]


def sound(made: LookaheadEmbeddings) -> None:
    """What every user of a loaded file may rely on."""
    tensors = made.tensors()
    assert all(t.is_floating_point() and t.is_contiguous() and t.device.type == "cpu" for t in tensors.values())
    assert all(bool(torch.isfinite(t.float()).all()) for t in tensors.values())
    count, hidden = made.embeddings.shape
    assert 1 <= count <= MOST_STEPS
    assert 1 <= hidden <= MOST_HIDDEN
    assert made.deep is None or made.deep.shape[1:] == (count, hidden)
    assert all(a.down.shape[0] == a.up.shape[1] for a in made.adapters.values())
    assert made.sampler is None or made.sampler.w_out.shape[0] == hidden
    training = made.training
    if training is not None:
        assert all(type(x) is float for x in (*training.acceptance, training.temperature))
        assert type(training.steps) is int
        assert f"{training.steps:,} {training.accepted_per_iteration:.2f} {training.top_k:d}"
        assert isinstance(training.data + training.command, str)


@pytest.mark.filterwarnings("ignore")  # torch warns of odd pickles
def test_400_mutated_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = refused = 0
    for number in range(400):
        path = write_mutated(tmp_path, number, seed=14)
        try:
            sound(load_lookahead(path))
            loaded += 1
        except LookaheadError as error:
            said = str(error)
            refused += path.name in said and len(said) < 1000
        path.unlink()
    assert loaded > 20  # the mutations are not so coarse that the first check stops them all
    assert loaded + refused == 400
    assert "code of a file ran" not in capfd.readouterr().out


# --- what the fuzz found, and the public kinds


def pt(value: object, *, old: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=not old)
    return out.getvalue()


def npz(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def tensors(header: dict[str, object], values: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def trained(**fields: object) -> bytes:
    return save(whole(), metadata() | {"training": json.dumps(fields)})


PLAIN = torch.ones(L, HIDDEN)
CASES: dict[str, tuple[str, Callable[[], bytes], type[LookaheadError], str]] = {
    "four-bit floats": (
        ".safetensors",
        lambda: tensors({"lookahead": {"dtype": "F4", "shape": [4, 8], "data_offsets": [0, 16]}}, bytes(16)),
        LookaheadError,
        "F4",
    ),
    "sparse": (".pt", lambda: pt(PLAIN.to_sparse()), NotALookaheadFile, "sparse"),
    "sparse rows": (".pt", lambda: pt({"lookahead": PLAIN.to_sparse_csr()}), NotALookaheadFile, "sparse"),
    "without values": (".pt", lambda: pt(torch.zeros(3, 8, device="meta")), NotALookaheadFile, "meta"),
    "a list of tensors as one": (
        ".pt",
        lambda: pt(torch.nested.nested_tensor([PLAIN, PLAIN[:1]])),
        NotALookaheadFile,
        "",
    ),
    "one value for 25 GB": (".pt", lambda: pt(torch.zeros(1).expand(64, 10**8)), TooLarge, "hidden size"),
    "the same in the old format": (
        ".pt",
        lambda: pt(torch.zeros(1).expand(64, 10**8), old=True),
        TooLarge,
        "hidden size",
    ),
    "a dictionary in a dictionary": (
        ".pt",
        lambda: pt({"model": {"lookahead": PLAIN}}),
        NotALookaheadFile,
        "top level",
    ),
    "a readme in an archive": (
        ".npz",
        lambda: npz(lookahead__npy=npy(PLAIN.numpy()), README__txt=b"hello"),
        NotALookaheadFile,
        "README.txt",
    ),
    "an archive of nothing": (".npz", npz, NotALookaheadFile, "no array"),
    "a version in other digits": (
        ".safetensors",
        lambda: save(whole(), metadata() | {"format_version": "²"}),
        UnsupportedVersion,
        "²",
    ),
    "version 0": (".safetensors", lambda: save(whole(), metadata() | {"format_version": "0"}), UnsupportedVersion, "0"),
    "steps as text": (".safetensors", lambda: trained(steps="abc"), NotALookaheadFile, "steps"),
    "a command that is a number": (".safetensors", lambda: trained(command=7), NotALookaheadFile, "command"),
    "a temperature that is a list": (".safetensors", lambda: trained(temperature=[]), NotALookaheadFile, "temperature"),
    "not a number": (".safetensors", lambda: trained(temperature=float("nan")), NotALookaheadFile, "temperature"),
    "half an adapter, the upper": (
        ".safetensors",
        lambda: save(
            {k: v for k, v in whole().items() if not k.endswith(".down")},
            metadata(),
        ),
        PartMismatch,
        "up_proj",
    ),
    "a header of nothing but brackets": (
        ".safetensors",
        lambda: struct.pack("<Q", 200_000) + b"[" * 200_000,
        LookaheadError,
        "",
    ),
    "an array's header of nothing but brackets": (
        ".npy",
        lambda: b"\x93NUMPY\x01\x00" + struct.pack("<H", 5000) + b"(" * 5000,
        LookaheadError,
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_kind_of_file_that_once_escaped(name: str, tmp_path: Path) -> None:
    suffix, content, kind, named = CASES[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content())
    with pytest.raises(kind) as caught:
        load_lookahead(path)
    assert "a." in str(caught.value)
    assert named in str(caught.value)


def test_a_deeply_nested_training_record_counts_as_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(save(whole(), metadata() | {"training": "[" * 200_000}))
    sound(load_lookahead(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("suffix", [".SAFETENSORS", ".Pt", ".PTH", ".NPY", ".Npz"])
def test_suffixes_in_capitals(suffix: str, tmp_path: Path) -> None:
    content = {
        ".safetensors": lambda: save(whole(), metadata()),
        ".pt": lambda: pt(PLAIN),
        ".pth": lambda: pt(PLAIN, old=True),
        ".npy": lambda: npy(PLAIN.numpy()),
        ".npz": lambda: npz(zipfile.ZIP_DEFLATED, lookahead__npy=npy(PLAIN.numpy())),
    }[suffix.lower()]
    (tmp_path / f"A{suffix}").write_bytes(content())
    made = load_lookahead(tmp_path / f"A{suffix}")
    sound(made)
    assert (made.deep is not None) == (suffix == ".SAFETENSORS")


@pytest.mark.parametrize("name", ["n" * 5000 + ".safetensors", "a\0b.safetensors", ""])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFound):
        load_lookahead(f"{tmp_path}/{name}")


def test_only_the_tensor_that_is_needed_is_read(tmp_path: Path) -> None:
    """One that is not needed may be of any kind and size."""
    huge = torch.zeros(1, dtype=torch.int64).expand(10**6, 10**6)
    (tmp_path / "a.pt").write_bytes(pt({"lookahead": PLAIN, "other": huge}))
    assert torch.equal(load_lookahead(tmp_path / "a.pt").embeddings, PLAIN)


BOMB = """
import resource, sys
import torch
from pass_core.lookahead.errors import LookaheadError
from pass_core.lookahead.format import load_lookahead

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_lookahead(sys.argv[1])
except LookaheadError as error:
    print(type(error).__name__)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""


def bomb_in_a_compressed_array() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("lookahead.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (4, 10**8)})
        for _ in range(400):
            member.write(bytes(4_000_000))
    return out.getvalue()


def bomb_in_a_compressed_pickle() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pt(PLAIN))) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + (bytes(1_500_000_000) if "data/0" in name else b""))
    return out.getvalue()


def bomb_in_a_hollow_file() -> bytes:
    """The header of 1.6 GB; the file itself is made long without taking space."""
    return tensors({"lookahead": {"dtype": "F32", "shape": [4, 10**8], "data_offsets": [0, 16 * 10**8]}})


@pytest.mark.parametrize(
    ("make", "suffix", "length"),
    [
        (bomb_in_a_compressed_array, ".npz", 0),
        (bomb_in_a_compressed_pickle, ".pt", 0),
        (bomb_in_a_hollow_file, ".safetensors", 16 * 10**8),
    ],
)
def test_small_files_that_unfold_to_gigabytes_are_refused_before_they_do(
    make: Callable[[], bytes], suffix: str, length: int, tmp_path: Path
) -> None:
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(make())
    assert path.stat().st_size < 20_000_000
    if length:
        os.truncate(path, path.stat().st_size + length)
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    kind, megabytes = done.stdout.split()
    assert kind == "TooLarge"
    assert int(megabytes) < 100
