"""Writes small files so that nobody ever reads half of one."""

from __future__ import annotations

from pathlib import Path

from vmsnap_nb.system.files.temporary import publish, temporary

__all__ = ["write_whole"]


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file under another name first, in the same folder; if that fails, what was there is there still.

    It is on the disk when this returns, also after a power failure.
    """
    with temporary(str(path.parent), mode) as new:
        with open(new.fd, "wb", closefd=False) as file:
            file.write(data)
        publish(new, str(path))
