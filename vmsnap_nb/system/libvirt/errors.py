"""The one border at which libvirt's errors become ours.

Codes: https://libvirt.org/html/libvirt-virterror.html#virErrorNumber.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from vmsnap_nb.errors import (
    GuestError,
    InUseError,
    InvalidRequestError,
    LabBusyError,
    LabError,
    LibvirtError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    ReadOnlyError,
    VmsnapError,
)
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.packages import missing_part
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["from_libvirt", "has_own_step", "libvirt_errors", "tells_of_loss"]

# How QEMU says that another process has an image open (block.c and block/file-posix.c).
_LOCKED = re.compile(r'Failed to get (shared )?"[a-z ]+" lock|Failed to lock byte')
# How libvirt says that its daemon or the network is gone (src/rpc/virnetsocket.c, virnetclient.c, virkeepalive.c).
_LOST = (
    "cannot recv data",
    "cannot write data",
    "client socket is closed",
    "received hangup event on socket",
    "end of file while reading data",
    "keepalive timeout",
)
_NO_PROGRAM = re.compile(r"qemu-system[\w.-]*'?: no such file")


@contextmanager
def libvirt_errors(tried: Message) -> Iterator[None]:
    """Turn libvirt's errors within a block into ours; each is kept as the cause."""
    libvirt = library()
    try:
        yield
    except libvirt.libvirtError as error:
        raise from_libvirt(
            tried, error.get_error_message() or str(error), error.get_error_code() or 0, error.get_error_domain() or 0
        ) from error
    except SystemError as error:  # the library raises it, whatever the result was, where a message is no UTF-8
        raise LibvirtError(
            tried,
            why=t("libvirt reported something that is not text: {error}", error=str(error.__cause__ or error)),
            next_step=t(_LOG),
        ) from error


def from_libvirt(tried: Message, said: str, code: int = 0, domain: int = 0) -> VmsnapError:
    """Return the error that says the same as libvirt: a `LibvirtError` where nothing more particular is known."""
    libvirt = library()
    by_text = _from_text(tried, said)
    if by_text is not None:
        return by_text
    usual = t(_usual_step(code))
    if code in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL):
        return NotFoundError(tried, said=said, next_step=usual)
    if "storage pool" in said and "is not active" in said:
        then = t("start the storage pool with virsh pool-start, and try again")
        return LibvirtError(tried, said=said, code=code, domain=domain, next_step=then)
    if _is_of_loss(said):
        then = t("check the network, and make sure that libvirt is running there. Then try again: this reconnects")
        return LibvirtError(tried, said=said, code=code, domain=domain, next_step=then)
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT and "state change lock" in said:
        then = t(
            "another libvirt operation on this guest is still in progress. Wait until it has finished, then try again"
        )
        return LibvirtError(tried, said=said, code=code, domain=domain, next_step=then)
    if code == libvirt.VIR_ERR_OPERATION_DENIED and "read only" in said:
        return ReadOnlyError(tried, said=said, next_step=t("connect without readonly=True"))
    if code in (libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_ACCESS_DENIED):
        how = t("ask the administrator for this permission, or use another account")
        return PermissionDeniedError(tried, said=said, next_step=how)
    if code in (libvirt.VIR_ERR_XML_ERROR, libvirt.VIR_ERR_XML_DETAIL, libvirt.VIR_ERR_INVALID_ARG):
        return InvalidRequestError(tried, said=said, next_step=usual)
    return LibvirtError(tried, said=said, code=code, domain=domain, next_step=usual)


_LOG = N_(
    "read the logs: journalctl -u libvirtd -u virtqemud shows those of libvirt. That of a guest's QEMU is in "
    "/var/log/libvirt/qemu, or in ~/.cache/libvirt/qemu/log for a user session"
)
_USUAL = {
    "NO_DOMAIN": N_("choose one of the existing guests: virsh list --all shows them"),
    "NO_STORAGE_POOL": N_("choose one of the existing storage pools: virsh pool-list --all shows them"),
    "NO_STORAGE_VOL": N_("refresh the storage pool with virsh pool-refresh, and list its volumes with virsh vol-list"),
    "NO_DOMAIN_SNAPSHOT": N_("choose one of the existing snapshots: virsh snapshot-list shows them"),
    "NO_CONNECT": N_("check the URI, and make sure that libvirt is running there"),
    "RPC": N_("check the network, and make sure that libvirt is running there. Then try again: this reconnects"),
    "NO_SUPPORT": N_("check the versions with virsh version: libvirt or this kind of connection cannot do this"),
    "OPERATION_INVALID": N_("check the state of the guest with virsh domstate, and create the plan again"),
    "BLOCK_COPY_ACTIVE": N_("wait until the guest's block job has ended, or cancel it. Then try again"),
    "OPERATION_TIMEOUT": N_("try again. If it fails again, check whether the host is overloaded or its storage hangs"),
    "OPERATION_ABORTED": N_("try again, if the operation should be completed"),
    "AGENT_UNRESPONSIVE": N_("start qemu-guest-agent in the guest, and try again"),
    "XML_ERROR": N_("correct the value that libvirt names"),
}
"""What helps where no more is known than libvirt's error number (the names are those of ``virErrorNumber``)."""
_SAME = {
    "NO_SUPPORT": ("OPERATION_UNSUPPORTED", "CONFIG_UNSUPPORTED", "ARGUMENT_UNSUPPORTED"),
    "OPERATION_INVALID": ("RESOURCE_BUSY",),
    "XML_ERROR": ("XML_DETAIL", "INVALID_ARG"),
    "RPC": ("GNUTLS_ERROR",),
}
_STEPS = {**_USUAL, **{other: _USUAL[name] for name, others in _SAME.items() for other in others}}


def _usual_step(code: int) -> str:
    libvirt = library()
    return next((step for name, step in _STEPS.items() if getattr(libvirt, f"VIR_ERR_{name}", None) == code), _LOG)


def has_own_step(error: VmsnapError) -> bool:
    """Return whether the next step of an error is for its cause, and not only for its error number."""
    step = error.next_step
    return step is not None and getattr(step, "template", step) not in (_LOG, *_USUAL.values())


def tells_of_loss(error: VmsnapError) -> bool:
    """Return whether an error is that of a connection which ended: nobody knows what libvirt has done by then."""
    return _is_of_loss(error.quoted or "")


def _is_of_loss(said: str) -> bool:
    return any(words in said.lower() for words in _LOST)


def _from_text(tried: Message, said: str) -> VmsnapError | None:
    """Distinguish what libvirt gives one and the same code, as "internal error" or "system error"."""
    low = said.lower()
    if _LOCKED.search(said):
        return InUseError(
            tried,
            said=said,
            next_step=t(
                "shut down the guest that has the image open. Or take an external snapshot of it first: the guest "
                "then writes to a new overlay, and the image becomes read-only"
            ),
        )
    if "failed to acquire pid file" in low:
        return LabBusyError(tried, said=said, next_step=t("end the other process, or use another folder"))
    if "already open with path" in low:
        return LabError(
            tried,
            said=said,
            next_step=t(
                "a process can use only one embedded lab: use the lab that is open, restart the kernel, or use "
                "driver='session'"
            ),
        )
    if "no space left on device" in low or "disk quota exceeded" in low:
        return NoSpaceError(tried, said=said, next_step=t("free space on that file system and try again"))
    if "failed to parse user" in low or "failed to parse group" in low:
        then = t("installing QEMU creates the user that libvirt requires")
        return missing_part("libvirt-qemu-driver", tried, said, then=then)
    if "no connection driver available" in low or "failed to load module" in low or "driver not found" in low:
        return missing_part("libvirt-qemu-driver", tried, said)
    if (
        "find suitable emulator" in low
        or "could not find capabilities" in low
        or "cannot check qemu binary" in low
        or _NO_PROGRAM.search(low)
    ):
        return missing_part("qemu-system", tried, said)
    if "failed to connect socket" in low and "permission denied" in low:
        return PermissionDeniedError(
            tried,
            said=said,
            next_step=t(
                "join the group libvirt (sudo usermod -aG libvirt $USER, then log in again), or run as root; for "
                "read-only access, try readonly=True"
            ),
        )
    if "paused due to previous migration" in low or "block node is read-only" in low:
        return GuestError(
            tried,
            said=said,
            next_step=t(
                "if the guest is paused, resume it; you can suspend it again afterwards. After QEMU has saved the "
                "memory of a paused guest, it writes to no image until the guest runs"
            ),
        )
    if "permission denied" in low:
        how = t("check the owner and mode of the file and its folders")
        return PermissionDeniedError(tried, said=said, next_step=how)
    if "unix socket path" in low and "too long" in low:
        return LabError(tried, said=said, next_step=t("use a folder with a shorter path, or a shorter name"))
    return None
