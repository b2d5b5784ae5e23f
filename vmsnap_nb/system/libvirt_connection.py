"""Opens connections to libvirt."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from vmsnap_nb.errors import InvalidRequestError, VmsnapError
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library
from vmsnap_nb.system.orphans import collect_orphans

__all__ = ["files_are_here", "open_connection"]


def open_connection(uri: str, *, readonly: bool = False) -> Any:
    """Open a connection.

    Parameters
    ----------
    uri : str
        As ``qemu:///system`` or ``qemu+ssh://box/system``; see https://libvirt.org/uri.html.
    readonly : bool
        Whether libvirt itself should refuse every change.

    Returns
    -------
    libvirt.virConnect

    Raises
    ------
    InvalidRequestError
        It is no such address.
    MissingPartError
        libvirt's Python library or its driver is not installed.
    LibvirtError, PermissionDeniedError, LabBusyError
        libvirt refuses.
    """
    if "://" not in uri:
        raise InvalidRequestError(
            f"connect to {uri!r}",
            said="it is no address of a libvirt",
            next_step="give one such as qemu:///system, qemu:///session or qemu+ssh://box/system",
        )
    libvirt = library()
    if urlsplit(uri).path == "/embed":
        collect_orphans()
    try:
        with libvirt_errors(f"connect to {uri}"):
            return libvirt.openReadOnly(uri) if readonly else libvirt.open(uri)
    except VmsnapError as error:
        error.next_step = error.next_step or "check the address, and that libvirt runs there"
        raise


def files_are_here(uri: str) -> bool:
    """Tell whether the images of that libvirt are files of this machine.

    Examples
    --------
    >>> files_are_here("qemu:///system"), files_are_here("qemu+ssh://box/system"), files_are_here("test:///default")
    (True, False, False)
    """
    parts = urlsplit(uri)
    driver, _, transport = parts.scheme.partition("+")
    return driver == "qemu" and not parts.hostname and transport in {"", "unix"}
