"""What a child that reads untrusted file systems gives up first: all but reading what it has open, and answering.

Needs no privilege. Resource limits alone keep it from opening, writing and starting anything; a seccomp filter allows
only the system calls that reading takes, so that it can neither connect, signal, rename nor remove.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
from collections.abc import Sequence
from struct import Struct

__all__ = ["end_with_parent", "lock_down"]

_PARENT_DEATH_SIGNAL = 1
_NO_NEW_PRIVS, _SECCOMP, _FILTER, _DUMPABLE = 38, 22, 2, 4
_INSTRUCTION = Struct("=HBBI")
_LOAD, _EQUALS, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCH = 0, 4
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # EPERM
_READING = "read write close fstat newfstatat lseek pread64 readv writev preadv preadv2"
_REST = (
    "mmap mprotect munmap brk mremap madvise rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack futex sched_yield "
    "getpid gettid clock_gettime clock_nanosleep getrandom restart_syscall exit exit_group tgkill"
)
"""The system calls that are allowed: their numbers are below, in this order."""
_CALLS = {
    "x86_64": (
        0xC000003E,
        "0 1 3 5 262 8 17 19 20 295 327",
        "9 10 11 12 25 28 13 14 15 131 202 24 39 186 228 230 318 219 60 231 234",
    ),
    "aarch64": (
        0xC00000B7,
        "63 64 57 80 79 62 67 65 66 69 286",
        "222 226 215 214 216 233 134 135 139 132 98 124 172 178 113 115 278 128 93 94 131",
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that has started it ends: nobody waits for an answer then.

    One that has been killed could not do it, and a hostile file system can keep the reader busy for minutes.
    """
    with contextlib.suppress(AttributeError):  # another system than Linux
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before that
        os._exit(1)


def lock_down() -> bool:
    """Give up what is not needed; return whether the seccomp filter holds as well."""
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))  # no file can grow, and no descriptor, process or dump can be made
    system = ctypes.CDLL(None, use_errno=True)
    system.prctl(_DUMPABLE, 0, 0, 0, 0)
    known = _CALLS.get(platform.machine())
    if known is None or ctypes.sizeof(ctypes.c_void_p) != 8 or system.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    arch, reading, rest = known
    numbers = [int(number) for number in f"{reading} {rest}".split()]
    assert len(numbers) == len(f"{_READING} {_REST}".split())
    program = _program(arch, numbers)
    buffer = ctypes.create_string_buffer(program)
    described = _Program(len(program) // _INSTRUCTION.size, ctypes.addressof(buffer))
    if system.prctl(_SECCOMP, _FILTER, ctypes.byref(described), 0, 0):
        return False
    return _refuses_to_connect()


def _program(arch: int, calls: Sequence[int]) -> bytes:
    last = len(calls)
    lines = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUALS, 1, 0, arch),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        *((_EQUALS, last - number, 0, call) for number, call in enumerate(calls)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)


def _refuses_to_connect() -> bool:
    try:
        os.kill(os.getpid(), 0)
    except PermissionError:
        return True
    return False
