"""A reference from one image to another, as written and as resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Reference", "parse_reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """What an image's header says of another file, and where that leads.

    Attributes
    ----------
    written : str
        The reference as it stands in the header.
    kind : str
        ``relative``, ``absolute``, ``file:`` (with that prefix), ``json:`` or ``remote``.
    path : str or None
        The absolute local path that it leads to, or None for a network address and for what cannot be understood.
    format : str or None
        The format that the header gives for the file, or None: then QEMU would have to guess it.
    """

    written: str
    kind: Literal["relative", "absolute", "file:", "json:", "remote"]
    path: str | None
    format: str | None = None

    @property
    def key(self) -> str:
        """The name under which a Forest holds the image: its path, or else the address as written."""
        return self.path if self.path is not None else self.written


def parse_reference(written: str, *, folder: str, format: str | None = None) -> Reference:
    """Resolve a backing reference in QEMU's way.

    Parameters
    ----------
    written : str
        The reference as it stands in the header.
    folder : str
        Absolute path of the folder that holds the image whose header it is.
    format : str, optional
        The backing format of the header.

    Returns
    -------
    Reference
    """
    raise NotImplementedError
