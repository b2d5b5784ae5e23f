"""How QEMU finds a snapshot inside an image: an ID counts before a name."""

from __future__ import annotations

from collections.abc import Sequence

from vmsnap_nb.model.image import InternalSnapshot

__all__ = ["is_later_id", "next_id", "restored_by"]

_MOST_DIGITS = 20


def next_id(inside: Sequence[InternalSnapshot]) -> str:
    """Return the ID that QEMU gives the next snapshot inside an image."""
    return str(max((_number(snapshot.id) for snapshot in inside), default=0) + 1)


def is_later_id(inside: Sequence[InternalSnapshot], name: str) -> bool:
    """Return whether QEMU will give a snapshot after the next one this name as its ID."""
    number = _number(name)
    return number > int(next_id(inside)) and str(number) == name


def _number(id: str) -> int:
    """Return an ID as a number. The image can have any text there, also one of thousands of digits."""
    return int(id) if id.isascii() and id.isdigit() and len(id) <= _MOST_DIGITS else 0


def restored_by(inside: Sequence[InternalSnapshot], name: str) -> InternalSnapshot | None:
    """Return the snapshot that QEMU restores when it is asked for one of this name.

    `qemu-img snapshot -a`, `qemu-img convert -l` and the monitor look for the ID first. To delete one, the name counts.
    """
    by_id = (snapshot for snapshot in inside if snapshot.id == name)
    by_name = (snapshot for snapshot in inside if snapshot.name == name)
    return next(by_id, next(by_name, None))
