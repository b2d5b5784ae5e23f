"""The plan that reverts a guest to a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.checks.notes import strangers
from vmsnap_nb.plans.concern import Concern, either, refuse, sorted_concerns
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.journal import RevertEntry
from vmsnap_nb.plans.overlay.reference import NEW_OVERLAY_BYTES, backing_reference
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.revert.checks import check_revert
from vmsnap_nb.plans.revert.choice import RevertChoice, RevertDisk, choose, image_format
from vmsnap_nb.plans.revert.definition import NewSource, definition_of, pending_sources, recorded_format
from vmsnap_nb.plans.revert.steps import (
    BeginRevert,
    DiscardOverlays,
    EndGuest,
    EndRevert,
    MakeCurrent,
    RestoreMemory,
    RevertInside,
    StartGuest,
    TakeDefinition,
)
from vmsnap_nb.plans.snapshot.plan import plan_snapshot
from vmsnap_nb.plans.step import CreateOverlay, Step
from vmsnap_nb.words.message import Message, joined, t

if TYPE_CHECKING:
    from vmsnap_nb.plans.revert.request import RevertRequest

__all__ = ["plan_revert"]


def plan_revert(reading: Reading, request: RevertRequest) -> Plan:
    """Plan to revert a guest to a snapshot."""
    forest, owner = reading.forest, reading.owner
    if request.interrupted is not None and request.name not in reading.snapshots.names:
        return _without_snapshot(reading, request.interrupted)
    choice = choose(reading, request)
    kept = None if choice.kept is None else plan_snapshot(reading, choice.kept)
    secured = forest if kept is None else kept.after
    images = (*(use.path for use in owner.domain.uses), *(disk.held for disk in choice.disks))
    new = (disk.path for disk in choice.overlays)
    return Plan(
        title=t("revert {guest} to {name}", guest=owner.domain.name, name=choice.record.name),
        before=forest,
        steps=tuple(_steps(secured, owner, choice, () if kept is None else kept.steps)),
        after=_after(secured, owner.domain.name, choice),
        concerns=sorted_concerns(
            (
                *check_revert(reading, choice),
                *_redefined(owner.domain, request.interrupted),
                *strangers(reading),
                *(() if kept is None else _of_keeping(kept, request)),
            )
        ),
        way=_way(owner.domain.name, choice),
        space_needed=NEW_OVERLAY_BYTES * len(choice.overlays) + (0 if kept is None else kept.space_needed),
        subjects=tuple(dict.fromkeys((*images, *(() if kept is None else kept.subjects), *new))),
    )


def _without_snapshot(reading: Reading, entry: RevertEntry) -> Plan:
    """Plan to forget an interrupted revert to a snapshot that is not there any more; nobody knows how far it was."""
    forest, guest = reading.forest, reading.owner.domain.name
    other = t("revert to another snapshot")
    if entry.kept is not None and entry.kept in reading.snapshots.names:
        other = t("revert to {kept}, which holds the previous state", kept=entry.kept)
    concern = _of_before(reading, entry) or refuse(
        "active-job",
        t(
            "a revert of {guest} to snapshot {name} was interrupted, and libvirt no longer lists this snapshot",
            guest=guest,
            name=entry.name,
        ),
        either(
            t(
                "restart libvirt if it could not write that record, for example because the disk was full: it then "
                "reads the old record"
            ),
            either(other, t("waive this to keep the disks as they are now: only the journal entry is removed")),
        ),
        holders=(guest,),
        waivable=True,
    )
    return Plan(
        title=t("discard the interrupted revert of {guest} to {name}", guest=guest, name=entry.name),
        before=forest,
        steps=(EndRevert(guest=reading.owner.ref, entry=entry),),
        after=forest,
        concerns=(concern,),
        way=t("only the journal entry still has to be removed"),
    )


def _of_before(reading: Reading, entry: RevertEntry) -> Concern | None:
    """Return what is known of a revert of the guest before it was defined anew, which has none of its snapshots now."""
    forest, domain = reading.forest, reading.owner.domain
    if entry.uuid == domain.uuid:
        return None
    fields = {"guest": domain.name, "name": entry.name, "uuid": entry.uuid, "now": domain.uuid}
    images = tuple(use.path for use in domain.uses if use.path in forest.images)
    known = t("no image of the guest contains an internal snapshot with that name")
    if entry.kept is not None:
        known = t("{known}. The previous state was to be kept in the snapshot {kept}", known=known, kept=entry.kept)
    if entry.discards:
        files = joined(entry.discards)
        known = t("{known}. The content of these overlays was to be discarded: {files}", known=known, files=files)
    return refuse(
        "active-job",
        t(
            "a revert to snapshot {name} was interrupted when {guest} had the UUID {uuid}. {guest} was defined again "
            "and now has the UUID {now}, without this snapshot. It is unknown how far the revert was: {known}",
            known=known,
            **fields,
        ),
        either(
            t(
                "define {guest} with the UUID {uuid} again, restore its snapshot records with virsh snapshot-create "
                "--redefine, then call unfinished() again",
                **fields,
            ),
            t("waive this to keep the disks as they are now: only the journal entry is removed"),
        ),
        images=images,
        holders=(domain.name,),
        waivable=True,
    )


def _redefined(guest: Domain, entry: RevertEntry | None) -> Iterator[Concern]:
    """Check that it was this guest whose revert it is: another one may have its name by now."""
    if entry is not None and entry.uuid != guest.uuid:
        yield refuse(
            "active-job",
            t(
                "the revert to snapshot {name} was started for guest {guest} with the UUID {uuid}, but {guest} now "
                "has the UUID "
                "{now}",
                name=entry.name,
                guest=guest.name,
                uuid=entry.uuid,
                now=guest.uuid,
            ),
            either(
                t("waive this if {guest} was only defined again: the revert is then finished", guest=guest.name),
                t("if the disks already hold the state that you need, remove {path}", path=entry.path),
            ),
            holders=(guest.name,),
            waivable=True,
        )


def _of_keeping(kept: Plan, request: RevertRequest) -> Iterator[Concern]:
    """Return what speaks against the snapshot of the current state, but for what is said of the revert itself."""
    for concern in kept.concerns:
        if concern.level != "note" and concern.name not in ("active-job", "managed-save"):
            what = t("the current state cannot be kept: {why}", why=concern.what)
            discard = t("pass keep_current=False to discard it")
            if request.interrupted is not None:
                call = f"revert({request.name!r}, keep_current=False)"
                discard = t("to discard it, use {call} instead", call=call)
            remedy = either(concern.remedy, discard) if concern.remedy else discard
            yield replace(concern, what=what, remedy=remedy) if concern.level == "refuse" else concern


def _way(guest: str, choice: RevertChoice) -> Message:
    way = _how(choice)
    if choice.kept is not None:
        name = choice.kept.name
        call = f"revert({name!r})"
        way = t(
            "{way}. The current state is first kept as snapshot {name}: {call} restores it",
            way=way,
            name=name,
            call=call,
        )
    elif choice.way != "memory":
        way = t("{way}. The current state is not kept", way=way)
    if choice.state == "shut off":
        return t("{way}. {guest} is then off", way=way, guest=guest)
    if choice.state == "paused":
        return t("{way}. {guest} is then paused", way=way, guest=guest)
    return t("{way}. {guest} then runs", way=way, guest=guest)


def _how(choice: RevertChoice) -> Message:
    record = choice.record
    if choice.way == "inside":
        return t("{kind}: libvirt restores the content of the snapshot in the same images", kind=record.kind)
    fields = {"kind": record.kind, "file": record.memory_file}
    if choice.way == "memory":
        if choice.with_memory:
            return t("{kind}: the disks do not change, and QEMU loads the memory from {file}", **fields)
        return t("{kind}: the disks do not change", kind=record.kind)
    if choice.with_memory:
        how = t(
            "{kind}: each disk gets a new overlay on the image of the snapshot, and QEMU loads the memory from {file}",
            **fields,
        )
    else:
        how = t("{kind}: each disk gets a new overlay on the image of the snapshot", kind=record.kind)
    return t("{how}. libvirt itself would remove the current overlays", how=how)


# -- steps -----------------------------------------------------------------------------------------------


def _steps(secured: Forest, owner: GuestFacts, choice: RevertChoice, keeping: tuple[Step, ...]) -> Iterator[Step]:
    """Return the steps; what cannot be taken back comes last."""
    if choice.entry is not None:
        yield BeginRevert(guest=owner.ref, entry=choice.entry)
    yield from keeping
    yield from _inside(owner, choice) if choice.way == "inside" else _outside(secured, owner, choice)
    if choice.entry is not None:
        yield EndRevert(guest=owner.ref, entry=choice.entry)


def _inside(owner: GuestFacts, choice: RevertChoice) -> Iterator[Step]:
    record = choice.record
    # libvirt has no flag for a checkpoint's disks alone: not one instruction of the guest is executed before its end.
    memory_too = record.memory != "no" and not choice.with_memory
    held = {disk.target for disk in record.disks if disk.held == "internal"}
    yield RevertInside(
        guest=owner.ref,
        name=record.name,
        state=owner.domain.state,
        sources=tuple(disk.path for disk in choice.disks if disk.target in held),
        to="paused" if memory_too else {"shut off": "off"}.get(choice.state, choice.state),
        kept=choice.kept_name,
        created=record.created,
    )
    if memory_too:
        yield EndGuest(guest=owner.ref, state="paused")


def _outside(secured: Forest, owner: GuestFacts, choice: RevertChoice) -> Iterator[Step]:
    domain, guest, record = owner.domain, owner.ref, choice.record
    for disk in choice.overlays:
        yield CreateOverlay(path=disk.path, backing=_backing(secured, disk, record))
    if domain.running:
        yield EndGuest(guest=guest, state=domain.state, kept=choice.kept_name)
    sources = tuple(disk.source for disk in choice.disks)
    if choice.way == "overlays":
        formats = {disk.target: disk.format or "raw" for disk in domain.disks}
        own = [(use.target, use.path) for use in secured.uses if use.guest == domain.name]
        pending = pending_sources(owner)
        named = ((target, pending.get(target, path)) for target, path in own)
        before = tuple(
            NewSource(target, path, formats[target], path in secured.known_devices(path)) for target, path in named
        )
        xml = definition_of(record.xml, sources, name=domain.name)
        yield TakeDefinition(guest=guest, name=record.name, before=before, sources=sources, xml=xml)
    paused = choice.state == "paused"
    if choice.with_memory:
        xml = definition_of(record.xml, sources, which="live", name=domain.name)
        path = record.memory_file or ""
        yield RestoreMemory(guest=guest, name=record.name, path=path, paused=paused, sources=sources, xml=xml)
    elif choice.state != "shut off":
        yield StartGuest(guest=guest, paused=paused)
    yield MakeCurrent(guest=guest, name=record.name)
    if choice.discards:
        yield DiscardOverlays(guest=guest, overlays=choice.discards)


def _backing(forest: Forest, disk: RevertDisk, record: SnapshotRecord) -> Reference:
    format = image_format(forest, disk.held, recorded_format(record.xml, disk.target))
    return backing_reference(disk.path, disk.held, format)


# -- what will be ----------------------------------------------------------------------------------------


def _after(secured: Forest, guest: str, choice: RevertChoice) -> Forest:
    running = choice.state != "shut off"
    images = dict(secured.images)
    for use in secured.uses:
        if use.guest == guest and use.path in images:
            images[use.path] = replace(images[use.path], held="")
    for disk in choice.disks:
        if disk.new:
            images[disk.path] = _overlay(secured, disk, choice.record)
        if disk.path in images and not disk.readonly:
            images[disk.path] = replace(images[disk.path], held="write" if running else "")
    for discard in choice.discards:
        if discard.backing is not None:
            empty = replace(images[discard.path], identity=None, allocated=None, file_size=None, held="")
            images[discard.path] = empty
    others = (use for use in secured.uses if use.guest != guest)
    own = (
        Use(guest=guest, target=disk.target, path=disk.path, state=choice.state, readonly=disk.readonly)
        for disk in choice.disks
    )
    records = (
        replace(record, current=record.name == choice.record.name) if record.guest == guest else record
        for record in secured.records
    )
    gone = [discard.path for discard in choice.discards if discard.backing is None]
    return secured.edited(put=images.values(), drop=gone, uses=(*others, *own), records=records)


def _overlay(forest: Forest, disk: RevertDisk, record: SnapshotRecord) -> Image:
    base = forest.images.get(disk.held)
    return Image(
        disk.path,
        "qcow2",
        virtual_size=None if base is None else base.virtual_size,
        backing=_backing(forest, disk, record),
        cluster_size=65536,
        compat="1.1",
    )
