"""A process gives up rights before it runs somebody's program: limits, system calls, files.

Everything here works on the calling process and cannot be undone. Standard library only: it runs under `python -I -S`.
Sources: seccomp(2), landlock(7), setrlimit(2).
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

LINUX = sys.platform.startswith("linux")
NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

_ALLOWED = {
    # name: (x86_64, aarch64); what Python needs to compute, to import and to use files. Nothing that makes processes,
    # sockets, rings (io_uring), signals to others, shared memory, or changes modes and owners.
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "pwrite64": (18, 68),
    "close": (3, 57), "lseek": (8, 62), "open": (2, None), "openat": (257, 56), "stat": (4, None), "lstat": (6, None),
    "fstat": (5, 80), "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "readlink": (89, None),
    "readlinkat": (267, 78), "mkdir": (83, None), "mkdirat": (258, 34), "unlink": (87, None), "unlinkat": (263, 35),
    "rmdir": (84, None), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "ftruncate": (77, 46),
    "dup": (32, 23), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216),
    "madvise": (28, 233), "brk": (12, 214), "futex": (202, 98), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "getrusage": (98, 165), "getrandom": (318, 278), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "uname": (63, 160),
    "sysinfo": (99, 179), "exit": (60, 93), "exit_group": (231, 94), "restart_syscall": (219, 128),
}  # fmt: skip
_AUDIT = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def die_with_parent() -> None:
    """End when the starting process does (Linux)."""
    if LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)


def set_limits(seconds: float, memory: int, file_size: int) -> None:
    """Limit processor time (seconds), address space and file size (bytes), open files and core dumps.

    Raises:
        OSError, ValueError: on Linux, where all of them exist and one cannot be set.
    """
    if resource is None:
        return
    whole = max(1, int(seconds + 0.999))
    wanted = (
        ("RLIMIT_CPU", (whole, whole + 1)),
        ("RLIMIT_AS", (memory, memory)),
        ("RLIMIT_FSIZE", (file_size, file_size)),
        ("RLIMIT_NOFILE", (32, 32)),
        ("RLIMIT_CORE", (0, 0)),
    )
    for name, value in wanted:
        try:
            resource.setrlimit(getattr(resource, name), value)
        except (AttributeError, OSError, ValueError):
            if LINUX:  # elsewhere some of them do not exist or cannot be lowered
                raise
    if not LINUX:
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        except (AttributeError, OSError, ValueError):
            return


def become_nobody() -> None:
    """A superuser becomes nobody, where nobody can read Python's files."""
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


def read_only_files() -> bool:
    """Landlock: read Python's and the system's own folders, write nothing. False where the system has no Landlock."""
    if not LINUX:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    read = 0b1101  # execute, read a file, list a folder
    every = (1 << 13) - 1 | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    handled = struct.pack("=QQ", every, 0b11) if version >= 4 else struct.pack("=Q", every)
    rules = libc.syscall(_LANDLOCK_CREATE, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    if rules < 0:
        return False
    for path in ("/usr", "/lib", "/lib64", "/dev/null", "/dev/urandom", sys.base_prefix):
        _allow(libc, rules, path, read)
    restricted = libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)) == 0
    os.close(rules)
    return restricted


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_PATH", 0))
    except OSError:
        return
    if not os.path.isdir(path):
        rights &= 0b111
    rule = struct.pack("=Qi", rights, handle)
    libc.syscall(_LANDLOCK_ADD, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    os.close(handle)


def filter_calls() -> bool:
    """Seccomp: of the kernel's calls only the listed ones; any other fails with EPERM, for a superuser, too.

    False on systems and processors without it.
    """
    machine = os.uname().machine if hasattr(os, "uname") else ""
    if not LINUX or machine not in _AUDIT or struct.calcsize("P") != 8:
        return False
    column, architecture = _AUDIT[machine]
    numbers = [number for row in _ALLOWED.values() if (number := row[column]) is not None]
    load, equal, give = 0x20, 0x15, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | 1, 0x80000000
    # x86's second table (x32) has other numbers for the same calls: none is in the list, so all are refused.
    instructions = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        *((equal, len(numbers) - i, 0, number) for i, number in enumerate(numbers)),
        (give, 0, 0, refuse),
        (give, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in instructions))
    program = struct.pack("=H6xQ", len(instructions), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0) == 0
