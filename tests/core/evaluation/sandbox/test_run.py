"""Right and wrong programs, limits, and what the verdict rests on."""

from __future__ import annotations

import os
import time

import pytest

from pass_core.evaluation.sandbox.protections import protections
from pass_core.evaluation.sandbox.run import Box, Limits, Outcome, Task, Verdict, best_box, run_program
from tests.core.evaluation.sandbox.boxes import require

SHORT = Limits(seconds=3.0, memory_bytes=256 * 2**20, file_bytes=64 * 1024)
unix = pytest.mark.skipif(os.name != "posix", reason="limits are Unix's")


@pytest.fixture(params=list(Box))
def box(request: pytest.FixtureRequest) -> Box:
    return require(request.param)


def outcome(solution: str, box: Box, tests: str = "assert f() == 1", limits: Limits = SHORT) -> Outcome:
    return run_program(Task(solution, tests, "f"), limits, box)


def test_a_right_program_passes_and_a_wrong_one_says_why(box: Box) -> None:
    program = "def f(n=1):\n    return n"
    assert outcome(program, box) == Outcome(Verdict.PASSED)
    wrong = outcome(program, box, "assert f(2) == 1, 'not equal'")
    assert wrong == Outcome(Verdict.FAILED, "AssertionError: not equal")
    assert outcome("def broken(:", box).message.startswith("SyntaxError")
    assert outcome("def g():\n    return 1", box).message == "NameError: name 'f' is not defined"


def test_values_arrive_as_they_are(box: Box) -> None:
    program = "def f(*given):\n    return given"
    values = "[0, -7, 2**200, 1.5, float('inf'), 2j, True, None, 'ü\\ud800', b'x', (1, (2,)), {1: 'a'}, {3}, range(4)]"
    assert outcome(program, box, f"values = {values}\nassert f(*values) == tuple(values)").message == ""
    nan = "x = f(float('nan'))[0]\nassert x != x"
    assert outcome(program, box, nan).message == ""
    subclasses = "import collections\ndef f():\n    return collections.Counter('aab'), collections.OrderedDict(a=1)"
    assert outcome(subclasses, box, "assert f() == ({'a': 2, 'b': 1}, {'a': 1})").message == ""
    assert outcome("def f():\n    return (i for i in 'ab')", box, "assert list(f()) == ['a', 'b']").message == ""


def test_changes_of_arguments_and_exceptions_are_seen(box: Box) -> None:
    tests = "values = [3, 1]\nassert f(values) is None\nassert values == [1, 3]"
    assert outcome("def f(v):\n    v.sort()", box, tests).message == ""
    raising = "try:\n    f(1)\nexcept ZeroDivisionError as e:\n    assert 'division' in str(e)\nelse:\n    assert 0"
    assert outcome("def f(v):\n    return v / 0", box, raising).message == ""
    assert outcome("class Odd(Exception): pass\ndef f():\n    raise Odd('so')", box).message == "Odd: so"


def test_the_standard_library_can_be_used(box: Box) -> None:
    program = "import math, re, collections, heapq, itertools, random, datetime, decimal, typing, hashlib, functools\n"
    tests = "assert f() == 'd41d8cd98f00b204e9800998ecf8427e'"
    assert outcome(program + "def f():\n    return hashlib.md5(b'').hexdigest()", box, tests).message == ""


def test_an_endless_loop_is_ended(box: Box) -> None:
    started = time.monotonic()
    limits = Limits(seconds=1.0)
    assert outcome("def f():\n    while True:\n        pass", box, limits=limits).verdict is Verdict.TIMED_OUT
    assert outcome("while True:\n    pass", box, limits=limits).verdict is Verdict.TIMED_OUT
    sleeping = outcome("import time\ndef f():\n    time.sleep(60)", box, limits=limits)
    assert sleeping == Outcome(Verdict.TIMED_OUT, "did not end within 1 s")
    assert time.monotonic() - started < 30
    endless_answer = outcome("def f():\n    return range(10**12)", box, "for _ in f(): pass", limits)
    assert endless_answer.verdict is Verdict.TIMED_OUT


@unix
def test_a_memory_bomb_fails(box: Box) -> None:
    found = outcome("def f():\n    return len(bytearray(1 << 30))", box)
    assert found.verdict is Verdict.FAILED
    assert "MemoryError" in found.message


def test_the_environment_is_not_seen(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    program = "import os\ndef f():\n    return sorted(os.environ)"
    assert outcome(program, box, "assert not {'SECRET_TOKEN', 'HOME', 'PATH'} & set(f()), f()").message == ""


def test_what_holds_here_is_said() -> None:
    found = protections()
    assert set(found.holds) >= {"a time limit", "a judge that it cannot see"}
    assert ("namespaces of its own (bubblewrap)" in found.holds) == (best_box() is Box.BUBBLEWRAP)
    assert bool(found.advice) == (best_box() is not Box.BUBBLEWRAP)


def test_a_machine_without_protections_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probes tell: where the process keeps its rights, all succeed. Memory stays under the judge's limit."""
    from pass_core.evaluation.sandbox import inside, run

    bare = inside.COMMAND.replace("main()", "import pass_core.evaluation.sandbox.inside as i; i._restrict = id; main()")
    monkeypatch.setattr(run.inside, "COMMAND", bare)
    protections.cache_clear()
    try:
        found = protections(Box.LANDLOCK)
    finally:
        protections.cache_clear()
    assert len(found.lacks) == 5
    assert "It can read your files." in found.lacks
    assert "a limit of its memory" in found.holds
