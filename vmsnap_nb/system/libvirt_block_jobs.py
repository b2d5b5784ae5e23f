"""QEMU's block jobs by libvirt: begun, followed to their end, ended early.

Sources: https://libvirt.org/html/libvirt-libvirt-domain.html (virDomainBlockCommit, virDomainBlockRebase,
virDomainBlockJobAbort, virDomainGetBlockJobInfo), and there VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2: only the event tells
whether a job has come to its end or has failed; afterwards nothing can be asked any more.
"""

from __future__ import annotations

import contextlib
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

from vmsnap_nb.errors import GuestError, LibvirtError, VmsnapError
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library

__all__ = ["BlockJob", "active_jobs", "end_job", "pivot", "start_commit", "start_pull", "write_out"]

_KINDS = {1: "pull", 2: "copy", 3: "commit", 4: "active commit", 5: "backup"}
"""virDomainBlockJobType (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockJobType)."""
_COMPLETED, _FAILED, _CANCELED = 0, 1, 2
"""virConnectDomainEventBlockJobStatus."""
_LOOK = 0.05
"""Seconds between two looks how far it is."""
_MOMENT = 2.0
"""Seconds within which libvirt has seen that a QEMU has ended."""
_PATIENCE = 10.0
"""Seconds for the event to come after the job has gone."""


class _Ear:
    """Hears of the block jobs of one guest, for all who listen: libvirt takes only one of a connection.

    Parameters
    ----------
    domain : libvirt.virDomain
        The guest.
    tried : str
        For the error.
    """

    _all: ClassVar[dict[tuple[int, str], _Ear]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, domain: Any, tried: str) -> None:
        libvirt = library()
        self._connection = domain.connect()  # kept, so that no other connection gets its id
        self._listeners: list[Callable[[str, int], None]] = []
        with libvirt_errors(tried):
            self._number = self._connection.domainEventRegisterAny(
                domain, libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, self._hear, None
            )

    def _hear(self, *event: Any) -> None:
        _, _, target, _, status, _ = event
        for listener in tuple(self._listeners):
            listener(target, status)

    @classmethod
    @contextmanager
    def lend(cls, domain: Any, listener: Callable[[str, int], None], tried: str) -> Iterator[None]:
        """Tell a listener the disk and the status of each event."""
        key = (id(domain.connect()), str(domain.UUIDString()))
        with cls._lock:
            ear = cls._all.get(key) or cls(domain, tried)
            cls._all[key] = ear
            ear._listeners.append(listener)
        try:
            yield
        finally:
            with cls._lock:
                ear._listeners.remove(listener)
                if not ear._listeners:
                    del cls._all[key]
                    with contextlib.suppress(library().libvirtError):  # the connection may have gone meanwhile
                        ear._connection.domainEventDeregisterAny(ear._number)


def active_jobs(domain: Any, targets: Iterable[str]) -> dict[str, str]:
    """Give the kind of the block job of each disk that has one; a driver that knows no such jobs has none.

    Parameters
    ----------
    domain : libvirt.virDomain
        A guest that runs.
    targets : iterable of str
        Its disks.

    Returns
    -------
    dict of str to str
        By target.
    """
    libvirt = library()
    found = {}
    with libvirt_errors(f"read the block jobs of {domain.name()}"):
        try:
            for target in targets:
                info = domain.blockJobInfo(target)
                if info:
                    found[target] = _KINDS.get(info["type"], "unknown")
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
    return found


def start_commit(
    domain: Any, target: str, base: str, top: str, *, active: bool, relative: bool, bandwidth: int, tried: str
) -> None:
    """Begin to copy layers down.

    Parameters
    ----------
    domain : libvirt.virDomain
        A guest that runs.
    target : str
        The disk.
    base, top : str
        Paths as in the chain.
    active : bool
        Whether `top` is the image that the guest writes to.
    relative : bool
        Whether to keep relative names of backing files.
    bandwidth : int
        Bytes a second at most; 0 for no limit.
    tried : str
        For the error.

    Raises
    ------
    VmsnapError
        libvirt refuses; nothing has happened.
    """
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES
    flags |= libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE if active else 0
    flags |= libvirt.VIR_DOMAIN_BLOCK_COMMIT_RELATIVE if relative else 0
    with libvirt_errors(tried):
        domain.blockCommit(target, base, top, bandwidth, flags)


def start_pull(domain: Any, target: str, base: str | None, *, relative: bool, bandwidth: int, tried: str) -> None:
    """Begin to copy up into the image that the guest writes to; parameters and errors as in `start_commit`."""
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES
    flags |= libvirt.VIR_DOMAIN_BLOCK_REBASE_RELATIVE if relative else 0
    with libvirt_errors(tried):
        domain.blockRebase(target, base, bandwidth, flags)


def pivot(domain: Any, target: str, *, tried: str) -> None:
    """Let the guest write to the base of an active commit that is ready; this waits until it does."""
    libvirt = library()
    with libvirt_errors(tried):
        domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)


def end_job(domain: Any, target: str, *, tried: str) -> None:
    """End a job; the guest goes on with the chain that it had. This waits until QEMU has ended it."""
    with libvirt_errors(tried):
        domain.blockJobAbort(target, 0)


def write_out(domain: Any, *, tried: str) -> None:
    """Have QEMU write all that it holds of the images of a guest, tables too, to the disk.

    The guest is suspended for some milliseconds: then QEMU flushes every disk (QEMU, softmmu/cpus.c, ``do_vm_stop``).
    For one that is paused libvirt does nothing, so that QEMU is told itself; it stays paused.

    Parameters
    ----------
    domain : libvirt.virDomain
        A guest that runs or is paused.
    tried : str
        For the error.
    """
    libvirt = library()
    with libvirt_errors(tried):
        state, _ = domain.state()
        if state == libvirt.VIR_DOMAIN_PAUSED:
            import libvirt_qemu

            libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "stop"}', 0)
            return
        domain.suspend()
        domain.resume()


class BlockJob:
    """One job of one disk, from before its start to its end; use it in a ``with``.

    Parameters
    ----------
    domain : libvirt.virDomain
        The guest.
    target : str
        The disk.
    tried : str
        For errors: what the job is for.
    """

    def __init__(self, domain: Any, target: str, tried: str) -> None:
        self._domain, self._target, self._tried = domain, target, tried
        self._status: int | None = None
        self._told = threading.Event()

    @contextmanager
    def listening(self) -> Iterator[BlockJob]:
        """Listen to libvirt's events: begin this before the job begins, since it can be over at once."""
        with _Ear.lend(self._domain, self._hear, self._tried):
            yield self

    def _hear(self, target: str, status: int) -> None:
        if target == self._target and status in (_COMPLETED, _FAILED, _CANCELED):
            self._status = status
            self._told.set()

    def follow(
        self,
        *,
        to_ready: bool,
        tell: Callable[[float], None],
        stop: Callable[[], bool],
        timeout: float | None = None,
    ) -> Literal["completed", "ready", "stopped"]:
        """Wait for its end.

        Parameters
        ----------
        to_ready : bool
            Whether it waits in the end until it is told what to do (an active commit): then only to that moment.
        tell : callable
            Is told again and again how much is done, from 0 to 1.
        stop : callable
            Whether to end it.
        timeout : float, optional
            Seconds after which it is ended.

        Returns
        -------
        str
            ``completed``; ``ready`` where it waits; ``stopped`` where it was asked to end: the chain is the old one.

        Raises
        ------
        GuestError
            The guest has ended, or the time is over.
        LibvirtError
            The job has failed; the chain is the old one.
        """
        began, gone = time.monotonic(), None
        while True:
            if self._told.is_set():
                return self._end()
            if stop():
                return self._stop()
            if timeout is not None and time.monotonic() - began > timeout:
                if self._stop() == "completed":
                    return "completed"
                raise GuestError(
                    self._tried,
                    said=f"it was not done after {timeout:g} s and was ended; the chain is what it was. A guest that "
                    "writes faster than QEMU copies never lets it come to an end",
                    next_step="give it more time or more bandwidth, pause the guest meanwhile, or shut it down and "
                    "merge then",
                )
            info = self._info()
            if info is None:
                gone = gone or time.monotonic()
                if time.monotonic() - gone > _PATIENCE:
                    raise LibvirtError(self._tried, said="the job is over, and libvirt does not say how it has ended")
            else:
                done, total = info
                if total:
                    tell(done / total)
                if to_ready and done == total and self._is_ready():
                    return "ready"
            self._told.wait(_LOOK)

    def wait_end(self) -> None:
        """Wait until libvirt has told that the job is over, after `pivot` or `end_job`."""
        self._told.wait(_PATIENCE)

    def _end(self) -> Literal["completed"]:
        if self._status == _COMPLETED:
            return "completed"
        how = "has failed" if self._status == _FAILED else "was ended by somebody else"
        raise LibvirtError(
            self._tried,
            said=f"the block job {how}; the chain is what it was",
            next_step="see whether the disk is full and whether every image can be read; the log of the guest's QEMU "
            "says more",
        )

    def _stop(self) -> Literal["completed", "stopped"]:
        try:
            end_job(self._domain, self._target, tried=f"end the job: {self._tried}")
        except VmsnapError:
            # It may just have come to its end by itself.
            if self._info() is not None:
                raise
        self._told.wait(_PATIENCE)
        return "completed" if self._status == _COMPLETED else "stopped"

    def _info(self) -> tuple[int, int] | None:
        libvirt = library()
        try:
            info = self._domain.blockJobInfo(self._target)
        except libvirt.libvirtError as error:
            if self._goes_on():
                with libvirt_errors(self._tried):
                    raise
            raise GuestError(
                self._tried,
                said=f"the guest's QEMU has ended meanwhile: {error.get_error_message()}",
                next_step="the chain is valid: look at it with chain(), and do what is left when the guest is off",
            ) from error
        return (int(info["cur"]), int(info["end"])) if info else None

    def _goes_on(self) -> bool:
        """Tell whether the guest runs; libvirt takes a moment to see that its QEMU has ended."""
        deadline = time.monotonic() + _MOMENT
        with contextlib.suppress(library().libvirtError):
            while self._domain.isActive():
                if time.monotonic() > deadline:
                    return True
                time.sleep(_LOOK)
        return False

    def _is_ready(self) -> bool:
        with libvirt_errors(self._tried):
            root = ET.fromstring(self._domain.XMLDesc())
        for disk in root.iterfind("devices/disk"):
            target, mirror = disk.find("target"), disk.find("mirror")
            if target is not None and mirror is not None and target.get("dev") == self._target:
                return mirror.get("ready") == "yes"
        return False
