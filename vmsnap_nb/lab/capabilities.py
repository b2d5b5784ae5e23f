"""What libvirt found out about this machine's QEMU, handed on from one lab to the next.

An embedded libvirt keeps that in its own folder, so that in each new lab it would start QEMU twice and ask it all
again; nothing else in a new lab takes as long. Whether it still holds, libvirt checks itself before it uses it: by the
times of QEMU's files and of its own, by the kernel, the processor and KVM (``virQEMUCapsIsValid`` in its file
src/qemu/qemu_capabilities.c).
"""

from __future__ import annotations

from pathlib import Path

from vmsnap_nb.lab.user_cache import user_cache
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.small import read_small

__all__ = ["keep_capabilities", "lend_capabilities"]

_OF_LIBVIRT = Path("cache", "qemu", "capabilities")
_KEPT = "capabilities"
_MODE = 0o700
_MOST = 16 << 20


def lend_capabilities(root: Path) -> None:
    """Copy what an earlier lab has kept into one that has none, before its libvirt is loaded."""
    kept = user_cache()
    if kept is not None and not (root / _OF_LIBVIRT).exists():
        _copy(kept / _KEPT, root / _OF_LIBVIRT)


def keep_capabilities(root: Path) -> None:
    """Keep what a lab's libvirt found out for those that come."""
    kept = user_cache()
    if kept is not None:
        _copy(root / _OF_LIBVIRT, kept / _KEPT)


def _copy(source: Path, target: Path) -> None:
    try:
        for file in source.glob("*.xml"):
            data, copy = read_small(file, _MOST), target / file.name
            if not copy.exists() or read_small(copy, _MOST) != data:
                target.mkdir(_MODE, parents=True, exist_ok=True)
                write_whole(copy, data)
    except OSError:
        return  # then libvirt asks QEMU again
