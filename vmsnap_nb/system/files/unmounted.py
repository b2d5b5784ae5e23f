"""Which mount points of this machine are not mounted: a file below one is not known to be gone."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmsnap_nb.system.files.small import read_small
from vmsnap_nb.system.mount_table import mount_points, unescaped

__all__ = ["unmounted_above"]

_TABLE, _MOUNTED = "/etc/fstab", "/proc/self/mountinfo"
_MOST = 1 << 20


def unmounted_above(path: str) -> str | None:
    """Return the mount point of /etc/fstab in which a file would be, if nothing is mounted there.

    Source: fstab(5), and proc(5) for mountinfo.
    """
    folders = {os.path.dirname(path), os.path.realpath(os.path.dirname(path))}
    points = [point for point in _points() if any(f"{folder}/".startswith(f"{point}/") for folder in folders)]
    if not points:
        return None
    mounted = _mounted()
    missing = [point for point in points if mounted and os.path.realpath(point) not in mounted]
    return max(missing, key=len, default=None)


def _points() -> Iterator[str]:
    try:
        table = read_small(_TABLE, _MOST).decode(errors="surrogateescape")
    except OSError:
        return
    for _, folder in mount_points(table):
        yield os.path.normpath(folder)


def _mounted() -> frozenset[str]:
    try:
        with open(_MOUNTED, encoding="utf-8", errors="surrogateescape") as file:
            return frozenset(unescaped(line.split()[4]) for line in file)
    except OSError:
        return frozenset()
