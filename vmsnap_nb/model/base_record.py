"""What an overlay remembers of the file on which it was created."""

from __future__ import annotations

from dataclasses import dataclass

from vmsnap_nb.model.identity import Identity

__all__ = ["BaseRecord"]


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """The backing file of an overlay, as it was when vmsnap_nb created the overlay.

    `written` is the reference in the header of the overlay to which it belongs.
    `size` is in bytes, `mtime` in seconds since 1970 UTC, as copies of files often keep no fraction. `sample` is a
    checksum of some of the content.
    """

    written: str
    identity: Identity
    size: int
    mtime: int
    sample: bytes
