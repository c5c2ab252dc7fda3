"""Run a generated program where it can do little harm, and have its tests decide from outside.

What holds the program back (`protections` finds by trying which of these work here):

- everywhere: a process of its own (`python -I -S`) without your environment, a time limit, bounded answers, and a judge
  in another process;
- on Unix: limits of processor time, memory, file size and open files;
- on Linux: of the kernel's calls only those that computing needs (seccomp): no processes, sockets, io_uring, signals,
  changes of modes;
- with bubblewrap: namespaces of its own, Python's and the system's folders read-only, 16 MB of scratch in memory, and
  nothing else. Without it, on Linux 5.13 and later: the same folders read-only (Landlock), and no file can be written.

This stops accidents and simple malice. It is no virtual machine: code that somebody wrote to break out does not belong
here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from pass_core.evaluation.sandbox import inside, judge

ROOT = Path(__file__).resolve().parents[3]
SCRATCH_BYTES = 16 * 2**20
_VERDICT_BYTES = 64 * 1024
_GRACE_SECONDS = 3.0
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime")


class Verdict(StrEnum):
    """How a program ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: wall-clock time (processor time is limited to the same, rounded up).
        memory_bytes: address space.
        file_bytes: size of any one file.
    """

    seconds: float = 5.0
    memory_bytes: int = 512 * 2**20
    file_bytes: int = 1 * 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program.

    Attributes:
        verdict: passed only when all tests held.
        message: the error in one line, "" when it passed.
    """

    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A program and its tests.

    Attributes:
        solution: the program's text; runs in the sandbox.
        tests: statements that raise where the program is wrong; run in the judge, so they must be trusted.
        entry_point: the function of the program that the tests call, by this name.
        helpers: trusted text that the tests need besides; runs in the judge.
    """

    solution: str
    tests: str
    entry_point: str
    helpers: str = ""


class Box(StrEnum):
    """What is around the program's process."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "limits of the process itself"


def run_program(task: Task, limits: Limits | None = None, box: Box | None = None) -> Outcome:
    """Run a program's tests against it; blocks at most a few seconds longer than `limits.seconds`.

    Args:
        box: what to put around it; the better one of this machine if None.
    """
    limits = limits or Limits()
    box = box or best_box()
    with _folder(box) as folder:
        order = {
            "solution": task.solution,
            "tests": task.tests,
            "entry_point": task.entry_point,
            "helpers": task.helpers,
            "command": _command(box),
            "folder": folder,
            "boxed": box is Box.BUBBLEWRAP,
            "seconds": limits.seconds,
            "memory": limits.memory_bytes,
            "file_size": limits.file_bytes,
        }
        return _ask_judge(json.dumps(order).encode(), folder, limits.seconds)


def _command(box: Box) -> list[str]:
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable)
    serve = ["-I", "-S", "-B", "-c"]
    if box is Box.LANDLOCK:
        return [python, *serve, inside.COMMAND.format(root=str(ROOT))]
    package = Path("pass_core", "evaluation", "sandbox")
    shown = [path for path in _SYSTEM_FOLDERS if os.path.exists(path)]
    return [
        bubblewrap() or "bwrap",
        *("--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"),
        *(part for path in shown for part in ("--ro-bind", path, path)),
        *("--ro-bind", sys.base_prefix, sys.base_prefix),
        *("--ro-bind", str(ROOT / package), f"/source/{package}"),
        *("--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"),
        *("--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"),
        python,
        *serve,
        inside.COMMAND.format(root="/source"),
    ]


@contextlib.contextmanager
def _folder(box: Box) -> Generator[str | None]:
    """An empty folder to start in, gone afterwards; bubblewrap brings its own, in memory."""
    if box is Box.BUBBLEWRAP:
        yield None
        return
    folder = tempfile.mkdtemp(prefix="pass-sandbox-")
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        for path, folders, _ in os.walk(folder):  # a folder that its owner may not list cannot be emptied
            for name in folders:
                with contextlib.suppress(OSError):
                    os.chmod(os.path.join(path, name), 0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _ask_judge(order: bytes, folder: str | None, seconds: float) -> Outcome:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", judge.COMMAND.format(root=str(ROOT))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={},
        close_fds=True,
        start_new_session=True,
    )
    try:
        answer, _ = process.communicate(order, timeout=seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return Outcome(Verdict.TIMED_OUT, f"did not end within {seconds:g} s")
    finally:
        _end_group(process)
    try:
        verdict = json.loads(answer[:_VERDICT_BYTES])
        return Outcome(Verdict(verdict["verdict"]), str(verdict["message"]))
    except (ValueError, KeyError, TypeError):
        return Outcome(Verdict.FAILED, f"the judge gave no verdict (status {process.returncode})")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate()


@lru_cache(maxsize=1)
def bubblewrap() -> str | None:
    """Path of the program, None where it is not installed."""
    return shutil.which("bwrap") if sys.platform.startswith("linux") else None


_TRUE = Task("def works():\n    return True\n", "assert works() is True", "works")


@lru_cache(maxsize=1)
def best_box() -> Box:
    """Bubblewrap where it is installed and a program runs in it; else the process's own limits."""
    if bubblewrap() is not None and run_program(_TRUE, box=Box.BUBBLEWRAP).verdict is Verdict.PASSED:
        return Box.BUBBLEWRAP
    return Box.LANDLOCK
