"""Names that guests and snapshots can have: libvirt takes them, and files can be named after them."""

from __future__ import annotations

from vmsnap_nb.errors import InvalidRequestError

__all__ = ["check_name"]

_MOST_BYTES = 200
"""A file's name has room for 255, and what we add to it needs some; libvirt loses longer ones of snapshots."""


def check_name(name: str, what: str) -> str:
    """Give the name back if a guest or a snapshot can have it.

    Parameters
    ----------
    name : str
        The name.
    what : str
        For the error: ``guest`` or ``snapshot``.

    Raises
    ------
    InvalidRequestError
        libvirt would refuse it, or no file could be named after it.

    Examples
    --------
    >>> check_name('<x>&" 虚拟机', "guest")
    '<x>&" 虚拟机'
    """
    said = ""
    if not name.strip():
        said = "a name must have a character that can be seen"
    elif "/" in name or name.startswith("."):
        said = "files are named after it, so it may have no slash and may not begin with a dot"
    elif not name.isprintable():
        said = "it has a control character, or one that cannot be written in XML"
    elif len(name.encode()) > _MOST_BYTES:
        said = f"it has {len(name.encode())} bytes; {_MOST_BYTES} are possible, since files are named after it"
    if said:
        raise InvalidRequestError(f"name a {what} {name[:60]!r}", said=said, next_step="give it another name")
    return name
