"""Fills a small file system at every write of the program: a plain sentence, nothing half-made, what was there stays.

    PYTHONPATH=. python docs/tools/robustness/disk_full.py [--megabytes 24]

As root on Linux: it mounts a tmpfs in a temporary folder and takes it away again. Each write is made once, then with so
little room that it fails at its beginning, in its middle or near its end, then with room again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtWidgets import QApplication

from app.history.store import HistoryError
from pass_core.models import convert
from tests.app.full_disk import PLACES, SILENT, Place, files_below

ROOM = (0, 4_096, 16_384, 65_536, 131_072, 262_144, 524_288)


def fill(disk: Path, room: int) -> None:
    """Leave so many bytes free."""
    with (disk / "filler").open("wb", buffering=0) as file:
        size = max(0, shutil.disk_usage(disk).free - room)
        while size > 0:
            size -= file.write(bytes(min(size, 1 << 20)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=24)
    arguments = parser.parse_args()
    _app = QApplication([])
    convert.require_space = lambda *_: None  # it is looked at before the disk becomes full
    bad = 0
    for name, make in PLACES.items():
        with tempfile.TemporaryDirectory() as mount:
            disk = Path(mount)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={arguments.megabytes}m", "tmpfs", mount], check=True)
            try:
                bad += tried(name, make, disk)
            finally:
                subprocess.run(["umount", "--lazy", mount], check=True)
    print("every write: a plain sentence, nothing half-made" if not bad else f"{bad} PROBLEMS")
    return 1 if bad else 0


def tried(name: str, make: Callable[[Path], Place], disk: Path) -> int:
    """One line about one write; how many problems it had."""
    home = disk / "home"
    home.mkdir()
    os.environ["PASS_PLAYGROUND_CACHE"] = str(home / "cache")
    with contextlib.redirect_stdout(io.StringIO()):
        place = make(home)
        place.write()
    place.read()
    before, sentences, problems, failed = files_below(home), set[str](), list[str](), 0
    for room in ROOM:
        fill(disk, room)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # a conversion tells its progress there
                place.write()
        except (sqlite3.Error, HistoryError) as error:
            failed += 1
            sentences.add(str(error))
            if name != "history":
                problems.append(repr(error))
        except Exception as error:
            failed += 1
            sentences.add(str(error))
            if " full. Make room" not in str(error):
                problems.append(repr(error))
        else:
            before = files_below(home)
        (disk / "filler").unlink()
        try:
            place.read()
        except Exception as error:
            problems.append(f"with {room} bytes free, what was there cannot be read: {error!r}")
        now = files_below(home)
        if name not in SILENT and now != before:
            problems.append(f"with {room} bytes free: {sorted(set(now.items()) ^ set(before.items()))}")
    with contextlib.redirect_stdout(io.StringIO()):
        place.write()
    place.read()
    shown = sorted(s.replace(str(home), "…") for s in sentences)
    print(f"{name}: failed {failed} of {len(ROOM)} times" + "".join(f"\n    {s}" for s in shown))
    for problem in problems:
        print(f"    PROBLEM: {problem}")
    return len(problems)


if __name__ == "__main__":
    sys.exit(main())
