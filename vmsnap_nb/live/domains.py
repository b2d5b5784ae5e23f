"""What steps of several kinds need of a live guest: its handle, its definition, and that they do not meet."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import GuestError, GuestNotReadyError, LibvirtError, VmsnapError
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host

__all__ = ["definition", "ended_at_once", "explained", "find_domain", "guard", "guest_of"]

_BUSY: dict[str, threading.Lock] = {}
"""By the guest's UUID."""


def guard(uuid: str) -> threading.Lock:
    """Give the lock of a guest: two plans of one process never change its snapshots at once."""
    return _BUSY.setdefault(uuid, threading.Lock())


def find_domain(host: Host, uuid: str, name: str) -> Any:
    """Give libvirt's handle of a guest; its name is for the error."""
    with libvirt_errors(f"find the guest {name}"):
        return host.connection.lookupByUUIDString(uuid)


def guest_of(host: Host, domain: Any) -> Guest:
    """Give the guest of libvirt's handle."""
    from vmsnap_nb.live.guest import Guest  # guest.py itself calls what calls this

    return Guest(host, domain)


def definition(domain: Any) -> str:
    """Give the domain XML as libvirt stores it for the next start."""
    libvirt = library()
    with libvirt_errors(f"read the XML of {domain.name()}"):
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


_ENDED_AT_ONCE = re.compile(
    r"connect(ing)? to monitor|exited prior to exec|notify child process|Child process \(.* -name guest="
)
"""What libvirt says of a QEMU that has ended before, or as soon as, it was there."""


def ended_at_once(error: VmsnapError) -> bool:
    """Tell whether a QEMU had ended before it could tell libvirt why."""
    return isinstance(error, LibvirtError) and _ENDED_AT_ONCE.search(error.said or "") is not None


_MONITOR_LOST = ("read from", "write to", "closed", "End of file")
"""What libvirt says, in the same sentence as "monitor", where a QEMU has ended in the middle of something."""


def explained(error: VmsnapError) -> VmsnapError:
    """Say what is known of libvirt's refusals of snapshots."""
    libvirt = library()
    if not isinstance(error, LibvirtError):
        return error
    said = error.said or ""
    if error.code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
        return GuestNotReadyError(
            error.tried, said=said, next_step="start qemu-guest-agent in the guest, or leave quiesce out"
        )
    gone = "domain is not running" in said or "domain is no longer running" in said
    if gone or ("monitor" in said and any(words in said for words in _MONITOR_LOST)):
        return GuestError(
            error.tried,
            said=f"its QEMU has ended meanwhile: {said}",
            next_step="see whether its disks are in order with chain(), then start it again",
        )
    if "writing VM state" in said:
        error.next_step = "make room on the file system of the image that takes the memory, and try again"
    if error.next_step is None:
        error.next_step = "read the guest's snapshots() again: nothing of this one is left"
    return error
