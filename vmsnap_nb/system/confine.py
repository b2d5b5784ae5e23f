"""QEMU's tools open the files of a plan and no others: whatever a header names by then, the kernel refuses the rest.

The owner of an image can write another backing or data file into its header after it was read, and QEMU would open that
with the rights of whoever merges. Landlock (Linux 5.13) takes these rights from the tool before it starts, by file and
not by name. It needs no privilege. Without it, on older kernels, the tools run as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from vmsnap_nb.model.identity import Identity
from vmsnap_nb.system.files.devices import identity_of

__all__ = ["MORE", "FileOf", "handed_over", "is_confined", "may_write", "only", "runs_confined", "start", "version"]

T = TypeVar("T")

_TOOLS = frozenset({"qemu-img", "qemu-io"})
_SYSTEM = ("/usr", "/opt", "/nix", "/gnu")
"""Where programs and their libraries are; one that is elsewhere may need anything, and is not confined."""
_KINDS = ("bin", "lib", "lib32", "lib64", "libexec", "sbin", "share")
_READ = (
    *(f"{top}/{kind}" for top in ("/usr", "/usr/local") for kind in _KINDS),
    *("/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/ssl/openssl.cnf", "/etc/gnutls/config", "/etc/localtime", "/sys/devices/system"),
)
"""What every user may read anyway, since a header can have it copied: not the settings, keys and serial numbers beside.

Of other folders, such as /opt, only that of the tool itself is added.
"""
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on all machines
_VERSION, _BENEATH = 1, 1
_WRITES, _READS, _TRUNCATES = 1 << 1, 1 << 2, 1 << 14
_TCP = 0b11
_NO_NEW_PRIVS = 38
_SECONDS = 20.0
_RULE = struct.Struct("=Qi")

MORE: list[str] = []
"""Files and folders that every tool may also use, such as those of a library that is loaded into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOf:
    """A file that may be opened: the one with this identity or, where none is given, no link to another."""

    path: str
    identity: Identity | None = None
    write: bool = False


_only: ContextVar[tuple[FileOf, ...] | None] = ContextVar("only", default=None)
_folders: ContextVar[tuple[str, ...]] = ContextVar("folders", default=())


@contextlib.contextmanager
def only(files: Iterable[FileOf] | None) -> Iterator[None]:
    """Let the tools that this thread starts open these files alone; any if None is given."""
    token = _only.set(None if files is None else tuple(files))
    try:
        yield
    finally:
        _only.reset(token)


@contextlib.contextmanager
def may_write(folder: str) -> Iterator[None]:
    """Let the tools that this thread starts use a folder of this process, too."""
    token = _folders.set((*_folders.get(), folder))
    try:
        yield
    finally:
        _folders.reset(token)


def is_confined(argv: Sequence[str]) -> bool:
    """Return whether a program is started with `start`: a tool of QEMU, while `only` says what it may open."""
    return _only.get() is not None and argv[0] in _TOOLS and version() > 0 and runs_confined(argv[0])


def start(begin: Callable[[], T], argv: Sequence[str]) -> T:
    """Begin a program in a thread that has given up all but the files that may be opened; the program inherits that."""
    rules = [*_rules(argv)]
    result: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            _restrict(rules)
            result.append(begin())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            failed.append(error)

    try:
        thread = threading.Thread(target=work, name="vmsnap: start", daemon=True)
        thread.start()
        thread.join()
    finally:
        for fd, _ in rules:
            os.close(fd)
    if failed:
        raise failed[0]
    return result[0]


def handed_over(argv: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return a command that names files by descriptors of this process as one that inherits these, and which they are.

    A program that is confined cannot look at what another process has open.
    """
    own = _own()
    words = tuple(own.sub(r"/proc/self/fd/\1", word) for word in argv)
    return words, tuple(_descriptors(argv))


def _own() -> re.Pattern[str]:
    return re.compile(rf"/proc/{os.getpid()}/fd/(\d+)")


def _descriptors(argv: Sequence[str]) -> Iterator[int]:
    own = _own()
    return (int(number) for word in argv for number in own.findall(word))


@cache
def runs_confined(program: str) -> bool:
    """Return whether a program is one of the system, and can load its libraries when it is confined."""
    found = shutil.which(program)
    if found is None or not os.path.realpath(found).startswith(tuple(f"{folder}/" for folder in _SYSTEM)):
        return False
    argv, quiet = (found, "--version"), subprocess.DEVNULL
    try:
        with start(lambda: subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet), argv) as process:
            return process.wait(_SECONDS) == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@cache
def version() -> int:
    """Return the version of Landlock that the kernel has, 0 if it has none or a container keeps it away."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return 0
    return max(0, _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))


def _rules(argv: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield descriptors with what may be done with them, and below them."""
    libraries = (os.environ.get(name, "") for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR"))
    loaded = [path for paths in libraries for path in paths.replace(" ", ":").split(":") if path.startswith("/")]
    places = [(path, _READS) for path in (*_READ, *_beside(argv[0]), *loaded)]
    places += [(path, _READS | _WRITES | _TRUNCATES) for path in (*_DEVICES, *MORE, *_folders.get())]
    for path, rights in places:
        with contextlib.suppress(OSError):
            yield os.open(path, os.O_PATH | os.O_CLOEXEC), rights
    for own in _descriptors(argv):
        yield os.dup(own), _READS | _WRITES | _TRUNCATES
    for file in _only.get() or ():
        fd = _opened(file)
        if fd is not None:
            yield fd, _READS | (_WRITES | _TRUNCATES if file.write else 0)
            yield from ((own, _READS) for own in _told_of(fd))


def _beside(program: str) -> Iterator[str]:
    """Yield the folder of a program that has one of its own, as in /opt."""
    path = os.path.realpath(shutil.which(program) or program)
    if not path.startswith(tuple(f"{folder}/" for folder in _READ)):
        yield "/".join(path.split("/")[:3])


def _told_of(fd: int) -> Iterator[int]:
    """Yield a descriptor of the folder in which the kernel describes a block device: QEMU reads its limits there."""
    found = os.fstat(fd)
    if stat.S_ISBLK(found.st_mode):
        number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        with contextlib.suppress(OSError):
            yield os.open(f"/sys/dev/block/{number}", os.O_PATH | os.O_CLOEXEC)


def _opened(file: FileOf) -> int | None:
    """Return a descriptor of a file; None if it is not there, or is another one by now: that is not allowed then."""
    flags = os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if file.identity is None else 0)
    try:
        fd = os.open(file.path, flags)
    except OSError:
        return None
    found = os.fstat(fd)
    same = file.identity in (None, identity_of(found))
    if same and (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        return fd
    os.close(fd)
    return None


def _restrict(rules: Iterable[tuple[int, int]]) -> None:
    """Take from this thread, and from what it starts, all files but these, and the network."""
    known = version()
    handled = _READS | _WRITES | (_TRUNCATES if known > 2 else 0)
    attributes = struct.pack("=QQ", handled, _TCP)[: 16 if known > 3 else 8]
    ruleset = _check(_call(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)))
    try:
        for fd, rights in rules:
            rule = _RULE.pack(rights & handled, fd)
            _check(_call(_ADD, ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), rule, ctypes.c_uint32(0)))
        _check(int(ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)))
        _check(_call(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
