"""Run a generated program where it can do little harm: limits, an empty folder, no environment, no network.

What the system offers is used, and `protections` says what that is:

- everywhere: a process of its own (`python -I -S`), an empty environment, an empty temporary folder, a time limit;
- on Unix: limits of processor time, memory, file size, open files and processes;
- on Linux: no sockets, no new processes, no signals to others (seccomp); no network device and no sight of other
  processes where user namespaces are allowed; files can be written in the temporary folder only, and read there and in
  Python's and the system's own folders only (Landlock, 5.13 and later).

This stops accidents and simple malice. It is no virtual machine: code that somebody wrote to break out does not belong
here.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

CHILD = Path(__file__).with_name("sandbox_child.py")


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
        verdict: passed only when it ran to its end.
        message: the error in one line, "" when it passed.
    """

    verdict: Verdict
    message: str = ""


def run_program(program: str, limits: Limits | None = None) -> Outcome:
    """Run a Python program to its end in the sandbox; blocks at most a little longer than `limits.seconds`."""
    limits = limits or Limits()
    # The program cannot know this word before it has run to its end, so that leaving early is no success.
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="pass-sandbox-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o777)
        arguments = [str(limits.seconds), str(limits.memory_bytes), str(limits.file_bytes), folder]
        code, output = _run(
            [sys.executable, "-I", "-S", "-B", str(CHILD), *arguments], f"{word}\n{program}", folder, limits
        )
    if code is None:
        return Outcome(Verdict.TIMED_OUT, f"did not end within {limits.seconds:g} s")
    last = output.rstrip("\n").rsplit("\n", 1)[-1]
    if last == word:
        return Outcome(Verdict.PASSED)
    if code in (-signal.SIGXCPU if hasattr(signal, "SIGXCPU") else None, 128 + 24):
        return Outcome(Verdict.TIMED_OUT, "used up its processor time")
    return Outcome(Verdict.FAILED, last.replace(word, "")[:300] or f"ended with status {code}")


def _run(command: list[str], text: str, folder: str, limits: Limits) -> tuple[int | None, str]:
    """Exit status (None: out of time) and the last output; the whole process group is gone afterwards."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={},
        close_fds=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(text.encode(), timeout=limits.seconds + 1.0)
        return process.returncode, output[-4000:].decode(errors="replace")
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
    else:
        process.kill()
    process.communicate()


_NETWORK_PROBE = """
import socket
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except ConnectionRefusedError:
    raise
except OSError:
    pass
else:
    raise AssertionError
"""


@lru_cache(maxsize=1)
def protections() -> tuple[str, ...]:
    """What holds a program back on this system, in plain words (found by trying)."""
    found = ["its own process without your environment, in an empty folder", "a time limit"]
    if importlib.util.find_spec("resource") is None:
        return tuple(found)
    found.append("limits of memory, file size and processes")
    # With a network the port of this machine refuses; without one it cannot even be asked.
    refused = run_program(_NETWORK_PROBE)
    if refused.verdict is Verdict.PASSED:
        found.append("no network")
    outside = Path(tempfile.gettempdir()) / f"pass-sandbox-probe-{secrets.token_hex(8)}"
    run_program(f"open({str(outside)!r}, 'w').close()")
    if outside.exists():
        outside.unlink()
    else:
        found.append("no files but its own")
    return tuple(found)
