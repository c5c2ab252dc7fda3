"""The inside of the sandbox: give up rights, run the program, then answer calls of its function.

Started by `judge` as `python -I -S -B -c …`, with or without bubblewrap around it. Standard input brings limits,
program and calls, standard output takes answers; the program gets /dev/null for both.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from pass_core.evaluation.sandbox import restrict
from pass_core.evaluation.sandbox.wire import WireError, pack, receive, send, unpack

COMMAND = "import sys; sys.path.insert(0, {root!r}); from pass_core.evaluation.sandbox.inside import main; main()"


def main() -> None:
    """Serve one program until the pipe ends."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    start = receive(calls)
    if start is None:
        return
    try:
        _restrict(start)
    except Exception as error:
        send(answers, {"closed": f"the sandbox could not be closed, so nothing ran: {error}"})
        return
    sys.argv, sys.path = [""], sys.path[1:]
    scope: dict[str, Any] = {"__name__": "__program__"}
    try:
        exec(compile(start["solution"], "program", "exec"), scope)
        answer = {"ready": True}
    except BaseException as error:
        answer = _raised(error)
    send(answers, answer)
    while (call := receive(calls)) is not None:
        send(answers, _answer(scope, call))


def _restrict(start: dict[str, Any]) -> None:
    if not start["boxed"]:
        restrict.die_with_parent()
        restrict.become_nobody()
        restrict.read_only_files()
    restrict.set_limits(start["seconds"], start["memory"], start["file_size"])
    restrict.filter_calls()


def _answer(scope: dict[str, Any], call: dict[str, Any]) -> dict[str, Any]:
    """Call the function; arguments come back, too, for a function may change them."""
    name = call["name"]
    try:
        if name not in scope:
            raise NameError(f"name {name!r} is not defined")
        arguments, named = unpack(call["arguments"]), unpack(call["named"])
        value = scope[name](*arguments, **named)
        return {"value": pack(value), "arguments": pack(arguments)}
    except WireError as error:
        return {"raised": "ValueError", "message": str(error)}
    except BaseException as error:
        return _raised(error)


def _raised(error: BaseException) -> dict[str, Any]:
    try:
        message = str(error)
    except BaseException:
        message = ""
    return {"raised": type(error).__name__[:100], "message": message.replace("\n", " ")[:300]}
