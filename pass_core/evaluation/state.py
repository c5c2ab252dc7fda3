"""Append-only state files: finished parts survive a kill, and a second start continues after them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from pass_core.files import WriteError, append_whole

JsonDict = dict[str, Any]


class StateMismatch(ValueError):
    """A state file belongs to another piece of work; the message says what differs."""


class StateFile:
    """JSON lines: the first describes the work, every other is one finished part.

    A line that a kill cut short is dropped on the next start.

    Raises:
        StateMismatch: the file exists and its first line describes other work.
        OSError: it cannot be written.
    """

    def __init__(self, path: str | Path, header: JsonDict) -> None:
        self.path = Path(path).expanduser()
        self.done: list[JsonDict] = []
        header = cast(JsonDict, json.loads(json.dumps(header)))
        keep = 0
        if self.path.exists():
            keep = self._read(header)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "r+b" if keep else "wb", buffering=0)  # noqa: SIM115
        if keep:
            self._file.truncate(keep)
            return
        try:
            self._append(header)
        except WriteError:
            self.close()
            self.path.unlink(missing_ok=True)
            raise

    def add(self, part: JsonDict) -> None:
        """Keep a finished part; it is on the disk when this returns.

        Raises:
            WriteError: it is not, and the file is as it was.
        """
        self._append(part)
        self.done.append(part)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> StateFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, value: JsonDict) -> None:
        append_whole(self.path, self._file, json.dumps(value, ensure_ascii=False).encode() + b"\n")

    def _read(self, header: JsonDict) -> int:
        """Collect finished parts; the number of bytes that are whole lines."""
        keep = 0
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                break
            try:
                value: object = json.loads(line)
            except ValueError:
                break
            if not isinstance(value, dict):
                break
            part = cast(JsonDict, value)
            if number == 0:
                self._check(part, header)
            else:
                self.done.append(part)
            keep += len(line)
        if self.path.stat().st_size and not keep:
            raise StateMismatch(f"{self.path.name} is not a state file. Choose another name, or delete it first.")
        return keep

    def _check(self, found: JsonDict, wanted: JsonDict) -> None:
        differing = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        if differing:
            raise StateMismatch(
                f"{self.path.name} was begun with other choices ({', '.join(differing)} differ). "
                "Repeat them to continue it, or choose another file to start anew."
            )
