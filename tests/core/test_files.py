"""Files are written whole or not at all, and the reason is a plain sentence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from pass_core import files
from pass_core.files import WriteError, keep, require_writable, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def streamed(file: BinaryIO) -> None:
    for _ in range(100):
        file.write(b"x" * 1000)


def by_torch(file: BinaryIO) -> None:
    torch.save({"a": torch.zeros(100_000)}, file)


CONTENTS = {"bytes": b"x" * 100_000, "text": "é" * 100_000, "streamed": streamed, "by torch": by_torch}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_full_disk_leaves_the_older_file_and_nothing_else(
    kind: str, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"older")
    small_files(50_000)
    with pytest.raises(WriteError, match=r"was not written: the disk is full\. Make room") as caught:
        write_atomically(path, CONTENTS[kind])
    small_files(-1)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == ["a"]
    write_atomically(path, CONTENTS[kind])
    assert path.stat().st_size >= 100_000
    assert names(tmp_path) == ["a"]


def test_what_can_be_made_again_is_silently_not_kept(tmp_path: Path, small_files: Callable[[int], None]) -> None:
    small_files(10)
    keep(tmp_path / "a", b"x" * 1000)
    small_files(-1)
    assert names(tmp_path) == []


def test_an_error_of_the_content_is_not_taken_for_one_of_the_disk(tmp_path: Path) -> None:
    def wrong(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyError("no such tensor")

    (tmp_path / "a").write_bytes(b"older")
    with pytest.raises(KeyError):
        write_atomically(tmp_path / "a", wrong)
    assert (tmp_path / "a").read_bytes() == b"older"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("file/a.json", "a folder that you may write to"),
        ("folder", "is a folder. Give the name of a file."),
        ("n" * 300, "the name is too long"),
    ],
)
def test_where_nothing_can_be_written_is_found_before_and_at_the_write(
    where: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    before = names(tmp_path)
    for attempt in (require_writable, lambda path: write_atomically(path, b"x")):
        with pytest.raises(WriteError, match=sentence):
            attempt(tmp_path / where)
    assert names(tmp_path) == before


def test_looking_leaves_nothing_behind_and_missing_folders_are_made_at_the_write(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    require_writable(path)
    assert names(tmp_path) == []
    write_atomically(path, "text")
    assert path.read_text(encoding="utf-8") == "text"
    path.write_text("older")
    require_writable(path)
    assert path.read_text() == "older"


def test_private_files_are_for_the_user_alone_and_others_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "private", b"x", private=True)
        write_atomically(tmp_path / "public", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644


def test_links_are_followed_and_devices_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"older")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"newer")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"newer"
    require_writable("/dev/null")
    write_atomically("/dev/null", b"x")
    assert not Path("/dev/null").is_file()


def test_lone_surrogates_become_the_replacement_character(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "a\ud800b")
    assert (tmp_path / "a").read_text(encoding="utf-8") in ("a\ufffdb", "a\ufffd\ufffd\ufffdb")


WRITER = """
import sys
from pathlib import Path
from pass_core.files import write_atomically

def slowly(file):
    while True:
        file.write(b"half" * 1000)
        file.flush()
        print("writing", flush=True)

write_atomically(Path(sys.argv[1]), slowly)
"""


def test_a_killed_writer_leaves_the_older_file_and_the_next_write_tidies_up(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"older")
    other = tmp_path / f".pass-{files._HOST}-{os.getpid()}-7.tmp"  # a writer that lives
    other.write_bytes(b"")
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            process.kill()
        assert path.read_bytes() == b"older"
        assert len(names(tmp_path)) == 3
        write_atomically(path, b"older")
        assert names(tmp_path) == sorted([other.name, "a"])
