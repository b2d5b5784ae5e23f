"""The plan that takes a guest back to a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.overlay import NEW_OVERLAY_BYTES, backing_reference
from vmsnap_nb.plans.plan import Concern, Plan
from vmsnap_nb.plans.revert_concerns import (
    about_files,
    about_firmware,
    about_guest,
    about_hardware,
    about_images,
    about_loss,
    about_record,
)
from vmsnap_nb.plans.revert_definition import NewSource, definition_of
from vmsnap_nb.plans.revert_draft import RevertDisk, RevertDraft
from vmsnap_nb.plans.revert_facts import RevertFacts
from vmsnap_nb.plans.revert_steps import (
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
from vmsnap_nb.plans.snapshot import plan_snapshot, sorted_concerns
from vmsnap_nb.plans.snapshot_draft import is_running
from vmsnap_nb.plans.steps import CreateOverlay, Step

__all__ = ["plan_revert"]


def plan_revert(forest: Forest, domain: Domain, draft: RevertDraft, facts: RevertFacts) -> Plan:
    """Plan to take a guest back to a snapshot.

    Parameters
    ----------
    forest : Forest
        The images, with the guest's snapshot records.
    domain : Domain
        The guest.
    draft : RevertDraft
        What would be done.
    facts : RevertFacts
        Of the guest and the folders.

    Returns
    -------
    Plan
    """
    kept = None if draft.kept is None else plan_snapshot(forest, domain, draft.kept, facts.snapshot)
    secured = forest if kept is None else kept.after
    steps = [*_steps(secured, domain, draft, facts.snapshot.uri, () if kept is None else kept.steps)]
    concerns = [
        *about_record(domain, draft, facts),
        *about_guest(domain, draft, forest, facts),
        *about_images(domain, draft, forest, facts),
        *about_hardware(domain, draft, facts),
        *about_firmware(domain, draft, facts),
        *about_loss(domain, draft, forest),
        *about_files(draft, forest, facts),
        *(() if kept is None else _of_keeping(kept)),
    ]
    then = (disk.path if disk.then is None else disk.then for disk in draft.disks)
    now = (use.path for use in domain.uses)
    subjects = dict.fromkeys((*now, *then, *(() if kept is None else kept.subjects), *_new(draft)))
    return Plan(
        title=f"revert {domain.name} to {draft.record.name}",
        before=forest,
        steps=tuple(steps),
        after=_after(secured, domain, draft),
        concerns=sorted_concerns(concerns),
        way=_way(domain, draft),
        space_needed=NEW_OVERLAY_BYTES * len(draft.overlays) + (0 if kept is None else kept.space_needed),
        subjects=tuple(subjects),
    )


def _new(draft: RevertDraft) -> Iterator[str]:
    return (disk.path for disk in draft.overlays)


def _of_keeping(kept: Plan) -> Iterator[Concern]:
    """Give what speaks against the snapshot of now, but for what is said of the revert itself."""
    for concern in kept.concerns:
        if concern.level != "note" and concern.name not in ("active-job", "managed-save"):
            what = f"what is there now cannot be kept as it should: {concern.what}"
            remedy = f"{concern.remedy}; or keep_current=False, which throws it away".removeprefix("; or ")
            yield replace(concern, what=what, remedy=remedy) if concern.level == "refuse" else concern


def _way(domain: Domain, draft: RevertDraft) -> str:
    record = draft.record
    memory = ""
    if draft.with_memory and draft.way != "inside":
        memory = f", and QEMU loads the memory of then from {record.memory_file}"
    how = {
        "inside": "libvirt writes what the images held then into the same images",
        "overlays": f"a new overlay on the image of then{memory}; libvirt itself would remove the overlays of now",
        "memory": f"the disks stay as they are{memory}",
    }[draft.way]
    if draft.kept is not None:
        kept = f"what is there now is kept first, as the snapshot {draft.kept.name}: revert({draft.kept.name!r}) goes "
        kept += "back to it"
    elif draft.way == "memory":
        kept = ""
    else:
        kept = "what is there now is not kept"
    end = {"shut off": f"{domain.name} is off then", "paused": f"{domain.name} is paused then"}.get(
        draft.state, f"{domain.name} runs then"
    )
    return "; ".join(part for part in (f"{record.kind}: {how}", kept, end) if part)


# -- steps -----------------------------------------------------------------------------------------------


def _steps(secured: Forest, domain: Domain, draft: RevertDraft, uri: str, keeping: tuple[Step, ...]) -> Iterator[Step]:
    """Give the steps; what cannot be taken back comes last."""
    if draft.note is not None:
        yield BeginRevert(domain.name, domain.uuid, uri, draft.note)
    yield from keeping
    yield from (_inside if draft.way == "inside" else _outside)(secured, domain, draft, uri)
    if draft.note is not None:
        yield EndRevert(domain.name, domain.uuid, uri, draft.note)


def _inside(_: Forest, domain: Domain, draft: RevertDraft, uri: str) -> Iterator[Step]:
    record, who = draft.record, (domain.name, domain.uuid, uri)
    # libvirt has no flag for a checkpoint's disks alone: not one instruction of the guest is executed before its end.
    memory_too = record.memory != "no" and not draft.with_memory
    to = "paused" if memory_too else {"shut off": "off"}.get(draft.state, draft.state)
    held = {disk.target for disk in record.disks if disk.held == "internal"}
    sources = tuple(disk.path for disk in draft.disks if disk.target in held)
    yield RevertInside(*who, record.name, domain.state, sources, to, None if draft.kept is None else draft.kept.name)
    if memory_too:
        yield EndGuest(*who, "paused")


def _outside(secured: Forest, domain: Domain, draft: RevertDraft, uri: str) -> Iterator[Step]:
    record, who = draft.record, (domain.name, domain.uuid, uri)
    for disk in draft.overlays:
        base = disk.then or ""
        yield CreateOverlay(disk.path, backing_reference(disk.path, base, _format(secured, base)))
    if is_running(domain):
        yield EndGuest(*who, domain.state, None if draft.kept is None else draft.kept.name)
    sources = tuple(disk.source for disk in draft.disks)
    if draft.way == "overlays":
        formats = {disk.target: disk.format or "raw" for disk in domain.disks}
        before = tuple(
            NewSource(use.target, use.path, formats[use.target]) for use in secured.uses if use.guest == domain.name
        )
        yield TakeDefinition(*who, record.name, before, sources, definition_of(record.xml, sources))
    paused = draft.state == "paused"
    if draft.with_memory:
        xml = definition_of(record.xml, sources, which="live")
        yield RestoreMemory(*who, record.name, record.memory_file or "", paused, sources, xml)
    elif draft.state != "shut off":
        yield StartGuest(*who, paused)
    yield MakeCurrent(*who, record.name)
    if draft.discards:
        yield DiscardOverlays(*who, draft.discards)


def _format(forest: Forest, path: str) -> str:
    image = forest.images.get(path)
    return (image.format if image is not None else None) or "raw"


# -- what will be ----------------------------------------------------------------------------------------


def _after(secured: Forest, domain: Domain, draft: RevertDraft) -> Forest:
    running = draft.state != "shut off"
    images = dict(secured.images)
    for use in secured.uses:
        if use.guest == domain.name and use.path in images:
            images[use.path] = replace(images[use.path], held="")
    for disk in draft.disks:
        if disk.new:
            images[disk.path] = _overlay(images, disk)
        if disk.path in images and not disk.readonly:
            images[disk.path] = replace(images[disk.path], held="write" if running else "")
    gone = set()
    for one in draft.discards:
        if one.backing is None:
            gone.add(one.path)
        else:
            images[one.path] = replace(images[one.path], identity=None, allocated=None, file_size=None, held="")
    others = (use for use in secured.uses if use.guest != domain.name)
    own = (Use(domain.name, disk.target, disk.path, draft.state, disk.readonly) for disk in draft.disks)
    records = (
        replace(record, current=record.name == draft.record.name) if record.guest == domain.name else record
        for record in secured.records
    )
    return secured.edited(put=images.values(), drop=gone, uses=(*others, *own), records=records)


def _overlay(images: dict[str, Image], disk: RevertDisk) -> Image:
    base = images.get(disk.then or "")
    return Image(
        disk.path,
        "qcow2",
        virtual_size=None if base is None else base.virtual_size,
        backing=backing_reference(disk.path, disk.then or "", (base.format if base is not None else None) or "raw"),
        cluster_size=65536,
        compat="1.1",
    )
