"""Child processes for long work: a kill stops them immediately, and the window's interpreter stays free meanwhile.

Our own children (`pass_core.models.convert`, `pass_core.models.hub`) write one JSON object per line to standard output:
`{"stage", "done", "total", "unit"}` for progress, `{"result": ...}` at the end, or `{"error": class name, "message"}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from pass_core.models.errors import BY_NAME, ModelError
from pass_core.progress import CancelToken, ProgressCallback, ProgressReporter

_POLL_SECONDS = 0.1
_SAYING = threading.Lock()


@contextlib.contextmanager
def child(arguments: Sequence[str], environment: dict[str, str] | None = None) -> Generator[subprocess.Popen[str]]:
    """Run `python` with these arguments, output captured; it is ended when the block is left for any reason."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"} | (environment or {}),
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def run_watched(
    arguments: Sequence[str],
    watch: Callable[[], None],
    *,
    environment: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run a foreign program, calling `watch` ten times a second (it may raise to stop it).

    Returns:
        The exit status and everything it wrote.
    """
    with child(arguments, environment) as process:
        output: list[str] = []
        readers = [
            threading.Thread(target=_collect, args=(stream, output.append), daemon=True)
            for stream in (process.stdout, process.stderr)
        ]
        for reader in readers:
            reader.start()
        while True:
            try:
                status = process.wait(_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                watch()
        for reader in readers:
            reader.join()
        return status, "".join(output)


def run_job(
    module: str, arguments: Sequence[str], progress: ProgressCallback | None, cancel: CancelToken | None
) -> Any:
    """Run one of our own children to its result, passing its progress on.

    Raises:
        Cancelled: the token was set; the child is ended first.
        ModelError: the subclass that the child names, or what it wrote when it died without a word.
    """
    package_root = str(Path(__file__).resolve().parents[2])  # importable there also where it was never installed
    path = os.pathsep.join(p for p in (package_root, os.environ.get("PYTHONPATH")) if p)
    with child(["-m", module, *arguments], {"PYTHONPATH": path}) as process:
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        errors: list[str] = []
        threading.Thread(target=_collect, args=(process.stdout, lines.put, True), daemon=True).start()
        reader = threading.Thread(target=_collect, args=(process.stderr, errors.append), daemon=True)
        reader.start()
        reporter: ProgressReporter | None = None
        while True:
            if cancel is not None:
                cancel.raise_if_cancelled()
            try:
                line = lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if line is None:
                break
            message = _parse(line)
            if "result" in message:
                return message["result"]
            if "error" in message:
                raise BY_NAME.get(message["error"], ModelError)(message["message"])
            if "stage" in message:
                if reporter is None or reporter.stage != message["stage"]:
                    reporter = ProgressReporter(message["stage"], message["total"], message["unit"], progress, cancel)
                reporter.total = message["total"]
                reporter.update(message["done"])
        reader.join()
        tail = "".join(errors).strip().splitlines()
        raise ModelError(
            f"The helper process {module} ended without a result (status {process.wait()}): "
            f"{tail[-1] if tail else 'it wrote nothing'}. It may have run out of memory: close other programs."
        )


def _collect(stream: IO[str] | None, put: Callable[[Any], None], sentinel: bool = False) -> None:
    if stream is not None:
        with contextlib.suppress(ValueError, OSError):  # closed under us when the child was ended
            for line in stream:
                put(line)
    if sentinel:
        put(None)


def _parse(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}  # a library's chatter
    return message if isinstance(message, dict) else {}


# --- the child's side ------------------------------------------------------------------------------------------------


def say(**message: Any) -> None:
    """Write one message to the parent, whole, from any thread."""
    with _SAYING:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def fail(error: BaseException) -> NoReturn:
    """Report an error to the parent and leave."""
    kind = type(error).__name__ if isinstance(error, ModelError) else "ModelError"
    say(error=kind, message=str(error) or type(error).__name__)
    raise SystemExit(1)


def leave_with_parent() -> None:
    """End this process as soon as its parent is gone (its end of our standard input closes)."""

    def wait() -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def files_in(folder: Path) -> Iterator[int]:
    """Sizes of all files below a folder that others are writing to."""
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                yield os.stat(os.path.join(directory, name)).st_size
