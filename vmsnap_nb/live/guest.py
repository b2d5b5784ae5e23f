"""One guest of a host: start and stop it, look at its disks and chains, run commands in it."""

from __future__ import annotations

import os
import re
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from vmsnap_nb.errors import (
    GuestError,
    GuestNotReadyError,
    ImageError,
    InUseError,
    LibvirtError,
    NotFoundError,
    ReadOnlyError,
    VmsnapError,
)
from vmsnap_nb.live.chain import LiveChain
from vmsnap_nb.live.domains import ended_at_once
from vmsnap_nb.live.written_chain import forget_old_chains
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Disks, Domain, State, Use
from vmsnap_nb.plans.plan import Concern
from vmsnap_nb.plans.start import about_backing_formats, about_layers
from vmsnap_nb.system import guest_agent, guest_port, locks
from vmsnap_nb.system.console import console_log, read_console
from vmsnap_nb.system.guest_port import COMMAND_PORT
from vmsnap_nb.system.libvirt_domains import channels, read_domain, state_of
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library

if TYPE_CHECKING:
    from vmsnap_nb.live.host import Host
    from vmsnap_nb.live.plan import LivePlan
    from vmsnap_nb.model.snapshot import Kind, SnapshotList
    from vmsnap_nb.plans.revert_draft import To

__all__ = ["Guest"]

_HELD_IMAGE = re.compile(r"Is another process using the image \[(.*?)\]\?", re.DOTALL)
_BUSY_PORTS: dict[str, threading.Lock] = {}
_AGENT_STARTS = 10.0
"""Seconds that the agent of a lab's guest may take to start after the guest takes commands: without KVM about one."""

_TRIED_AGAIN = 3.0
"""Seconds in which QEMU tries again what a disk could not do before."""


class Guest:
    """A guest that libvirt knows. Get one from `Host.guest`, `Host.guests` or `Lab.guest`.

    Parameters
    ----------
    host : Host
        Where it is.
    domain : libvirt.virDomain
        libvirt's handle.
    """

    def __init__(self, host: Host, domain: Any) -> None:
        self.host = host
        self._domain = domain
        self._name: str = domain.name()
        self._uuid: str = domain.UUIDString()

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def uuid(self) -> str:
        """Its UUID, as libvirt writes it."""
        return self._uuid

    @property
    def state(self) -> State:
        """What it does now, in virsh's words, as ``running``, ``paused`` or ``shut off``.

        Raises
        ------
        NotFoundError
            It is not there any more.
        """
        return state_of(self._domain)

    @property
    def running(self) -> bool:
        """Whether QEMU has its images open now."""
        return self._is_running(self.state)

    @staticmethod
    def _is_running(state: State) -> bool:
        return state not in {"shut off", "crashed", "no state"}

    def __repr__(self) -> str:
        try:
            state: str = self.state
        except VmsnapError:
            state = "gone"
        return f"<Guest {self._name}: {state}>"

    # -- what it is -------------------------------------------------------------------------------------

    def xml(self) -> str:
        """Give its domain XML: the live one while it runs.

        Returns
        -------
        str
        """
        with libvirt_errors(f"read the XML of {self._name}"):
            return str(self._domain.XMLDesc())

    def domain(self) -> Domain:
        """Read what libvirt records of it."""
        return read_domain(self._domain)

    def disks(self) -> Disks:
        """List its disks, with the depth and the sizes of their images, as `virsh domblklist` does.

        Returns
        -------
        Disks

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> lab.guest("listed", backing=lab.base("RootBase")).disks().to_frame()[["format", "bus", "depth"]]
               format     bus  depth
        target
        vda     qcow2  virtio      2
        """
        disks = self.domain().disks
        forest = self._forest(disks)
        filled = []
        depths: list[int | None] = []
        for disk in disks:
            image = forest.images.get(disk.source) if disk.source else None
            if image is None:
                filled.append(disk)
                depths.append(None)
            else:
                filled.append(replace(disk, capacity=image.virtual_size, allocated=image.allocated))
                depths.append(forest.depth(image.path))
        return Disks(self._name, tuple(filled), tuple(depths))

    def chain(self, target: str | None = None) -> LiveChain:
        """Read the chain of a disk: from its base to the image that it writes to.

        Parameters
        ----------
        target : str, optional
            The disk, as ``vda``; the first one that has an image if left out.

        Returns
        -------
        LiveChain

        Raises
        ------
        NotFoundError
            There is no such disk, or nothing is in it.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> [image.name for image in lab.guest("listed", backing=lab.base("RootBase")).chain()]
        ['RootBase', 'listed']
        """
        disks = self.domain().disks
        disk = self._pick(disks, target)
        forest = self._forest(disks)
        return LiveChain(forest, forest.chain(disk.source or "").top)

    def blockmap(self, target: str | None = None) -> BlockMap:
        """Look which layer of a disk's chain owns which part of it.

        Parameters
        ----------
        target : str, optional
            The disk, as ``vda``; the first one that has an image if left out.

        Returns
        -------
        BlockMap
            Of what is in the files. QEMU tells the files of what a running guest has written when the guest flushes its
            disk: ``guest.execute("sync")`` brings the map up to date.

        Raises
        ------
        NotFoundError
            There is no such disk.
        ImageError
            A layer is missing, is encrypted, or is in a format that QEMU cannot map.
        """
        return self.chain(target).blockmap()

    def _pick(self, disks: tuple[Disk, ...], target: str | None) -> Disk:
        with_image = [disk for disk in disks if disk.source]
        for disk in with_image:
            if target in (None, disk.target):
                return disk
        raise NotFoundError(
            f"find the disk {target} of {self._name}" if target else f"find a disk of {self._name}",
            said="there is no such disk, or nothing is in it" if target else "it has no disk with an image",
            next_step="there are: " + ", ".join(disk.target for disk in with_image) if with_image else None,
        )

    def _forest(self, disks: tuple[Disk, ...]) -> Forest:
        folders = {os.path.dirname(disk.source) for disk in disks if disk.source and disk.source.startswith("/")}
        return self.host.survey(*sorted(folders))

    # -- start and stop ---------------------------------------------------------------------------------

    def concerns(self) -> tuple[Concern, ...]:
        """Tell what speaks against starting it now.

        That is: images that somebody else holds, a merge that was cut short and without whose end its disk would read
        otherwise, layers that are missing or not valid, and headers that do not tell the format of a backing file.

        Returns
        -------
        tuple of Concern
        """
        if self.running:
            return ()
        domain = self.domain()
        forest = self._forest(domain.disks)
        return (
            *self._pulls(domain),
            *self._commits(domain, forest),
            *self._concerns(domain, forest),
            *about_layers(forest, domain.uses),
            *about_backing_formats(forest, domain.uses),
        )

    def _pulls(self, domain: Domain) -> Iterator[Concern]:
        from vmsnap_nb.live.merge_live import unfinished_pulls

        for target, note in unfinished_pulls(domain):
            yield Concern(
                "active-job",
                "refuse",
                f"{self._name} cannot start: data was being pulled into {note.image}, its disk {target}, when QEMU or "
                "the process that had begun it ended, and not all of it may be there",
                "finish it first: guest.unfinished()[0].run()",
                images=(note.image,),
            )

    def _commits(self, domain: Domain, forest: Forest) -> Iterator[Concern]:
        from vmsnap_nb.live.merge_live import spoiling_commits

        paths = [use.path for use in domain.uses] if self.host.files_are_here else []
        for note in spoiling_commits(self, paths, forest):
            yield Concern(
                "active-job",
                "refuse",
                f"{self._name} cannot start: {note.top} was being merged into {note.base} when QEMU, or the machine, "
                "ended, and not all of it may be there",
                "take it back first: guest.unfinished()[0].run(); or start(force=True), if you know that all is in "
                + note.base,
                images=(note.base, note.top),
            )

    def _concerns(self, domain: Domain, forest: Forest) -> Iterator[Concern]:
        for use in domain.uses:
            if use.path not in forest:
                continue
            for layer in forest.lineage(use.path):
                top = layer == use.path and not use.readonly
                # QEMU shares an image among readers. Whoever writes must be alone.
                others = forest.users(layer) if top else forest.writers(layer)
                holders = tuple(dict.fromkeys(o.guest for o in others if o.running and o.guest != self._name))
                held = forest[layer].held
                if holders or held == "write" or (held and top):
                    yield self._in_use(use, layer, forest, holders)

    def _in_use(self, use: Use, layer: str, forest: Forest, holders: tuple[str, ...]) -> Concern:
        name = forest[layer].name
        below = "" if layer == use.path else f", on which its disk {use.target} stands"
        if holders:
            who = f"guest {', '.join(holders)}"
            remedy = (
                f"shut {holders[0]} down; or take an external snapshot of {holders[0]} first: then it writes to a new "
                f"overlay, and {name} becomes read-only"
            )
            if layer == use.path:
                remedy = f"shut {holders[0]} down; or give {self._name} an overlay of its own on {name}"
        else:
            identity = forest[layer].identity
            processes = [f"{command} ({pid})" for pid, command in locks.holders(identity)] if identity else []
            holders = tuple(processes)
            who = f"process {', '.join(processes)}" if processes else "a process that cannot be seen from here"
            remedy = f"end what holds {name}, then start again"
        return Concern(
            "in-use",
            "refuse",
            f"{self._name} cannot start: {who} holds {name}{below}",
            remedy,
            images=(layer,),
            holders=holders,
            waivable=True,
        )

    def start(self, *, wait: bool = True, force: bool = False, timeout: float = 120.0) -> Guest:
        """Start it.

        Parameters
        ----------
        wait : bool
            Whether to wait until it is ready for commands, where it is a lab's guest that takes them.
        force : bool
            Whether to leave it to libvirt and QEMU to find that an image is held, or what else is not in order.
        timeout : float
            Seconds to wait.

        Returns
        -------
        Guest
            This one.

        Raises
        ------
        ReadOnlyError
            The connection is for reading only.
        InUseError
            Another guest or process holds an image of one of its chains; `holders` names it. Or a merge was cut short,
            and its disk may not read as it should before `unfinished` has done what is left.
        ImageError
            libvirt does not start it, since a layer is missing or not valid, or a header does not tell the format of a
            backing file.
        GuestNotReadyError
            It does not get ready in time.
        LibvirtError, NoSpaceError, PermissionDeniedError
            It does not start.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> guest = lab.guest("booted", backing=lab.base("RootBase")).start()
        >>> print(guest.execute("echo hello > /overlay-1; cat /overlay-1").stdout, end="")
        hello
        >>> guest.shutdown()
        >>> guest.state
        'shut off'
        """
        self._check_writable(f"start {self._name}")
        if not self.running:
            if not force:
                self._raise_concerns()
            self._create()
            self.host._has_started(self)
        if wait and COMMAND_PORT in channels(self.xml()):
            self.wait_ready(timeout=timeout)
        return self

    def _raise_concerns(self) -> None:
        concerns = [concern for concern in self.concerns() if concern.level == "refuse"]
        tried = f"start {self._name}"
        said = "\n".join(dict.fromkeys(concern.what for concern in concerns))
        next_step = "\n".join(dict.fromkeys(concern.remedy for concern in concerns))
        if concerns and all(concern.name in {"backing-format-missing", "missing-base", "loop"} for concern in concerns):
            raise ImageError(tried, said=said, next_step=next_step)
        if concerns:
            raise InUseError(
                tried,
                said=said,
                next_step=next_step,
                holders=tuple(dict.fromkeys(holder for concern in concerns for holder in concern.holders)),
            )

    def _create(self) -> None:
        tried = f"start {self._name}"
        forget_old_chains(self)
        try:
            self._create_once(tried)
        except LibvirtError as error:
            # libvirt can be too late to hear why QEMU has ended: then the next one says it.
            if not ended_at_once(error):
                raise
            self._create_once(tried)

    def _create_once(self, tried: str) -> None:
        try:
            with libvirt_errors(tried):
                self._domain.create()
        except InUseError as error:
            raise self._named(error) from error

    def _named(self, error: InUseError) -> InUseError:
        """Give QEMU's complaint with the names of the guests that hold the image."""
        match = _HELD_IMAGE.search(error.said or "")
        domain = self.domain()
        concerns = list(self._concerns(domain, self._forest(domain.disks)))
        concerns = [c for c in concerns if match is None or match[1] in c.images] or concerns
        return InUseError(
            error.tried,
            said=error.said,
            next_step="\n".join(dict.fromkeys(c.remedy for c in concerns)) or error.next_step,
            holders=tuple(dict.fromkeys(holder for c in concerns for holder in c.holders)),
        )

    def shutdown(self, *, timeout: float = 60.0) -> None:
        """Shut it down in good order and wait for its end; nothing happens if it is off.

        Parameters
        ----------
        timeout : float
            Seconds.

        Raises
        ------
        GuestError
            It is still running after that time.
        """
        self._check_writable(f"shut {self._name} down")
        deadline = time.monotonic() + timeout
        if not self.running:
            return
        if self.state == "paused":
            raise GuestError(
                f"shut {self._name} down",
                said="it is paused, so it cannot do anything",
                next_step="resume() it first, or use destroy(): that is pulling the plug",
            )
        self._ask_to_go()
        while self._still_running():
            if time.monotonic() >= deadline:
                raise GuestError(
                    f"shut {self._name} down",
                    said=f"it is still running after {timeout:g} s",
                    next_step="give it more time, or use destroy(): that is pulling the plug",
                )
            time.sleep(0.05)

    def _ask_to_go(self) -> None:
        if channels(self.xml()).get(COMMAND_PORT):
            try:
                self._run_on_port("(sleep 0.1; kill -USR2 1) & exit", timeout=5, patience=10)
                return
            except GuestError:
                # It may be going down without having answered; otherwise the power button is left.
                if not self._still_running():
                    return
        try:
            with libvirt_errors(f"shut {self._name} down"):
                self._domain.shutdown()
        except VmsnapError as error:
            # It may be going at this moment: libvirt refuses then, a little before its state says so.
            if "domain is not running" in (error.said or ""):
                return
            deadline = time.monotonic() + 1.0
            while self._still_running():
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)

    def _still_running(self) -> bool:
        try:
            return self.running
        except NotFoundError:
            return False  # one without a persistent record is gone with its end

    def destroy(self) -> None:
        """Pull its plug: it ends at once, and its record and its images stay. Nothing happens if it is off."""
        self._check_writable(f"end {self._name}")
        if not self._still_running():
            return
        try:
            with libvirt_errors(f"end {self._name}"):
                self._domain.destroy()
        except VmsnapError:
            if self._still_running():
                raise

    def suspend(self) -> None:
        """Pause it: its processors stand still, and its memory stays. Nothing happens if it is paused.

        Raises
        ------
        GuestError
            It is off.
        ReadOnlyError
            The connection is for reading only.
        LibvirtError
            libvirt refuses, as for one whose system has put itself to sleep.
        """
        self._pace("pause", "paused", self._domain.suspend)

    def resume(self) -> None:
        """Let it go on after `suspend`, a revert to ``paused``, or a disk that was full. Nothing happens if it runs.

        Where QEMU had paused it for a disk, up to three seconds pass until that is known to be over.

        Raises
        ------
        GuestError
            It is off; or QEMU pauses it again within that time, since the disk still does not do what the guest wants.
        ReadOnlyError, LibvirtError
            As in `suspend`.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> guest = lab.guest("pausing", backing=lab.base("RootBase")).start(wait=False)
        >>> guest.suspend()
        >>> guest.state
        'paused'
        >>> guest.resume()
        >>> guest.state
        'running'
        >>> guest.destroy()
        """
        self._pace("resume", "running", self._resume)

    def _pace(self, verb: str, wanted: State, change: Callable[[], object]) -> None:
        tried = f"{verb} {self._name}"
        self._check_writable(tried)
        if not self.running:
            raise GuestError(tried, said="it is off", next_step="start it first")
        if self.state != wanted:
            with libvirt_errors(tried):
                change()

    def _resume(self) -> None:
        failed = self._domain.diskErrors()  # for which QEMU has paused it; it tries those writes again when it goes on
        self._domain.resume()
        deadline = time.monotonic() + _TRIED_AGAIN
        while failed and self._still_running() and time.monotonic() < deadline:
            if self.state == "paused":
                full = library().VIR_DOMAIN_DISK_ERROR_NO_SPACE in failed.values()
                disks = ", ".join(sorted(failed))
                what = f"no space is left for {disks}" if full else f"{disks} cannot be read or written"
                raise GuestError(
                    f"resume {self._name}",
                    said=f"QEMU pauses it again: {what}",
                    next_step="make room where its images are" if full else "see whether their disk still answers",
                )
            time.sleep(0.02)

    def undefine(self) -> None:
        """Make libvirt forget it; its images stay.

        Raises
        ------
        GuestError
            It is running.
        """
        self._check_writable(f"undefine {self._name}")
        if self.running:
            raise GuestError(f"undefine {self._name}", said="it is running", next_step="shut it down first")
        with libvirt_errors(f"undefine {self._name}"):
            self._domain.undefine()

    def _check_writable(self, tried: str) -> None:
        if self.host.readonly:
            raise ReadOnlyError(
                tried, said="the connection is for reading only", next_step="connect without readonly=True"
            )

    # -- snapshots --------------------------------------------------------------------------------------

    def snapshot(
        self,
        name: str | None = None,
        *,
        kind: Kind | None = None,
        description: str = "",
        disks: Mapping[str, str | os.PathLike[str] | None] | Iterable[str] | None = None,
        quiesce: bool = False,
        memory_file: str | os.PathLike[str] | None = None,
        atomic: bool = True,
        reuse: bool = False,
        metadata: bool = True,
    ) -> LivePlan:
        """Plan a snapshot; nothing happens until its `run`.

        Parameters
        ----------
        name : str, optional
            ``snap1``, ``snap2``, … if left out.
        kind : str, optional
            ``internal-disk``, ``internal-checkpoint``, ``external-disk`` or ``external-checkpoint``. If left out, the
            guest's state and disks decide, and `Plan.way` says why: off and all qcow2, internal disk; running and all
            qcow2, internal checkpoint; otherwise external disk.
        description : str
            Your words.
        disks : mapping of str to str, or iterable of str, optional
            By target ``internal``, ``external``, the path of the new overlay, or ``no`` (or None) to leave it out; an
            iterable names those that are taken, and leaves the others out. If left out, all disks that can be part of
            it are; a plan names the others with the reason.
        quiesce : bool
            Whether the QEMU guest agent freezes the guest's file systems meanwhile (external disk only).
        memory_file : path, optional
            Where an external checkpoint writes the memory; beside the overlays if left out.
        atomic : bool
            All disks or none.
        reuse : bool
            Whether the overlays are there already, made by you.
        metadata : bool
            Whether libvirt keeps a record.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            A name, kind, disk or combination that cannot be meant.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> guest = lab.guest("kept", backing=lab.base("RootBase"))
        >>> guest.snapshot("before", kind="external-disk").run(progress=False).as_predicted
        True
        >>> guest.snapshots().to_frame().loc["before", "kind"]
        'external-disk'
        """
        from vmsnap_nb.live.snapshots import snapshot_plan, snapshot_request

        request = snapshot_request(
            self,
            name=name,
            kind=kind,
            description=description,
            disks=disks,
            quiesce=quiesce,
            memory_file=memory_file,
            atomic=atomic,
            reuse=reuse,
            metadata=metadata,
        )
        return snapshot_plan(self, request)

    def snapshots(self) -> SnapshotList:
        """List its snapshots, those inside its images that libvirt does not know included."""
        from vmsnap_nb.live.snapshots import snapshot_list

        return snapshot_list(self)

    def revert(self, name: str, *, to: To = "as-taken", keep_current: bool = True) -> LivePlan:
        """Plan to go back to a snapshot; nothing happens until its `run`.

        Internal snapshots: libvirt writes what the images held then into the same images. External ones: the guest
        gets a new, empty overlay on the image of then, called after the snapshot's own with a number, as
        ``demo.snap1-2.qcow2``, and the definition of that moment; where the snapshot holds the memory, QEMU loads that
        from its file. This is done by single steps with every libvirt: before 9.9 it does not do it at all, and since
        then it removes the overlays of now. What was written there afterwards makes a second branch, and `revert` to a
        snapshot of the first goes back to that.

        Parameters
        ----------
        name : str
            The snapshot.
        to : str
            ``as-taken``: running or paused where the snapshot holds the memory, otherwise off; or ``running``,
            ``paused`` (from its memory if it holds that, otherwise from its disks), ``off`` (the disks alone).
        keep_current : bool
            Whether a snapshot ``kept1``, ``kept2``, … is taken first of what is there now, with its memory if it runs:
            then nothing is lost, and reverting to that one goes back. It is internal where `name` is, otherwise
            external, so that the image of now simply stays as it is. Without it the plan names each file whose content
            is thrown away, with its size (`state-lost`): an internal snapshot's images are overwritten; of an
            external one the overlay that the guest has now is removed, or emptied where a snapshot's record names it.
            An image that holds or carries something else stays in any case.

        Returns
        -------
        LivePlan

        Raises
        ------
        NotFoundError
            There is no such snapshot; the error lists those that there are.
        InvalidRequestError
            There is no such state to go to.

        Notes
        -----
        A revert that is cut short, as by the end of this process, is known to `unfinished`.
        What libvirt does by itself:
        https://libvirt.org/html/libvirt-libvirt-domain-snapshot.html#virDomainRevertToSnapshot.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> guest = lab.guest("went-back", backing=lab.base("RootBase"))
        >>> guest.snapshot("before", kind="internal-disk").run(progress=False).as_predicted
        True
        >>> plan = guest.revert("before", keep_current=False)
        >>> [concern.name for concern in plan.concerns if concern.level == "warn"]
        ['state-lost']
        """
        from vmsnap_nb.live.revert import revert_plan
        from vmsnap_nb.plans.revert_draft import RevertRequest

        return revert_plan(self, RevertRequest(name, to, keep_current))

    def delete_snapshot(
        self, name: str, *, children: Literal[False, "also", "only"] = False, metadata_only: bool = False
    ) -> LivePlan:
        """Plan to delete a snapshot; nothing happens until its `run`.

        What the guest reads, and all other snapshots, stay as they are. An internal snapshot is removed from its
        images. An external one is merged: its overlay is committed down into the image that holds the state of that
        moment, or that image is pulled up into the overlay, whichever is possible and copies fewer bytes; what is not
        needed any more is removed. An image on which another guest, another overlay or a snapshot that stays stands is
        never written to or removed. This is done by single steps with every libvirt, by block jobs of QEMU while the
        guest runs, else by qemu-img. Only where libvirt's own deletion does just the same (since 11.0, one snapshot of
        a guest that runs, downwards) it is left to libvirt; older ones cannot do it, or spoil images that hold
        internal snapshots.

        Parameters
        ----------
        name : str
            The snapshot.
        children : str or False
            ``also``: with all snapshots that stand on it; ``only``: these without it. If False they stay, and stand on
            its parent then.
        metadata_only : bool
            Whether only libvirt's record goes; no file is touched.

        Returns
        -------
        LivePlan
            `Plan.way` says which merge happens, `Plan.alternatives` has both directions with their bytes, `Plan.writes`
            and `Plan.unlinks` the files.

        Raises
        ------
        NotFoundError
            There is no such snapshot; the error lists those that there are.
        InvalidRequestError
            What cannot be meant, as the children of a snapshot that has none.

        Notes
        -----
        What libvirt does by itself:
        https://libvirt.org/html/libvirt-libvirt-domain-snapshot.html#virDomainSnapshotDelete.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> guest = lab.guest("tidied", backing=lab.base("RootBase"))
        >>> guest.snapshot("before", kind="external-disk").run(progress=False).as_predicted
        True
        >>> guest.delete_snapshot("before").run(progress=False).as_predicted, len(guest.chain())
        (True, 2)
        """
        from vmsnap_nb.live.delete import delete_plan

        return delete_plan(self, name, children=children, metadata_only=metadata_only)

    def reconcile(self) -> LivePlan:
        """Plan to put libvirt's records of its snapshots right; no image is touched, and nothing happens until `run`.

        Records whose files or internal snapshots are gone are forgotten; internal snapshots without a record get one.

        Returns
        -------
        LivePlan
        """
        from vmsnap_nb.live.snapshots import reconcile_plan

        return reconcile_plan(self)

    def save(self, path: str | os.PathLike[str] | None = None) -> LivePlan:
        """Plan to save its memory and end its QEMU; nothing happens until its `run`.

        Parameters
        ----------
        path : path, optional
            A new file; libvirt's managed save if left out: then the next start goes on from there.

        Returns
        -------
        LivePlan
        """
        from vmsnap_nb.live.snapshots import save_plan

        return save_plan(self, path)

    def restore(self, path: str | os.PathLike[str] | None = None) -> LivePlan:
        """Plan to let it go on from its saved memory; nothing happens until its `run`.

        Parameters
        ----------
        path : path, optional
            The file that `save` has written; the managed save if left out.

        Returns
        -------
        LivePlan

        Raises
        ------
        VmsnapError
            There is no such file, or it is no saved memory.
        """
        from vmsnap_nb.live.snapshots import restore_plan

        return restore_plan(self, path)

    # -- merging ----------------------------------------------------------------------------------------

    def commit(
        self,
        *,
        base: str | os.PathLike[str] | None = None,
        top: str | os.PathLike[str] | None = None,
        disk: str | None = None,
        keep_active: bool = False,
        remove: bool = False,
        verify: bool = False,
        bandwidth: int = 0,
        timeout: float | None = None,
    ) -> LivePlan:
        """Plan to copy layers of a disk's chain down: live while it runs, by qemu-img while it is off.

        Parameters
        ----------
        base : path or name, optional
            The layer that takes the data; the one below `top` if left out.
        top : path or name, optional
            The highest layer that is merged; if left out the image that the guest writes to: then the guest writes to
            `base` in the end.
        disk : str, optional
            Its target, as ``vda``; the first one that has an image if left out.
        keep_active : bool
            Whether the guest, which must run, goes on writing to its image although that was committed.
        remove : bool
            Whether to remove the merged files in the end, instead of marking them as invalid. This and `verify` can be
            given to `LivePlan.run` as well; `LiveReport.cleanup` removes the files afterwards.
        verify : bool
            Whether to compare the content before and after; only of a guest that is off.
        bandwidth : int
            Bytes a second at most, while it runs; 0 for no limit.
        timeout : float, optional
            Seconds after which a block job is ended, the chain being what it was; without it there is no limit.

        Returns
        -------
        LivePlan
            `Plan.way` says which way it goes.

        Raises
        ------
        InvalidRequestError
            What cannot be meant, as a base that is not below the top.
        NotFoundError
            There is no such disk or layer.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> guest = lab.guest("merged", backing=lab.base("RootBase"))
        >>> guest.snapshot(kind="external-disk", metadata=False).run(progress=False).as_predicted
        True
        >>> guest.commit(base="merged", remove=True).run(progress=False).as_predicted, len(guest.chain())
        (True, 2)
        """
        from vmsnap_nb.live.merge_live import commit_plan

        return commit_plan(
            self,
            base=base,
            top=top,
            disk=disk,
            keep_active=keep_active,
            remove=remove,
            verify=verify,
            bandwidth=bandwidth,
            timeout=timeout,
        )

    def pull(
        self,
        *,
        base: str | os.PathLike[str] | None = None,
        into: str | os.PathLike[str] | None = None,
        disk: str | None = None,
        remove: bool = False,
        verify: bool = False,
        bandwidth: int = 0,
        timeout: float | None = None,
    ) -> LivePlan:
        """Plan to copy data up in a disk's chain: live while it runs, by qemu-img while it is off.

        Parameters
        ----------
        base : path or name, optional
            The layer on which `into` will stand; if left out everything is copied, and it stands alone.
        into : path or name, optional
            The layer that takes the data: the image that the guest writes to if left out.
        remove : bool
            Whether to remove the layers between, as far as nobody else stands on them.
        disk, verify, bandwidth, timeout
            As in `commit`.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError, NotFoundError
            As in `commit`.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> plan = lab.guest("alone", backing=lab.base("RootBase")).pull()
        >>> [path.rpartition("/")[2] for path in plan.writes]
        ['alone.qcow2']
        """
        from vmsnap_nb.live.merge_live import pull_plan

        return pull_plan(
            self,
            base=base,
            into=into,
            disk=disk,
            remove=remove,
            verify=verify,
            bandwidth=bandwidth,
            timeout=timeout,
        )

    def shorten(
        self,
        *,
        keep: int | str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        disk: str | None = None,
        remove: bool = False,
        verify: bool = False,
    ) -> LivePlan:
        """Plan to make a disk's chain short, the way that copies the fewest bytes; it goes on with the same image.

        Parameters
        ----------
        keep : int, path, name, or iterable of them
            How many images may remain; or which must remain as they are, beside the last. While the guest runs block
            jobs do it, one after the other: commits of neighbouring layers, and a pull into the last image.
        disk, remove, verify
            As in `commit`.

        Returns
        -------
        LivePlan
            `Plan.alternatives` has other ways, with their bytes.

        Raises
        ------
        InvalidRequestError
            It is as short as that already, or what cannot be meant.
        NotFoundError
            There is no such disk or layer.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> guest = lab.guest("long", backing=lab.base("RootBase"))
        >>> for name in ("one", "two", "three"):
        ...     report = guest.snapshot(name, kind="external-disk", metadata=False).run(progress=False)
        >>> guest.shorten(keep=2).run(progress=False).as_predicted, len(guest.chain())
        (True, 2)
        """
        from vmsnap_nb.live.merge_live import shorten_plan

        return shorten_plan(self, keep=keep, disk=disk, remove=remove, verify=verify)

    def cleanup(self) -> LivePlan:
        """Plan to remove the invalid files that merges have left on layers of its chains; nothing happens until `run`.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            There are none.
        """
        from vmsnap_nb.live.merge_live import cleanup_plan

        return cleanup_plan(self)

    def unfinished(self) -> tuple[LivePlan, ...]:
        """Give the plans that finish what was cut short: commits in its chains, and a revert.

        A commit may be one that QEMU still goes on with. Where nobody knows whether QEMU had written all, a plan takes
        it back, and the next makes it again. Any other revert of the guest does away with the note of one that was cut
        short.

        Returns
        -------
        tuple of LivePlan
            Empty if there are none.
        """
        from vmsnap_nb.live.merge_live import unfinished_plans
        from vmsnap_nb.live.revert import unfinished_reverts

        return (*unfinished_plans(self), *unfinished_reverts(self))

    # -- inside -----------------------------------------------------------------------------------------

    def wait_ready(self, *, timeout: float = 120.0) -> Guest:
        """Wait until it takes commands.

        Parameters
        ----------
        timeout : float
            Seconds.

        Returns
        -------
        Guest
            This one.

        Raises
        ------
        GuestNotReadyError
            It is off, or has nothing that listens, or does not get ready in time; the end of its console is said.
        """
        tried = f"wait until {self._name} takes commands"
        deadline = time.monotonic() + timeout
        said = "it did not get ready in time"
        while time.monotonic() < deadline:
            if not self._still_running():
                said = "it is not running"
                break
            ports = channels(self.xml())
            if not {COMMAND_PORT, guest_agent.AGENT_PORT} & set(ports):
                said = "it has neither the port of a lab's guest nor one for the QEMU guest agent"
                break
            if COMMAND_PORT in ports:
                failed = self._try_port(min(deadline - time.monotonic(), 5.0))
                if failed is None:
                    return self
                said = f"it did not get ready in time; the last attempt: {failed.said or failed}"
            if ports.get(guest_agent.AGENT_PORT) and guest_agent.agent_answers(self._domain):
                return self
            time.sleep(0.1)
        tail = self._console_tail()
        raise GuestNotReadyError(
            tried,
            said=said + (f"; the end of its console:\n{tail}" if tail else ""),
            next_step="start it" if said == "it is not running" else "look at console()",
        )

    def _try_port(self, seconds: float) -> VmsnapError | None:
        """Run nothing by the port of a lab's guest, and give the reason if that fails."""
        try:
            self._run_on_port("true", timeout=1, patience=max(seconds - 1, 0.1))
        except (GuestNotReadyError, GuestError) as error:
            return error
        return None

    def _console_tail(self) -> str:
        try:
            return "\n".join(self.console().splitlines()[-8:])
        except VmsnapError:
            return ""

    def execute(self, command: str, *, timeout: float = 60.0) -> Completed:
        """Run a command in the guest by its ``/bin/sh``, as root, and wait for its end.

        A lab guest's own listener does it, in other guests the QEMU guest agent. Before this returns the guest has
        written everything to its disk (`sync`), so that it outlives even `destroy`.

        Parameters
        ----------
        command : str
            One or more lines for the shell. Its standard input is empty. What it puts into the background goes on.
        timeout : float
            Seconds after which it is ended, with all that it started.

        Returns
        -------
        Completed
            An exit status other than 0 is no error here: see `Completed.check`.

        Raises
        ------
        GuestNotReadyError
            The guest takes no commands now.
        GuestError
            The command took too long.
        """
        tried = f"run a command in {self._name}"
        self._check_writable(tried)
        if not self._still_running():
            raise GuestNotReadyError(tried, said="it is not running", next_step="start it first")
        if self.state == "paused":
            raise GuestNotReadyError(tried, said="it is paused", next_step="resume() it first")
        ports = channels(self.xml())
        # The agent refuses to run commands while it has the file systems frozen; the listener goes on.
        if ports.get(COMMAND_PORT):
            return self._run_on_port(command, timeout=timeout)
        if ports.get(guest_agent.AGENT_PORT) and guest_agent.agent_answers(self._domain):
            return guest_agent.run_by_agent(self._domain, command, timeout=timeout)
        if COMMAND_PORT in ports:
            return self._run_on_port(command, timeout=timeout)
        raise GuestNotReadyError(
            f"run a command in {self._name}",
            said="no QEMU guest agent answers in it",
            next_step="install and start qemu-guest-agent in the guest, or wait until it has started",
        )

    def _agent_answers(self) -> bool:
        """Tell whether its agent answers. A lab's guest takes commands before its agent runs: that is waited for."""
        deadline = time.monotonic() + _AGENT_STARTS
        ports = channels(self.xml())
        comes = COMMAND_PORT in ports and self.state == "running"
        if comes and not ports.get(guest_agent.AGENT_PORT):
            try:
                comes = self._run_on_port("test -d /run/vmsnap/agent", timeout=10, patience=10).exit_status == 0
            except VmsnapError:
                comes = False
        while True:
            asked = time.monotonic()
            if ports.get(guest_agent.AGENT_PORT) and guest_agent.agent_answers(self._domain):
                return True
            # One that was heard out hangs. libvirt says at once that it has not opened the port yet, when QEMU has.
            if not comes or time.monotonic() > deadline or time.monotonic() - asked > 3:
                return False
            time.sleep(0.1)
            ports = channels(self.xml())

    def _run_on_port(self, command: str, *, timeout: float, patience: float = 30.0) -> Completed:
        lock = _BUSY_PORTS.setdefault(self._uuid, threading.Lock())
        with lock, guest_port.Port(self.host.connection, self._domain, COMMAND_PORT) as port:
            return guest_port.run_on_port(port, command, timeout=timeout, patience=patience)

    def console(self) -> str:
        """Give what it has written to its serial console since it was started.

        Returns
        -------
        str
            Without terminal control sequences; at most the last 4 MiB.

        Raises
        ------
        GuestError
            Its console is not written to a file, or that file is on another machine.
        """
        path = console_log(ET.fromstring(self.xml()))
        if path is None or not self.host.files_are_here:
            raise GuestError(
                f"read the console of {self._name}",
                said="it is not written to a file" if path is None else f"{path} is on another machine",
                next_step=f"use: virsh -c {self.host.uri} console {self._name}",
            )
        return read_console(path)
