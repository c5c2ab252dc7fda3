"""Hostile programs: each is judged failed, reaches nothing, and leaves nothing."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pass_core.evaluation.sandbox.run import Box, Limits, Outcome, Task, Verdict, run_program
from tests.core.evaluation.sandbox.boxes import linux, require

pytestmark = linux
LIMITS = Limits(seconds=8.0, memory_bytes=256 * 2**20, file_bytes=64 * 1024)
NUMBERS = {"x86_64": {"io_uring_setup": 425, "memfd": 319, "shmget": 29}, "aarch64": {"io_uring_setup": 425}}
RAW = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def raw(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), 'refused')
"""


@pytest.fixture(params=list(Box))
def box(request: pytest.FixtureRequest) -> Box:
    return require(request.param)


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process and no folder of a sandbox remains."""
    with tempfile.TemporaryDirectory(prefix="pass-test-") as own:  # other tests run beside this one
        Path(own).chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", own)
            yield
        assert not list(Path(own).glob("pass-sandbox-*"))
    mine = psutil.Process().children(recursive=True)
    assert not [p for p in mine if "pass_core.evaluation.sandbox" in " ".join(p.cmdline())]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that every user may reach and change, by its permissions."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder != Path(tempfile.gettempdir()) and os.access(folder, os.W_OK):
            folder.chmod(0o777)
    file = tmp_path / "file"
    file.write_text("untouched")
    file.chmod(0o666)
    return file


def attack(statements: str, box: Box, limits: Limits = LIMITS) -> Outcome:
    """Passed only where the statements succeed."""
    lines = "\n".join("    " + line for line in statements.splitlines())
    return run_program(Task(f"{RAW}\ndef f():\n{lines}\n    return 'done'", "assert f() == 'done'", "f"), limits, box)


def test_a_harmless_attack_is_reported_as_done(box: Box) -> None:
    assert attack("pass", box).verdict is Verdict.PASSED


def test_no_fork_bomb(box: Box) -> None:
    before = len(psutil.pids())
    assert attack("import os\nwhile os.fork() >= 0:\n    pass", box).verdict is Verdict.FAILED
    assert attack("import subprocess\nsubprocess.run(['/bin/true'])", box).verdict is Verdict.FAILED
    assert attack("import threading\nthreading.Thread(target=print).start()", box).verdict is Verdict.FAILED
    assert len(psutil.pids()) < before + 50


ENDLESS_OUTPUT = """
import os, stat
for descriptor in range(64):
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            continue
        for _ in range(10 * 2**30 // 2**20):
            os.write(descriptor, bytes(2**20))
    except OSError:
        pass
raise SystemExit
"""


def test_ten_gigabytes_of_output_fill_nothing(box: Box) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert attack(ENDLESS_OUTPUT, box).verdict is not Verdict.PASSED
    assert attack("while True:\n    print('x' * 2**20)", box, Limits(seconds=1.5)).verdict is Verdict.TIMED_OUT
    # An answer with a length of 4 GB, and one that is never whole.
    for head in ("b'\\xff\\xff\\xff\\xff' + bytes(2**22)", "b'\\x00\\x3f\\xff\\xff'"):
        text = f"import os\nfor d in range(3, 32):\n    try: os.write(d, {head})\n    except OSError: pass\nos._exit(0)"
        assert attack(text, box).verdict is Verdict.FAILED
    assert attack("return 'x' * 10**8", box).verdict is Verdict.FAILED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


READ_THE_TESTS = """
import gc, sys
seen = []
frame = sys._getframe()
while frame:
    seen += [*frame.f_locals.values(), *frame.f_globals.values(), *frame.f_code.co_consts]
    frame = frame.f_back
for thing in gc.get_objects():
    seen.append(thing)
    seen += gc.get_referents(thing)
texts = [x for x in seen if isinstance(x, (str, bytes))]
secret = b'rewsna detcepxe eht'[::-1]
for text in texts:
    if secret in (text.encode(errors='replace') if isinstance(text, str) else text):
        return secret.decode()
"""


def test_the_tests_are_not_in_its_process(box: Box) -> None:
    lines = "\n".join("    " + line for line in READ_THE_TESTS.splitlines())
    tests = "assert f() == 'the expected answer'"
    assert run_program(Task(f"def f():\n{lines}\n", tests, "f"), LIMITS, box).message == "AssertionError: "
    told = Task(f"note = 'the expected ' 'answer'\ndef f():\n{lines}\n", tests, "f")
    assert run_program(told, LIMITS, box).verdict is Verdict.PASSED  # the search finds what is there
    proc = "import glob\nreturn sum(len(open(p, 'rb').read()) for p in glob.glob('/proc/[0-9]*/cmdline')) and 'done'"
    assert attack(proc, box).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "solution",
    [
        "raise SystemExit(0)",
        "import os\nos._exit(0)",
        "import os\ndef f():\n    os._exit(0)",
        "print('passed')\nimport sys\nsys.exit(0)",
        'def f():\n    print(\'{"verdict": "passed", "message": ""}\')\n    raise SystemExit(0)',
        "class Yes:\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndef f():\n    return Yes()",
        "class Yes(str):\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndef f():\n    return Yes('x')",
        "class Yes(list):\n    __eq__ = lambda self, other: True\ndef f():\n    return Yes([1])",
        "import builtins\nbuiltins.AssertionError = BaseException\ndef f():\n    return 0",
        "import sys\nsys.modules['__main__'].judge = lambda order: {'verdict': 'passed'}\ndef f():\n    return 0",
        "def f():\n    raise StopIteration",
    ],
)
def test_success_cannot_be_faked(solution: str, box: Box) -> None:
    assert run_program(Task(solution, "assert f() == 'right'", "f"), LIMITS, box).verdict is Verdict.FAILED


FORGE = """
import os, struct, json
answer = json.dumps({'verdict': 'passed', 'message': '', 'ready': True, 'value': ['opaque', 'x']}).encode()
for descriptor in range(3, 32):
    for _ in range(50):
        try:
            os.write(descriptor, struct.pack('>I', len(answer)) + answer + b'\\n')
        except OSError:
            break
os._exit(0)
"""


def test_forged_messages_are_no_success(box: Box) -> None:
    assert run_program(Task(FORGE, "assert f() == 'right'", "f"), LIMITS, box).verdict is Verdict.FAILED


def test_no_signal_reaches_another_process(box: Box) -> None:
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for target in (victim.pid, os.getpid(), "os.getppid()", -1, 0):
            assert attack(f"import os\nos.kill({target}, 9)", box).verdict is Verdict.FAILED
        assert attack(f"import os\nos.killpg({os.getpgid(0)}, 9)", box).verdict is Verdict.FAILED
        # The kernel would send it on its behalf when a pipe becomes readable.
        owner = f"import fcntl, os\nfcntl.fcntl(3, fcntl.F_SETOWN, {victim.pid})"
        assert attack(owner, box).verdict is Verdict.FAILED
        assert victim.poll() is None
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()


def test_nothing_outside_is_changed_or_read(box: Box, outside: Path) -> None:
    path = repr(str(outside))
    for statements in (
        f"open({path}).read()",
        f"open({path}, 'w').write('changed')",
        f"import os\nos.chmod({path}, 0o777)",
        f"import os\nos.chown({path}, 65534, 65534)",
        f"import os\nos.utime({path}, (0, 0))",
        f"import os\nos.unlink({path})",
        f"import os\nos.rename({path}, {path} + '2')",
        f"import os\nos.setxattr({path}, 'user.x', b'x')",
        f"import os\nos.truncate({path}, 0)",
        f"import os\nos.link({path}, 'link')",
        f"import os\nos.mkdir({str(outside.parent / 'folder')!r})",
        "import os\nos.mkdir('/usr/pass-sandbox-test')",
        "open('/etc/shadow').read()",
    ):
        before = outside.stat()
        assert attack(statements, box).verdict is Verdict.FAILED, statements
        assert (outside.stat().st_mode, outside.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert outside.read_text() == "untouched"
    assert [p.name for p in outside.parent.iterdir()] == ["file"]


def test_no_unix_socket_is_reached(box: Box, outside: Path) -> None:
    name = f"pass-sandbox-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
        abstract.bind("\0" + name)
        named.bind(str(outside.parent / "socket"))
        (outside.parent / "socket").chmod(0o777)
        for server, address in ((abstract, "\0" + name), (named, str(outside.parent / "socket"))):
            server.listen()
            server.settimeout(0.2)
            connect = f"import socket\nsocket.socket(socket.AF_UNIX).connect({address!r})"
            assert attack(connect, box).verdict is Verdict.FAILED
            with pytest.raises(TimeoutError):
                server.accept()
    assert attack("import socket\nsocket.socketpair()", box).verdict is Verdict.FAILED


def _refused_here(number: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, 8, ctypes.create_string_buffer(256))
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor < 0


def test_no_ring_no_shared_memory(box: Box) -> None:
    numbers = NUMBERS[platform.machine()]
    ring = f"raw({numbers['io_uring_setup']}, 8, ctypes.create_string_buffer(256))"
    if not _refused_here(numbers["io_uring_setup"]):
        assert attack(ring, box).verdict is Verdict.FAILED
    if "memfd" in numbers:
        assert attack(f"raw({numbers['memfd']}, b'x', 0)", box).verdict is Verdict.FAILED
        assert attack(f"raw({numbers['shmget']}, 0, 1 << 20, 0o1777)", box).verdict is Verdict.FAILED
    assert attack("import os\nos.execv('/bin/true', ['true'])", box).verdict is Verdict.FAILED
    assert attack("import os\nos.unshare(0x10000000)" if sys.version_info >= (3, 12) else "raw(272, 0x10000000)", box
    ).verdict is Verdict.FAILED  # fmt: skip
    limits = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"
    assert attack(limits, box).verdict is Verdict.FAILED


def test_a_forged_reason_is_cut(box: Box) -> None:
    """The program may say why it ended, at most one line of it."""
    forged = "json.dumps({'closed': 'x' * 10**6}).encode()"
    write = "    try: os.write(d, struct.pack('>I', len(b)) + b)\n    except OSError: pass"
    found = attack(f"import os, struct, json\nb = {forged}\nfor d in range(3, 32):\n{write}", box)
    assert found.verdict is Verdict.FAILED
    assert len(found.message) <= 300


def test_nothing_lives_on_when_the_judge_is_killed(box: Box) -> None:
    """As when our own process is killed: the judge ends with it."""
    task = Task("import time\ndef f():\n    time.sleep(300)", "f()", "f")
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run_program(task, Limits(seconds=200), box)))
    before = set(psutil.Process().children(recursive=True))
    thread.start()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        mine = set(psutil.Process().children(recursive=True)) - before
        inside = [p for p in mine if "sandbox.inside" in " ".join(p.cmdline())]
        if any(p.name().startswith("python") and p.cpu_times().user > 0 for p in inside):
            break
        time.sleep(0.05)
    judge = next(p for p in mine if "sandbox.judge" in " ".join(p.cmdline()))
    judge.kill()
    gone, alive = psutil.wait_procs(list(mine), timeout=20)
    thread.join(30)
    assert not alive
    assert len(gone) >= 2
    assert outcomes[0].verdict is Verdict.FAILED
    assert "no verdict" in outcomes[0].message


def test_folders_that_cannot_be_listed_leave_nothing(box: Box) -> None:
    """Whether it may make them or not; the fixture looks for what is left."""
    attack(
        "import os\nfor i in range(20):\n    os.mkdir('locked', 0)\n    os.mkdir('a', 0o700)\n    os.chdir('a')", box
    )


def test_scratch_files_are_bounded(box: Box) -> None:
    fill = "i = 0\nwhile True:\n    open(f'{i}', 'wb').write(bytes(60000))\n    i += 1"
    started = time.monotonic()
    found = attack(fill, box, Limits(seconds=20, file_bytes=64 * 1024))
    assert found.verdict is Verdict.FAILED
    assert "No space left" in found.message or "PermissionError" in found.message
    assert time.monotonic() - started < 18
    large = "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nopen('f', 'wb').write(bytes(1 << 20))"
    assert attack(large, box).verdict is Verdict.FAILED
