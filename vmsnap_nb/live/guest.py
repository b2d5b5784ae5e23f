"""One guest of a host: start and stop it, look at its disks and chains, run commands in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from vmsnap_nb.errors import ConcernWarning, LibvirtError, VmsnapError
from vmsnap_nb.live.cards import guest_card, read_card
from vmsnap_nb.live.chain import LiveChain
from vmsnap_nb.live.check import check_image
from vmsnap_nb.live.commands import Commands
from vmsnap_nb.live.guest_actions.delete import delete_actions
from vmsnap_nb.live.guest_actions.merge import guest_merge_actions
from vmsnap_nb.live.guest_actions.records import lost_records
from vmsnap_nb.live.guest_actions.revert import revert_actions, unfinished_reverts
from vmsnap_nb.live.guest_actions.snapshot import asked_of_disks, snapshot_actions
from vmsnap_nb.live.guest_files import GuestFiles
from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.live.image_names import named
from vmsnap_nb.live.place import Place
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.power import Power
from vmsnap_nb.live.reading import look_at_guest, sources_of
from vmsnap_nb.live.remote_chain import forest_of_one
from vmsnap_nb.live.snapshot_lists import snapshot_list
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.caller import warn_caller
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.model.find import find_disk
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disks, Domain, State
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.image_check import ImageCheck
from vmsnap_nb.model.lookup import ImageLike
from vmsnap_nb.model.number import check_images, check_seconds
from vmsnap_nb.plans.concern import Concern, Concerns
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.merge.held_layers import CorrectRequest, held_requests
from vmsnap_nb.plans.merge.request import (
    CleanupRequest,
    CommitRequest,
    FinishPullRequest,
    FinishRequest,
    PullRequest,
    ShortenRequest,
    unfinished,
    unfinished_needs,
)
from vmsnap_nb.plans.request import Needs, Reading, Request
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.plans.save.request import RestoreRequest, SaveRequest
from vmsnap_nb.plans.snapshot.request import ReconcileRequest, SnapshotRequest
from vmsnap_nb.system.files.paths import absolute
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    from vmsnap_nb.live.host import Host
    from vmsnap_nb.model.snapshot import Kind, SnapshotList
    from vmsnap_nb.plans.revert.request import To

__all__ = ["Guest"]


@checked_methods
class Guest(GuestFiles):
    """A guest that libvirt manages. `Host.guest`, `Host.guests` and `Lab.guest` return guests.

    Parameters
    ----------
    host : Host
        The host that runs the guest.
    domain : libvirt.virDomain
        The libvirt domain object.
    """

    _unlisted = frozenset({"commands", "handle", "power"})

    def __init__(self, host: Host, domain: Any) -> None:
        self.host = host
        self._handle = GuestHandle(host.link, domain)
        self._name: str = domain.name()
        self._uuid: str = domain.UUIDString()
        self.commands = Commands(self._handle)
        self.power = Power(self._handle, self.commands)

    @property
    def handle(self) -> GuestHandle:
        """The object that plans and their steps receive; its `domain` is libvirt's own handle."""
        return self._handle

    def _plan(
        self, request: Request, files: Iterable[str] = (), *, around: bool = False, saved: str | None = None
    ) -> LivePlan:
        """Return the plan of a request about it."""
        return LivePlan.bind(request, self._place(files, around=around, saved=saved))

    def _merge(self, request: Request) -> LivePlan:
        """Return the plan of a merge in its chains: of others that are based on its layers it must know all."""
        return LivePlan.bind(request, self._merge_place())

    def _merge_place(self, files: Iterable[str] = ()) -> Place:
        # Several disks may be merged at once: a plan has its images for itself, and not the guest.
        return replace(self._place(files, around=True), guest=None)

    def _place(self, files: Iterable[str] = (), *, around: bool = False, saved: str | None = None) -> Place:
        """Return the place where requests about it are read for, and where their plans run."""
        handle, link, survey = self._handle, self._handle.link, Survey(follow=True)
        files = tuple(files)

        def read() -> Reading:
            return handle.survey(survey, files, around=around, saved=saved)

        def look(now: Reading, needs: Needs) -> Reading:
            here, by_libvirt = link.files_are_here, link.is_system
            looked = look_at_guest(link.knowledge(), handle.domain, now, needs, here=here, by_libvirt=by_libvirt)
            if not needs.agent or not looked.owner.running or link.readonly:
                return looked
            # One that is connected and hangs would keep libvirt waiting without an end.
            return replace(looked, guest=replace(looked.owner, agent=self.commands.agent_answers()))

        actions = {
            **link.actions(),
            **snapshot_actions(link),
            **guest_merge_actions(handle),
            **revert_actions(link),
            **delete_actions(link),
        }
        return replace(link.place_of(read, look, actions), guest=handle.ref)

    @property
    def _answering(self) -> GuestHandle:
        """The same, once libvirt has shown that it answers: a call of one that hangs would never end."""
        self._check_answers()
        return self._handle

    def _check_answers(self) -> None:
        self._handle.link.check_soon(t("read the guest {name}", name=self._name))

    @property
    def _domain(self) -> Any:
        """libvirt's own handle of it."""
        return self._handle.domain

    @property
    def name(self) -> str:
        """The name of the guest."""
        return self._name

    @property
    def uuid(self) -> str:
        """The UUID of the guest, as libvirt writes it."""
        return self._uuid

    @property
    def state(self) -> State:
        """The current state in virsh's terms, such as ``running``, ``paused``, ``shut off`` or ``saved``.

        Raises
        ------
        NotFoundError
            The guest no longer exists.
        """
        return self._answering.state

    @property
    def running(self) -> bool:
        """Whether a QEMU process has the guest's images open."""
        return self._answering.running

    def __repr__(self) -> str:
        try:
            state: str = self.state
        except LibvirtError:
            state = "unknown"
        except VmsnapError:
            state = "gone"
        return f"<Guest {self._name}: {state}>"

    def _repr_html_(self) -> str:
        return read_card(lambda: guest_card(self), t("Guest {name}", name=self._name))

    # -- what it is -------------------------------------------------------------------------------------

    def xml(self) -> str:
        """Return the domain XML of the guest, or its live XML while the guest is running.

        Returns
        -------
        str
        """
        return self._answering.xml()

    def domain(self) -> Domain:
        """Read libvirt's information about the guest."""
        return self._answering.read()

    def disks(self) -> Disks:
        """List the guest's disks, as `virsh domblklist` does, with the depth of each chain and the sizes of the images.

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
        forest = self._forest()
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

    def chain(self, target: str | None = None, *, at: str | None = None) -> LiveChain:
        """Read the backing chain of a disk, from its base to its active layer.

        Parameters
        ----------
        target : str, optional
            The disk, such as ``vda``. Default: the first disk that has an image.
        at : str, optional
            The name of a snapshot, to read the chain that the disk had when the snapshot was taken. Default: the
            current chain.

        Returns
        -------
        LiveChain
            For a guest on another machine, other users of its images are not included; `Host.survey` includes them.

        Raises
        ------
        NotFoundError
            The disk or snapshot does not exist, or the disk has no image.
        ImageError
            The files of the snapshot are missing, or do not match its record.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> [image.name for image in lab.guest("listed", backing=lab.base("RootBase")).chain()]
        ['RootBase', 'listed']
        """
        if at is not None:
            then, point = self._point(at, target)
            return LiveChain(then, point.image, point.inside, volume=self._handle.link.open_volume)
        forest = self._forest()
        return LiveChain(forest, find_disk(forest, self._name, target).path, volume=self._handle.link.open_volume)

    def blockmap(self, target: str | None = None, *, at: str | None = None) -> BlockMap:
        """Map the parts of the disk that each layer of its chain holds.

        Parameters
        ----------
        target, at : str, optional
            As in `chain`.

        Returns
        -------
        BlockMap
            The map of the current contents of the files. QEMU updates the tables in the files when a running guest
            flushes its disk: ``guest.execute("sync")`` brings the map up to date.

        Raises
        ------
        NotFoundError
            The disk or snapshot does not exist.
        ImageError
            A layer is missing, is encrypted, or is in a format that QEMU cannot map.
        """
        return self.chain(target, at=at).blockmap()

    def check(self, target: str | None = None, *, timeout: float = 600.0) -> ImageCheck:
        """Check the tables of a disk's active layer with `qemu-img check`; the guest must be off.

        To check a lower layer, use ``guest.chain()[0].check()``.

        Parameters
        ----------
        target : str, optional
            The disk, such as ``vda``. Default: the first disk that has an image.
        timeout : float
            The maximum number of seconds for the check.

        Returns
        -------
        ImageCheck

        Raises
        ------
        NotFoundError
            The disk does not exist.
        ImageError, InUseError, CommandError
            As in `Image.check`.
        """
        chain = self.chain(target)
        return check_image(chain[chain.top], timeout)

    def _forest(self) -> Forest:
        """Return its images and, on this machine, all that uses them."""
        if not self._handle.link.files_are_here:
            return forest_of_one(self._handle)
        sources = (use.path for use in self.domain().uses if use.path.startswith("/"))
        return self.host.survey(*sorted({os.path.dirname(source) for source in sources}))

    # -- start and stop ---------------------------------------------------------------------------------

    def concerns(self) -> tuple[Concern, ...]:
        """Return the reasons not to start the guest now or, if it is running, the data that it would lose if it
        stopped.

        Do not start the guest if another process has its images open, or if its disk may contain wrong data after an
        interrupted merge. The same applies if layers are missing or invalid, or if headers do not record a backing
        format. A running guest loses data if QEMU writes to a deleted file, or to an image other than the image in
        libvirt's definition.

        Returns
        -------
        tuple of Concern
        """
        self._check_answers()
        return Concerns(self.power.concerns())

    def start(self, *, wait: bool = True, force: bool = False, timeout: float = 120.0) -> Guest:
        """Start the guest.

        Parameters
        ----------
        wait : bool
            Whether to wait until a lab guest accepts commands.
        force : bool
            Whether to skip the checks, so that only libvirt and QEMU can refuse to start the guest. libvirt and QEMU do
            not detect overlays that are based on the image to which the guest writes.
        timeout : float
            The maximum number of seconds to wait.

        Returns
        -------
        Guest
            The same guest.

        Raises
        ------
        ReadOnlyError
            The connection is read-only.
        InUseError
            Another guest or process, listed in `holders`, has one of the guest's images open. The error is also raised
            if a merge was interrupted: the disk may contain wrong data until a plan from `unfinished` finishes the
            merge.
        ImageError
            A layer is missing or invalid, or a header does not record a backing format, so libvirt does not start the
            guest. The error is also raised if overlays are based on the image to which the guest would write.
        GuestNotReadyError
            The guest does not become ready in time.
        LibvirtError, NoSpaceError, PermissionDeniedError
            The guest does not start.

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
        self.power.start(wait=wait, force=force, timeout=check_seconds(timeout))
        return self

    def shutdown(self, *, timeout: float = 60.0) -> None:
        """Shut the guest down cleanly, and wait until it is off. If it is already off, nothing happens.

        Parameters
        ----------
        timeout : float
            The maximum number of seconds to wait.

        Raises
        ------
        GuestError
            The guest is still running after `timeout`, or a shutdown would lose data. Data would be lost if QEMU is
            writing to a deleted file, or to an image other than the image in libvirt's definition. `unfinished` returns
            the plan that prevents the loss.
        """
        self.power.shutdown(check_seconds(timeout))

    def destroy(self) -> None:
        """Stop the guest's QEMU process without a shutdown; the definition and images remain.

        If the guest is off, nothing happens.

        Warns
        -----
        ConcernWarning
            Data is lost, as listed in `concerns`; `shutdown` would have been refused.
        """
        self._check_answers()
        for concern in self.power.losses_soon():
            warn_caller(ConcernWarning(t("stop {guest}", guest=self._name), concern))
        self.power.destroy()

    def suspend(self) -> None:
        """Pause the guest: its processors stop, and its memory is kept. If it is already paused, nothing happens.

        Raises
        ------
        GuestError
            The guest is off.
        ReadOnlyError
            The connection is read-only.
        LibvirtError
            libvirt refuses, for example because the guest is suspended to RAM.
        """
        self.power.suspend()

    def resume(self) -> None:
        """Resume the guest after `suspend`, a revert to ``paused`` or a full disk. If it is running, nothing happens.

        If QEMU paused the guest because of a disk error, the call waits up to three seconds for the error to disappear.

        Raises
        ------
        GuestError
            The guest is off, or QEMU pauses it again within three seconds because the disk error remains.
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
        self.power.resume()

    def undefine(self) -> None:
        """Remove the guest's definition from libvirt. The images remain.

        Raises
        ------
        GuestError
            The guest is running.
        """
        self.power.undefine()

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
        """Plan a snapshot; nothing changes until you call `run`.

        Parameters
        ----------
        name : str, optional
            The name of the snapshot. Default: ``snap1``, ``snap2`` and so on.
        kind : str, optional
            ``internal-disk``, ``internal-checkpoint``, ``external-disk`` or ``external-checkpoint``. By default, the
            kind depends on the guest's state and disks, and `Plan.way` gives the reason. If all disks are qcow2, the
            default is an internal checkpoint while the guest runs, and an internal disk snapshot while it is off.
            Otherwise, the default is an external disk snapshot.
        description : str
            Free text.
        disks : mapping of str to str, or iterable of str, optional
            For each target: ``internal``, ``external``, the path of the new overlay, or ``no`` (or None) to exclude the
            disk. If you pass an iterable of targets, only these disks are included. Default: all disks that can be
            included; the plan lists each excluded disk with the reason.
        quiesce : bool
            Whether the QEMU guest agent freezes the guest's file systems during the snapshot (only for external disk
            snapshots).
        memory_file : path, optional
            The file to which an external checkpoint writes the memory. Default: beside the overlays.
        atomic : bool
            Whether to take no snapshot at all if the snapshot of one disk fails.
        reuse : bool
            Whether to use overlays that you have already created.
        metadata : bool
            Whether libvirt keeps a record of the snapshot.

        Returns
        -------
        LivePlan

        Raises
        ------
        InvalidRequestError
            A name, kind, disk or combination is invalid.

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
        request = SnapshotRequest(
            guest=self.handle.ref,
            name=name,
            kind=kind,
            description=description,
            disks=asked_of_disks(disks),
            quiesce=quiesce,
            memory_file=None if memory_file is None else absolute(memory_file),
            atomic=atomic,
            reuse=reuse,
            metadata=metadata,
        )
        return self._plan(request, request.files)

    def snapshots(self) -> SnapshotList:
        """List the guest's snapshots, including internal snapshots in its images that have no libvirt record."""
        return snapshot_list(self.handle)

    def revert(self, name: str, *, to: To = "as-taken", keep_current: bool = True) -> LivePlan:
        """Plan to revert to a snapshot; nothing changes until you call `run`.

        For an internal snapshot, libvirt restores its content in the same images. For an external snapshot, the guest
        gets its definition from the time of the snapshot, and a new, empty overlay on the snapshot's image. The new
        overlay is named after the snapshot's own overlay, with a number, such as ``demo.snap1-2.qcow2``. If the
        snapshot holds the memory, QEMU loads it from its file. These steps work with every version of libvirt.
        libvirt's own revert to external snapshots is not used: it does not exist before version 9.9, and newer versions
        remove the current overlays. Writes after the revert form a second branch; a `revert` to a snapshot of the first
        branch returns to it.

        Parameters
        ----------
        name : str
            The snapshot.
        to : str
            The state afterwards. ``as-taken``: running or paused if the snapshot holds the memory, otherwise off.
            ``running`` or ``paused``: from the snapshot's memory, or from its disks if it holds no memory. ``off``:
            only the disks are restored.
        keep_current : bool
            Whether to first keep the current state, including the memory of a running guest, in a snapshot named
            ``kept1``, ``kept2`` and so on. Then nothing is lost, and a revert to that snapshot restores the current
            state. The kept snapshot is internal if `name` is an internal snapshot; otherwise it is external, and the
            current image remains unchanged. If False, the plan lists each file whose content is discarded, with its
            size (`state-lost`). A revert to an internal snapshot overwrites the content of its images. After a revert
            to an external snapshot, the previous overlay is removed, or emptied if the record of a snapshot refers to
            it. An image that other images, guests or snapshots depend on is always kept.

        Returns
        -------
        LivePlan

        Raises
        ------
        NotFoundError
            The snapshot does not exist; the error lists the existing snapshots.
        InvalidRequestError
            `to` is not one of these states.

        Notes
        -----
        If a revert is interrupted, for example because this process ends, `unfinished` returns a plan that finishes it.
        libvirt's own behaviour:
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
        return self._plan(RevertRequest(guest=self.handle.ref, name=name, to=to, keep_current=keep_current))

    def delete_snapshot(
        self, name: str, *, children: Literal[False, "also", "only"] = False, metadata_only: bool = False
    ) -> LivePlan:
        """Plan to delete a snapshot; nothing changes until you call `run`.

        The current content of the guest's disks and all other snapshots are preserved. An internal snapshot is removed
        from its images. An external snapshot is merged: its overlay is committed into the image that holds its state,
        or that image is pulled into the overlay. If both directions are possible, the plan chooses the direction that
        copies fewer bytes. Files that are no longer needed are removed. An image that another guest, overlay or
        remaining snapshot depends on is never written to or removed. These steps work with every version of libvirt:
        they are QEMU block jobs while the guest runs, and qemu-img commands otherwise. libvirt's own deletion is used
        only if it has exactly the same result (since 11.0: one snapshot of a running guest, merged down). Older
        versions cannot delete such a snapshot, or corrupt images with internal snapshots.

        Parameters
        ----------
        name : str
            The snapshot.
        children : str or False
            ``also``: delete the snapshot and all its descendants; ``only``: delete the descendants, but not the
            snapshot. If False, its children remain and become children of its parent.
        metadata_only : bool
            Whether to remove only libvirt's record, without removing any file.

        Returns
        -------
        LivePlan
            `Plan.way` describes the merge. `Plan.alternatives` lists both directions, with the number of bytes that
            each copies. `Plan.writes` and `Plan.unlinks` list the affected files.

        Raises
        ------
        NotFoundError
            The snapshot does not exist; the error lists the existing snapshots.
        InvalidRequestError
            The request is invalid, for example because `children` was passed for a snapshot without children.

        Notes
        -----
        libvirt's own behaviour:
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
        request = DeleteRequest(guest=self.handle.ref, name=name, children=children, metadata_only=metadata_only)
        return self._plan(request, around=True)

    def reconcile(self) -> LivePlan:
        """Plan to correct libvirt's snapshot records without changing any image; nothing happens until you call `run`.

        Records whose files or internal snapshots are missing are removed; internal snapshots without a record get a
        record.

        Returns
        -------
        LivePlan
        """
        return self._plan(ReconcileRequest())

    def save(self, path: str | os.PathLike[str] | None = None) -> LivePlan:
        """Plan to save the guest's memory and stop its QEMU process; nothing changes until you call `run`.

        Parameters
        ----------
        path : path, optional
            A new file. Default: libvirt's managed save, from which the next start resumes the guest.

        Returns
        -------
        LivePlan
        """
        file = None if path is None else absolute(path)
        return self._plan(SaveRequest(path=file), saved=file)

    def restore(self, path: str | os.PathLike[str] | None = None) -> LivePlan:
        """Plan to resume the guest from saved memory; nothing changes until you call `run`.

        Parameters
        ----------
        path : path, optional
            The file that `save` wrote. Default: the managed save.

        Returns
        -------
        LivePlan

        Raises
        ------
        VmsnapError
            The file does not exist, or is not saved memory.
        """
        if path is None:
            return self._plan(RestoreRequest())
        self._check_answers()
        file, link = absolute(path), self.handle.link
        sources = sources_of(link.handle, file, here=link.files_are_here, xml=self.handle.xml())
        return self._plan(RestoreRequest(path=file), sources, saved=file)

    # -- merging ----------------------------------------------------------------------------------------

    def commit(
        self,
        *,
        base: ImageLike | None = None,
        top: ImageLike | None = None,
        disk: str | None = None,
        keep_active: bool = False,
        remove: bool = False,
        verify: bool = False,
        bandwidth: int = 0,
        timeout: float | None = None,
    ) -> LivePlan:
        """Plan to commit layers of a disk's chain: live while the guest runs, with qemu-img while it is off.

        Parameters
        ----------
        base : Image, path or name, optional
            The layer that receives the data. Default: the backing file of `top`.
        top : Image, path or name, optional
            The highest layer to commit. Default: the active layer; after its commit, the guest writes to `base`.
        disk : str, optional
            The target, such as ``vda``. Default: the first disk that has an image.
        keep_active : bool
            Whether the guest keeps writing to its active layer after the layer has been committed. The guest must be
            running.
        remove : bool
            Whether to remove the merged files at the end, instead of marking them as invalid. You can also pass
            `remove` and `verify` to `LivePlan.run`, or remove the files later with `LiveReport.cleanup`.
        verify : bool
            Whether to compare the content before and after the merge; possible only for a guest that is off.
        bandwidth : int
            The maximum number of bytes per second while the guest runs; 0 means no limit.
        timeout : float, optional
            The number of seconds after which a block job is cancelled; the chain then remains unchanged. Default: no
            limit.

        Returns
        -------
        LivePlan
            `Plan.way` describes how the data is copied.

        Raises
        ------
        InvalidRequestError
            The request is invalid, for example because the base is not below the top.
        NotFoundError
            The disk or layer does not exist.

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
        return self._merge(
            CommitRequest(
                guest=self._name,
                disk=disk,
                top=_named(top),
                base=_named(base),
                keep_active=keep_active,
                remove=remove,
                verify=verify,
                bandwidth=bandwidth,
                timeout=timeout,
            )
        )

    def pull(
        self,
        *,
        base: ImageLike | None = None,
        into: ImageLike | None = None,
        disk: str | None = None,
        remove: bool = False,
        verify: bool = False,
        bandwidth: int = 0,
        timeout: float | None = None,
    ) -> LivePlan:
        """Plan to pull data into a higher layer of a disk's chain: live while the guest runs, with qemu-img while it is
        off.

        Parameters
        ----------
        base : Image, path or name, optional
            The layer that becomes the backing file of `into`. By default, all data is copied, and `into` no longer has
            a backing file.
        into : Image, path or name, optional
            The layer that receives the data. Default: the active layer.
        remove : bool
            Whether to remove the layers in between, unless something else depends on them.
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
        return self._merge(
            PullRequest(
                guest=self._name,
                disk=disk,
                into=_named(into),
                base=_named(base),
                remove=remove,
                verify=verify,
                bandwidth=bandwidth,
                timeout=timeout,
            )
        )

    def shorten(
        self,
        *,
        keep: int | ImageLike | Iterable[ImageLike],
        disk: str | None = None,
        remove: bool = False,
        verify: bool = False,
    ) -> LivePlan:
        """Plan to shorten a disk's chain while copying as few bytes as possible; the active layer remains the same.

        Parameters
        ----------
        keep : int, Image, path, name, or iterable of these
            The number of images that may remain, or the images that must remain unchanged in addition to the active
            layer. While the guest runs, the chain is shortened by a sequence of block jobs: commits of adjacent layers,
            and a pull into the active layer.
        disk, remove, verify
            As in `commit`.

        Returns
        -------
        LivePlan
            `Plan.alternatives` lists the ways that were compared, with the number of bytes that each copies.

        Raises
        ------
        InvalidRequestError
            The chain is already as short as requested, or the request is invalid.
        NotFoundError
            The disk or layer does not exist.

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
        several = (keep,) if isinstance(keep, Image | str | os.PathLike) else keep
        kept = tuple(map(named, several)) if isinstance(several, Iterable) else check_images(several)
        return self._merge(ShortenRequest(guest=self._name, disk=disk, keep=kept, remove=remove, verify=verify))

    def cleanup(self) -> LivePlan:
        """Plan to remove the guest's layers that merges have marked as invalid; nothing happens until you call `run`.

        Returns
        -------
        LivePlan

        Raises
        ------
        NothingToDoError
            No layer is marked as invalid.
        """
        return self._merge(CleanupRequest(guest=self._name))

    def unfinished(self) -> tuple[LivePlan, ...]:
        """Return the plans that finish interrupted operations: commits, pulls, external snapshots, and a revert.

        Plans that prevent a loss of data come first. If libvirt has dropped a record that it could not write, only the
        plans that write the record again are returned. If QEMU writes to an image other than the image in libvirt's
        definition, a plan corrects the definition. If a file that QEMU has open was deleted, a plan copies its data
        into an image that remains. If a change to an internal snapshot was interrupted, a plan checks the image, and
        repairs a copy of it. An interrupted commit may still be running in QEMU. If it is not known whether QEMU wrote
        all data, one plan undoes the commit, and the next plan repeats it. If you perform another revert of the guest
        instead, it removes the journal entry of the interrupted revert.

        Returns
        -------
        tuple of LivePlan
            Empty if no operation was interrupted.
        """
        place = self._merge_place()
        now = place.survey()
        looked = place.look(now, unfinished_needs(now.forest, self._name))
        lost = lost_records(self._handle, looked)
        if any(one.is_lost(now.forest) for one in lost):  # merges and reverts must find the records that they change
            return tuple(LivePlan.bind_each(lost, place, now))
        requests = (*lost, *held_requests(looked), *unfinished(looked, self._name))
        files = {path for request in requests for path in getattr(request, "files", ())}
        if not files <= now.forest.images.keys():
            place = self._merge_place(files)
            now = place.survey()
        plans = LivePlan.bind_each(requests, place, now)
        # A merge that cannot be finished until the definition is corrected is offered after that.
        corrected = {request.disk for request in requests if isinstance(request, CorrectRequest)}
        plans = [plan for plan in plans if not (plan.refused and _finished_disk(plan.request) in corrected)]
        # What can be done comes first, and of that commits.
        plans.sort(key=lambda plan: (isinstance(plan.request, FinishPullRequest), plan.refused))
        for revert in unfinished_reverts(self._handle, looked):
            place = self._place(revert.files)
            plans += LivePlan.bind_each([revert], place, place.survey())
        return tuple(plans)

    # -- inside -----------------------------------------------------------------------------------------

    def wait_ready(self, *, timeout: float = 120.0) -> Guest:
        """Wait until the guest accepts commands.

        Parameters
        ----------
        timeout : float
            The maximum number of seconds to wait.

        Returns
        -------
        Guest
            The same guest.

        Raises
        ------
        GuestNotReadyError
            The guest is off, has neither a listener nor an agent, or does not become ready in time. The error shows the
            end of the guest's console output.
        """
        self.commands.wait_ready(check_seconds(timeout))
        return self

    def execute(self, command: str, *, timeout: float = 60.0) -> Completed:
        """Run a command as root with the guest's ``/bin/sh``, and wait until it ends.

        In a lab guest, the lab's own listener runs the command; in other guests, the QEMU guest agent runs it. Before
        the call returns, the guest has written all data to its disk (`sync`), so that the data survives even `destroy`.

        Parameters
        ----------
        command : str
            One or more lines for the shell. Standard input is empty. Background processes keep running.
        timeout : float
            The number of seconds after which the command and all processes that it started are killed. The time is
            counted from the call, and includes waiting for a command from another thread. If the guest does not respond
            shortly after the timeout, the call stops waiting.

        Returns
        -------
        Completed
            The result of the command. An exit status other than 0 does not raise an error here; call `Completed.check`
            to raise one. Only the first 3 MiB of each output stream are kept.

        Raises
        ------
        GuestNotReadyError
            The guest does not accept commands.
        GuestError
            The command took too long, or the guest's response is invalid.
        """
        return self.commands.execute(command, check_seconds(timeout))

    def console(self) -> str:
        """Return the output on the guest's serial console since the guest started.

        Returns
        -------
        str
            The output without terminal control sequences; at most the last 4 MiB.

        Raises
        ------
        GuestError
            The guest's console is not written to a file, or the file is on another machine.
        """
        self._check_answers()
        return self.commands.console()


def _finished_disk(request: Request) -> str | None:
    """Return the disk in whose chain a request finishes a merge."""
    return request.disk if isinstance(request, FinishRequest | FinishPullRequest) else None


def _named(image: ImageLike | None) -> str | None:
    return None if image is None else named(image)
