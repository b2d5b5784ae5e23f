"""Copying into an overlay what it reads from below, without touching its header.

`qemu-img rebase` alone would do, but it writes the new backing file's name before qcow2's tables, and waits for the
disk in between: for all that time, up to many seconds, a crash loses what was copied. Here the overlay is first filled
by QEMU's copy-on-read, and closed, so that the tables are on the disk before the header changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from vmsnap_nb.model.blockmap import Extent
from vmsnap_nb.system import process
from vmsnap_nb.system.files.taken import taken
from vmsnap_nb.system.process import COPY_LIMITS, ProcessResult
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.words.message import t

__all__ = ["fill"]

_MOST_READ = 2 << 20
"""The largest cluster that there is, so that no read begins within one."""
_MOST_ZEROS = 1 << 30
_COMMANDS = 1024
"""Parts that one process copies, up to 2 GiB: to begin another one takes as long as to copy some 40 MiB."""
_KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""For the GNU C library (man 3 mallopt): it would give the memory of each read back to the system, and to have it
cleared again for the next one takes as long as the copying."""


def fill(
    path: str,
    extents: Iterable[Extent],
    *,
    tell: Callable[[float], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Copy parts of a disk into its topmost image, a qcow2 that nobody has open; return whether all was copied.

    The parts are those that it does not hold itself; zeros are written as such. Data must be given in whole clusters:
    in QEMU 7.2 copy-on-read fails an assertion where a read begins within one that has subclusters. What was copied
    before an end or an error does no harm.
    """
    extents = tuple(extents)
    commands = list(_commands(extents))
    progress = _Progress(path, sum(extent.length for extent in extents if not extent.zero), tell)

    def look() -> bool:
        progress.tell()
        return stop()

    for start in range(0, len(commands), _COMMANDS):
        argv = ["qemu-io", "-C", "-f", "qcow2"]
        for command in commands[start : start + _COMMANDS]:
            argv += ("-c", command)
        if _run((*argv, path), path, look).stopped:
            return False
        progress.tell(min(start + _COMMANDS, len(commands)) / len(commands))
    return True


class _Progress:
    """How much was copied, by how much the image has grown on disk: qemu-io says nothing before its end."""

    def __init__(self, path: str, size: int, tell: Callable[[float], None] | None) -> None:
        self._path, self._size, self._tell = path, size, tell
        self._before = taken(path) or 0
        self._known = 0.0

    def tell(self, known: float | None = None) -> None:
        """Report it; `known` is a part that is certain."""
        grown = (taken(self._path) or 0) - self._before
        self._known = max(self._known, known or 0.0, min(0.99, grown / self._size) if self._size else 0.0)
        if self._tell is not None:
            self._tell(self._known)


def _commands(extents: Iterable[Extent]) -> Iterator[str]:
    for extent in extents:
        most = _MOST_ZEROS if extent.zero else _MOST_READ
        for start in range(extent.start, extent.end, most):
            length = min(most, extent.end - start)
            yield f"write -q -z {start} {length}" if extent.zero else f"read -q {start} {length}"


def _run(argv: tuple[str, ...], path: str, stop: Callable[[], bool]) -> ProcessResult:
    tried = t("copy data of the images below into {image}", image=path)
    done = process.run(argv, tried=tried, limits=COPY_LIMITS, check=False, environment=_KEEP_MEMORY, stop=stop)
    if done.exit_status != 0 and not done.stopped:
        # qemu-io complains about a command on its standard output, and about an image on the other.
        raise qemu_img.error_of(replace(done, stderr=done.stderr + done.stdout.decode(errors="replace")), tried)
    qemu_img.check_lost(done, tried)
    return done
