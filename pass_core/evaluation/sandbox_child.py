"""The inside of the sandbox: give up rights, then run the program from standard input. Runs alone, under -I -S.

Arguments: seconds, memory in bytes, file size in bytes, working folder. The first line of standard input is the word
that is printed, alone, after the program ran to its end. If a limit that this system has cannot be set, nothing runs.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None

CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
NOBODY = 65534
LINUX = sys.platform.startswith("linux")

# Numbers of: clone, fork, vfork, clone3 (no processes, no threads), socket, kill, ptrace, pidfd_send_signal,
# process_vm_writev.
DENIED = {
    "x86_64": (0xC000003E, (56, 57, 58, 435, 41, 62, 101, 424, 311)),
    "aarch64": (0xC00000B7, (220, 435, 198, 129, 117, 424, 271)),
}


def become_nobody() -> None:
    """A superuser may write everywhere; where Python can be read by everyone it continues as nobody."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not _readable_by_all(os.path.dirname(os.__file__)):
        return
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def _readable_by_all(path: str) -> bool:
    while True:
        if os.stat(path).st_mode & 0o005 != 0o005:
            return False
        above = os.path.dirname(path)
        if above == path:
            return True
        path = above


def leave_namespaces() -> None:
    """No network device and no sight of other processes, where user namespaces are allowed."""
    if not LINUX:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC) != 0:
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
        return
    # Only children live in the new process namespace: the program runs in one, and dies with its parent.
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    libc.prctl(PR_SET_PDEATHSIG, 9)


def set_limits(seconds: float, memory: int, file_size: int) -> None:
    """Processor time, memory, file size, open files, processes."""
    if resource is None:
        return
    whole = max(1, int(seconds + 0.999))
    wanted = (
        ("RLIMIT_CPU", (whole, whole + 1)),
        ("RLIMIT_AS", (memory, memory)),
        ("RLIMIT_FSIZE", (file_size, file_size)),
        ("RLIMIT_NOFILE", (32, 32)),
        ("RLIMIT_CORE", (0, 0)),
        ("RLIMIT_NPROC", (1, 1)),
    )
    for name, value in wanted:
        try:
            resource.setrlimit(getattr(resource, name), value)
        except (AttributeError, OSError, ValueError):
            if LINUX:  # elsewhere some of them do not exist or cannot be lowered
                raise


def restrict_files(folder: str) -> None:
    """Landlock: write only in `folder`; read only there and in Python's and the system's own folders."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return
    read = 0b1101  # execute, read a file, list a folder
    every = (1 << 13) - 1 | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    handled = struct.pack("=QQ", every, 0b11) if version >= 4 else struct.pack("=Q", every)
    rules = libc.syscall(LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    if rules < 0:
        return
    own = [sys.prefix, sys.base_prefix, *(p for p in sys.path if p and os.path.isdir(p))]
    for path in ("/usr", "/lib", "/lib64", "/dev/null", "/dev/urandom", *own):
        _allow(libc, rules, path, read)
    _allow(libc, rules, folder, every)
    libc.syscall(LANDLOCK_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_PATH", 0))
    except OSError:
        return
    if not os.path.isdir(path):
        rights &= 0b111
    rule = struct.pack("=Qi", rights, handle)
    libc.syscall(LANDLOCK_ADD, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    os.close(handle)


def deny_calls() -> None:
    """Seccomp: no new processes or threads, no sockets, no signals to others; also for a superuser."""
    machine = os.uname().machine
    if machine not in DENIED or struct.calcsize("P") != 8:
        return
    architecture, numbers = DENIED[machine]
    load, equal, above, give = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | 1, 0x80000000
    filters = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        (above, len(numbers) + 1, 0, 0x40000000),  # x86's other way to number the same calls
        *((equal, len(numbers) - i, 0, number) for i, number in enumerate(numbers)),
        (give, 0, 0, allow),
        (give, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *f) for f in filters))
    program = struct.pack("=H6xQ", len(filters), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0)


def main() -> None:
    seconds, memory, file_size, folder = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    word, _, program = sys.stdin.buffer.read().decode().partition("\n")
    out = os.fdopen(os.dup(1), "w")
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    try:
        os.chdir(folder)
        become_nobody()
        leave_namespaces()
        set_limits(seconds, memory, file_size)
        if LINUX:
            ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            restrict_files(folder)
            deny_calls()
    except Exception as error:
        out.write(f"the sandbox could not be closed, so nothing ran: {error}\n")
        out.flush()
        os._exit(1)
    sys.argv = [""]
    try:
        exec(compile(program, "program", "exec"), {"__name__": "__program__"})
    except BaseException as error:
        out.write(f"{type(error).__name__}: {error}".replace("\n", " ").replace(word, "")[:300] + "\n")
        out.flush()
        os._exit(1)
    out.write(word + "\n")
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
