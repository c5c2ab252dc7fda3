"""Programs that misbehave, and what becomes of them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from pass_core.evaluation.sandbox import Limits, Verdict, protections, run_program

SHORT = Limits(seconds=2.0, memory_bytes=256 * 2**20, file_bytes=64 * 1024)
unix = pytest.mark.skipif(os.name != "posix", reason="limits are Unix's")


def test_a_right_program_passes_and_a_wrong_one_says_why() -> None:
    assert run_program("assert sorted([2, 1]) == [1, 2]").verdict is Verdict.PASSED
    outcome = run_program("assert 1 == 2, 'not equal'")
    assert outcome.verdict is Verdict.FAILED
    assert outcome.message == "AssertionError: not equal"
    assert run_program("def broken(:").message.startswith("SyntaxError")


def test_the_standard_library_can_be_used() -> None:
    program = (
        "import math, re, collections, heapq, itertools, hashlib, typing\nassert hashlib.md5(b'').hexdigest()[0] == 'd'"
    )
    assert run_program(program).message == ""


@pytest.mark.parametrize(
    "program", ["raise SystemExit(0)", "import os\nos._exit(0)", "print('passed')\nraise ValueError"]
)
def test_leaving_early_is_no_success(program: str) -> None:
    assert run_program(program).verdict is Verdict.FAILED


@unix
def test_an_endless_loop_is_ended() -> None:
    started = time.monotonic()
    assert run_program("while True:\n    pass", SHORT).verdict is Verdict.TIMED_OUT
    assert run_program("import time\ntime.sleep(60)", Limits(seconds=0.5)).verdict is Verdict.TIMED_OUT
    assert time.monotonic() - started < 30


@unix
def test_a_memory_bomb_fails() -> None:
    outcome = run_program("x = bytearray(1 << 30)", SHORT)
    assert outcome.verdict is Verdict.FAILED
    assert "MemoryError" in outcome.message


@unix
def test_no_process_can_be_started() -> None:
    outcome = run_program("import os\nwhile True:\n    os.fork()", SHORT)
    assert outcome.verdict is Verdict.FAILED
    assert outcome.message.startswith(("BlockingIOError", "PermissionError"))


@unix
def test_files_cannot_grow_beyond_the_limit() -> None:
    program = "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nopen('f', 'wb').write(bytes(1 << 20))"
    outcome = run_program(program, SHORT)
    assert outcome.verdict is Verdict.FAILED
    assert "File too large" in outcome.message


def test_its_folder_is_empty_writable_and_gone_afterwards() -> None:
    program = "import os\nassert os.listdir('.') == []\nopen('a', 'w').write('x')\nassert 0, os.getcwd()"
    outcome = run_program(program)
    folder = Path(outcome.message.removeprefix("AssertionError: "))
    assert folder.name.startswith("pass-sandbox-")
    assert not folder.exists()


def test_the_environment_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    outcome = run_program("import os\nassert 'SECRET_TOKEN' not in os.environ\nassert 'HOME' not in os.environ")
    assert outcome.verdict is Verdict.PASSED, outcome.message


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces and Landlock are Linux's")
def test_network_and_other_files_are_denied_where_it_says_so(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o666)
    tmp_path.chmod(0o777)
    reading = run_program(f"open({str(secret)!r}).read()")
    writing = run_program(f"open({str(secret)!r}, 'w').write('y')")
    listening = "import socket\ns = socket.socket()\ns.connect(('127.0.0.1', 9))"
    network = run_program(listening)
    if "no files but its own" in protections():
        assert (reading.verdict, writing.verdict) == (Verdict.FAILED, Verdict.FAILED)
        assert secret.read_text() == "x"
    if "no network" in protections():
        assert network.verdict is Verdict.FAILED
        assert "refused" not in network.message
    assert protections()[0].startswith("its own process")
