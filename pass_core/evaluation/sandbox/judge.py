"""The judge: a process that holds the tests, calls the program's function through pipes, and decides.

The program runs in another process, which has neither the tests nor the pipe of the verdict. What it prints, its exit
status and the frames it finds decide nothing. Started by `run` as `python -I -S -B -c …`.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from typing import IO, Any

from pass_core.evaluation.sandbox import restrict
from pass_core.evaluation.sandbox.wire import WireError, pack, receive, send, unpack

COMMAND = "import sys; sys.path.insert(0, {root!r}); from pass_core.evaluation.sandbox.judge import main; main()"
_MEMORY = 1 * 2**30


class ProgramEnded(Exception):
    """The program's process is gone, or does not keep to the protocol."""


class Program:
    """The program's process as the tests see it: its function can be called.

    Args:
        order: `run`'s order: command, solution, limits.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._process = subprocess.Popen(
            order["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=order["folder"],
            env={},
            close_fds=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._calls: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        self.timed_out = False
        self._timer = threading.Timer(order["seconds"], self._expire)
        self._timer.daemon = True
        self._timer.start()

    def define(self) -> None:
        """Have the program's text executed, up to the point where its function can be called.

        Raises:
            as `call`.
        """
        names = ("solution", "boxed", "seconds", "memory", "file_size")
        self._result(self._ask({name: self._order[name] for name in names}))

    def call(self, name: str, *arguments: object, **named: object) -> Any:
        """What the program's function returns, as plain data; arguments that it changed are changed here, too.

        Raises:
            ProgramEnded: no answer.
            Exception: of the builtin type that the function raised.
        """
        answer = self._ask({"name": name, "arguments": pack(list(arguments)), "named": pack(named)})
        value = self._result(answer)
        try:
            for before, after in zip(arguments, unpack(answer.get("arguments")), strict=True):
                _copy_into(before, after)
        except (TypeError, ValueError, WireError):
            raise ProgramEnded("sent an answer that is no message") from None
        return value

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            send(self._calls, message)
            answer = receive(self._answers)
        except OSError:
            answer = None
        except WireError as error:
            raise ProgramEnded(f"sent {error}") from None
        if answer is None:
            raise ProgramEnded(self._how_it_ended())
        return answer

    def _result(self, answer: dict[str, Any]) -> Any:
        if "raised" in answer:
            raise _error(str(answer["raised"]), str(answer.get("message", "")))
        if "closed" in answer:
            raise ProgramEnded(str(answer["closed"]))
        if "ready" in answer:
            return None
        try:
            return unpack(answer.get("value"))
        except WireError as error:
            raise ProgramEnded(f"sent {error}") from None

    def _how_it_ended(self) -> str:
        if self.timed_out:
            return f"did not end within {self._order['seconds']:g} s"
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        cpu = getattr(signal, "SIGXCPU", None)
        if cpu is not None and status in (-cpu, 128 + cpu):
            self.timed_out = True
            return "used up its processor time"
        return f"ended by itself (status {status}) before its tests had"

    def _expire(self) -> None:
        self.timed_out = True
        self._process.kill()

    def end(self) -> None:
        """Kill the process and wait for it."""
        self._timer.cancel()
        self._process.kill()
        self._process.wait()


def _copy_into(before: object, after: object) -> None:
    if isinstance(before, list) and isinstance(after, list):
        before[:] = after
    elif isinstance(before, (dict, set)) and type(before) is type(after):
        before.clear()
        before.update(after)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _error(name: str, message: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:  # UnicodeDecodeError wants five arguments
            return RuntimeError(f"{name}: {message}")
    return type(name, (RuntimeError,), {})(message)


def judge(order: dict[str, Any]) -> dict[str, str]:
    """Run the tests against the program: {"verdict": passed, failed or timed out, "message": …}."""
    program = None
    try:
        scope: dict[str, Any] = {"__name__": "__tests__"}
        exec(compile(order["helpers"], "helpers", "exec"), scope)
        program = Program(order)
        program.define()
        scope[order["entry_point"]] = partial(program.call, order["entry_point"])
        exec(compile(order["tests"], "tests", "exec"), scope)
    except ProgramEnded as error:
        timed_out = program is not None and program.timed_out
        return {"verdict": "timed out" if timed_out else "failed", "message": str(error)[:300]}
    except BaseException as error:
        return {"verdict": "failed", "message": f"{type(error).__name__}: {error}".replace("\n", " ")[:300]}
    finally:
        if program is not None:
            program.end()
    return {"verdict": "passed", "message": ""}


def main() -> None:
    """Read one order from standard input, write one verdict to standard output."""
    restrict.die_with_parent()
    out = os.fdopen(os.dup(1), "w")
    order = json.loads(sys.stdin.buffer.read())
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    if restrict.resource is not None and restrict.LINUX:
        restrict.resource.setrlimit(restrict.resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    out.write(json.dumps(judge(order)) + "\n")
    out.flush()
