"""What holds a generated program back on this machine: found by trying, in plain words, before consent is asked for."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pass_core.evaluation.sandbox.run import Box, Task, Verdict, best_box, bubblewrap, run_program


@dataclass(frozen=True, slots=True)
class Protections:
    """What holds a program back here.

    Attributes:
        holds: protections that work, each a phrase.
        lacks: protections that do not, each a sentence.
        advice: how to get more, "" where nothing is lacking.
    """

    holds: tuple[str, ...]
    lacks: tuple[str, ...]
    advice: str = ""

    def text(self) -> str:
        """All of it in two or three sentences."""
        out = f"On this machine each program gets {'; '.join(self.holds)}."
        if self.lacks:
            out += f" Nothing more holds it back: {' '.join(self.lacks)}"
        return f"{out} {self.advice}".rstrip()


@dataclass(frozen=True, slots=True)
class _Probe:
    """An attempt: `attempt` raises `refused` where the protection works; {path} is a file that everybody may change."""

    held: str
    lacking: str
    attempt: str
    refused: str = "OSError"

    def task(self, path: str) -> Task:
        attempt = self.attempt.replace("{path}", repr(path))
        solution = f"def refused():\n    try:\n        {attempt}\n    except {self.refused}:\n        return True\n"
        return Task(solution, "assert refused()", "refused")


_PROBES = (
    _Probe("a limit of its memory", "It can fill this machine's memory.", "len(bytearray(1 << 30))", "MemoryError"),
    _Probe(
        "no processes of its own",
        "It can start processes that outlive it.",
        "import os; os.fork() or os._exit(0)",
        "(OSError, AttributeError)",
    ),
    _Probe("no network and no sockets", "It can use the network.", "import socket; socket.socket().close()"),
    _Probe("no signals to other processes", "It can signal your processes.", "import os; os.kill(os.getpid(), 0)"),
    _Probe("no sight of your files", "It can read your files.", "open({path}).close()"),
    _Probe("no change of your files", "It can change your files.", "open({path}, 'a').close()"),
)


@lru_cache(maxsize=4)
def protections(box: Box | None = None) -> Protections:
    """Try what a program could do here; takes about a second.

    Args:
        box: what is around the program; what `run_program` takes if None.
    """
    box = box or best_box()
    holds = ["a process of its own without your environment", "a time limit", "a judge that it cannot see"]
    if box is Box.BUBBLEWRAP:
        holds.insert(0, "namespaces of its own (bubblewrap)")
    lacks: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pass-sandbox-probe-") as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "probe")
        path.write_text("x")
        path.chmod(0o666)
        for probe in _PROBES:
            works = run_program(probe.task(str(path)), box=box).verdict is Verdict.PASSED
            (holds if works else lacks).append(probe.held if works else probe.lacking)
    return Protections(tuple(holds), tuple(lacks), _advice(box))


def _advice(box: Box) -> str:
    if box is Box.BUBBLEWRAP:
        return ""
    if not sys.platform.startswith("linux"):
        return "Linux with bubblewrap holds a program back best."
    if bubblewrap() is None:
        return "The package bubblewrap, where it is installed, puts namespaces around each program, too."
    return "Bubblewrap is installed, but no program runs in it here (user namespaces may be forbidden)."
