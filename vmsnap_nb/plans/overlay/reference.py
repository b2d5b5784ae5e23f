"""How an overlay names its backing file, and what a new one takes."""

from __future__ import annotations

import os.path

from vmsnap_nb.model.reference import Reference

__all__ = ["NEW_OVERLAY_BYTES", "backing_reference"]

NEW_OVERLAY_BYTES = 200_704
"""What a new qcow2 image takes with 64 KiB clusters: header, one cluster each of L1 and refcounts."""


def backing_reference(path: str, backing: str, format: str | None, *, relative: bool = False) -> Reference:
    """Return how an overlay names its backing file; if `relative`, as seen from its own folder.

    Examples
    --------
    >>> backing_reference("/images/a.qcow2", "/images/base:1.qcow2", "qcow2", relative=True).written
    './base:1.qcow2'
    """
    if not relative:
        return Reference(backing, "absolute", backing, format)
    written = os.path.relpath(backing, os.path.dirname(path))
    # QEMU takes what stands before a colon for a protocol, unless a slash comes first.
    if ":" in written.partition("/")[0]:
        written = f"./{written}"
    return Reference(written, "relative", backing, format)
