"""QEMU's block jobs by libvirt: begun, followed to their end, ended early.

Sources: https://libvirt.org/html/libvirt-libvirt-domain.html (virDomainBlockCommit, virDomainBlockRebase,
virDomainBlockJobAbort, virDomainGetBlockJobInfo), and there VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2: the event reports whether
a job was completed. If it does not arrive, the layers that libvirt lists show it: a completed job leaves fewer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NoReturn

from vmsnap_nb.errors import GuestError, LibvirtError, VmsnapError
from vmsnap_nb.model.disk_xml import layers_below
from vmsnap_nb.model.libvirt_xml import disk_at, parse_xml
from vmsnap_nb.system.libvirt.connection import was_cut_off
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["BlockJob", "active_jobs", "end_job", "pivot", "start_commit", "start_pull", "write_out"]

_KINDS = {1: "pull", 2: "copy", 3: "commit", 4: "active commit", 5: "backup"}
"""virDomainBlockJobType (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockJobType)."""
_COMPLETED, _FAILED, _CANCELED = 0, 1, 2
"""virConnectDomainEventBlockJobStatus."""
_HOW: dict[int | None, str] = {
    _FAILED: N_("the block job failed; the chain is unchanged"),
    _CANCELED: N_("another program ended the block job; the chain is unchanged"),
    None: N_("the block job ended before it was complete; the chain is unchanged"),
}
_LOOK = 0.05
"""Seconds between two looks how far it is."""
_MOMENT = 2.0
"""Seconds within which libvirt has seen that a QEMU has ended."""
_PATIENCE = 10.0
"""Seconds within which the event arrives after the job has gone."""


class _Ear:
    """Hears of the block jobs of one guest, for all who listen: libvirt takes only one of a connection."""

    _all: ClassVar[dict[tuple[int, str], _Ear]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, domain: Any, tried: Message) -> None:
        libvirt = library()
        self.connection = domain.connect()  # kept, so that no other connection gets its id
        self.listeners: list[Callable[[str, int], None]] = []
        with libvirt_errors(tried):
            self.number = self.connection.domainEventRegisterAny(
                domain, libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, self._hear, None
            )

    def _hear(self, *event: Any) -> None:
        _, _, target, _, status, _ = event
        for listener in tuple(self.listeners):
            listener(target, status)

    @classmethod
    @contextmanager
    def lend(cls, domain: Any, listener: Callable[[str, int], None], tried: Message) -> Iterator[None]:
        """Report to a listener the disk and the status of each event."""
        key = (id(domain.connect()), str(domain.UUIDString()))
        with cls._lock:
            ear = cls._all.get(key) or cls(domain, tried)
            cls._all[key] = ear
            ear.listeners.append(listener)
        try:
            yield
        finally:
            with cls._lock:
                ear.listeners.remove(listener)
                if not ear.listeners:
                    del cls._all[key]
                    with contextlib.suppress(library().libvirtError):  # the connection may have gone meanwhile
                        ear.connection.domainEventDeregisterAny(ear.number)


def active_jobs(domain: Any, targets: Iterable[str]) -> dict[str, str]:
    """Return the kind of the block job of each disk that has one.

    A driver that knows no such jobs has none, nor has a guest whose QEMU has just ended.
    """
    libvirt = library()
    found = {}
    with libvirt_errors(t("read the block jobs of {guest}", guest=domain.name())):
        try:
            for target in targets:
                info = domain.blockJobInfo(target)
                if info:
                    found[target] = _KINDS.get(info["type"], "unknown")
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID):
                raise
    return found


def start_commit(
    domain: Any, target: str, base: str, top: str, *, active: bool, relative: bool, bandwidth: int, tried: Message
) -> None:
    """Begin to copy layers down; nothing has happened where libvirt refuses.

    `active` is whether `top` is the image that the guest writes to, `bandwidth` the most bytes a second; 0 for no
    limit.
    """
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES
    flags |= libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE if active else 0
    flags |= libvirt.VIR_DOMAIN_BLOCK_COMMIT_RELATIVE if relative else 0
    with libvirt_errors(tried):
        domain.blockCommit(target, base, top, bandwidth, flags)


def start_pull(domain: Any, target: str, base: str | None, *, relative: bool, bandwidth: int, tried: Message) -> None:
    """Begin to copy up into the image that the guest writes to; parameters and errors as in `start_commit`."""
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES
    flags |= libvirt.VIR_DOMAIN_BLOCK_REBASE_RELATIVE if relative else 0
    with libvirt_errors(tried):
        domain.blockRebase(target, base, bandwidth, flags)


def pivot(domain: Any, target: str, *, tried: Message) -> None:
    """Let the guest write to the base of an active commit that is ready; this waits until it does."""
    libvirt = library()
    with libvirt_errors(tried):
        domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)


def end_job(domain: Any, target: str, *, tried: Message) -> None:
    """End a job; the guest keeps the chain that it had. This waits until QEMU has ended it."""
    with libvirt_errors(tried):
        domain.blockJobAbort(target, 0)


def write_out(domain: Any, *, tried: Message) -> None:
    """Have QEMU write all that it holds of the images of a guest, tables too, to the disk.

    The guest is suspended for some milliseconds: then QEMU flushes every disk (QEMU, softmmu/cpus.c, ``do_vm_stop``).
    For one that is paused libvirt does nothing, so that QEMU is told itself; it stays paused.
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
    """One job of one disk, from before its start to its end; use it in a ``with``."""

    def __init__(self, domain: Any, target: str, tried: Message) -> None:
        self._domain, self._target, self._tried = domain, target, tried
        self._status: int | None = None
        self._mirrors = False
        self._told = threading.Event()
        self._layers = 0
        self._connection = domain.connect()  # that of the job, also if another one is made meanwhile

    def was_cut_off(self, error: VmsnapError) -> bool:
        """Return whether libvirt has ended, or the network went down: QEMU may begin the job all the same, or go on."""
        return was_cut_off(self._connection, error)

    @contextmanager
    def listening(self) -> Iterator[BlockJob]:
        """Listen to libvirt's events: begin this before the job begins, since it can be over at once."""
        self._layers = self._count_layers()
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
        """Wait for its end: ``completed``, ``stopped`` where it was asked to end, or ``ready`` where it waits.

        With `to_ready` an active commit is followed only to the moment at which it waits until it is told what to do.
        `tell` is called again and again with how much is done, from 0 to 1. Where it is stopped, as after
        `timeout` seconds, or fails, the chain is the old one.
        """
        began, gone, lost = time.monotonic(), None, None
        self._mirrors = to_ready
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
                    why=t(
                        "it did not finish within {seconds:g} s and was cancelled; the chain is unchanged. The job "
                        "cannot finish while the guest writes faster than QEMU copies",
                        seconds=timeout,
                    ),
                    next_step=t(
                        "allow more time or bandwidth, pause the guest during the merge, or shut the guest down "
                        "before the merge"
                    ),
                )
            info = self._info()
            if info is None:
                gone = gone or time.monotonic()
                if time.monotonic() - gone > _PATIENCE:
                    self._status = _COMPLETED if self._count_layers() < self._layers else None
                    return self._end()
            else:
                done, total = info
                if total:
                    tell(done / total)
                ready = self._readiness() if to_ready and done == total else ""
                if ready == "yes":
                    return "ready"
                if ready is None:
                    lost = lost or time.monotonic()
                    if time.monotonic() - lost > _MOMENT:
                        self._give_up()
            self._told.wait(_LOOK)

    def wait_end(self) -> None:
        """Wait until libvirt has told that the job is over, after `pivot` or `end_job`."""
        self._told.wait(_PATIENCE)

    def _end(self) -> Literal["completed"]:
        if self._status == _COMPLETED:
            return "completed"
        raise LibvirtError(
            self._tried,
            why=t(_HOW.get(self._status, _HOW[None])),
            next_step=t(
                "check that the disk is not full and that every image is readable. For details, see the QEMU log of "
                "the guest"
            ),
        )

    def _stop(self) -> Literal["completed", "stopped"]:
        if self._mirrors and self._info() is not None and self._readiness() is None:
            self._give_up()
        try:
            end_job(self._domain, self._target, tried=t("stop the block job: {job}", job=self._tried))
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
            if self._has_ended():
                then = t("the chain is valid: check it with chain(), and finish the merge while the guest is off")
                why = t("the guest's QEMU process exited during the job")
                raise GuestError(self._tried, why=why, said=error.get_error_message(), next_step=then) from error
            with libvirt_errors(self._tried):
                raise
        return (int(info["cur"]), int(info["end"])) if info else None

    def _count_layers(self) -> int:
        """Return how many layers libvirt lists below the image of the disk: the definition changes before the event."""
        with libvirt_errors(self._tried):
            root = parse_xml(self._domain.XMLDesc())
        disk = disk_at(root, self._target)
        return 0 if disk is None else sum(1 for _ in layers_below(disk))

    def _has_ended(self) -> bool:
        """Return whether the guest is off; libvirt takes a moment to see that its QEMU has ended.

        If libvirt itself has ended, or the network is down, it is not known, and QEMU usually goes on.
        """
        libvirt = library()
        deadline = time.monotonic() + _MOMENT
        try:
            while self._domain.isActive():
                if time.monotonic() > deadline:
                    return False
                time.sleep(_LOOK)
        except libvirt.libvirtError as error:
            return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
        return True

    def _give_up(self) -> NoReturn:
        """Leave a job alone of whose mirror libvirt does not know: it was killed before it had written that down.

        It cannot pivot then, and to end the job makes libvirt 9.0 itself crash, as the end of the job alone does.
        """
        raise LibvirtError(
            self._tried,
            why=t("libvirt was interrupted when the job started, and can neither end nor pivot it"),
            next_step=t(
                "shut the guest down with guest.shutdown(). Then call guest.unfinished(), which returns the plan "
                "that repeats the merge"
            ),
        )

    def _readiness(self) -> str | None:
        """Return what libvirt says of the mirror of the disk, None where it knows of none."""
        with libvirt_errors(self._tried):
            root = parse_xml(self._domain.XMLDesc())
        for disk in root.iterfind("devices/disk"):
            target, mirror = disk.find("target"), disk.find("mirror")
            if target is not None and mirror is not None and target.get("dev") == self._target:
                return mirror.get("ready", "")
        return None
