"""The plan that takes a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.internal_snapshots import next_id
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import Held, SnapshotRecord
from vmsnap_nb.plans.concern import sorted_concerns
from vmsnap_nb.plans.overlay.reference import NEW_OVERLAY_BYTES
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.snapshot.backup_checkpoints import refused_while_off
from vmsnap_nb.plans.snapshot.checks import check_snapshot
from vmsnap_nb.plans.snapshot.choice import SnapshotChoice
from vmsnap_nb.plans.snapshot.steps import TakeSnapshot
from vmsnap_nb.words.message import Message, t

__all__ = ["plan_snapshot"]


def plan_snapshot(reading: Reading, choice: SnapshotChoice) -> Plan:
    """Plan to take a snapshot of the guest that was read."""
    forest, owner, request = reading.forest, reading.owner, choice.request
    domain = owner.domain
    current = next((r.name for r in forest.records if r.guest == domain.name and r.current), None)
    step = TakeSnapshot(
        guest=owner.ref,
        name=choice.name,
        kind=choice.kind,
        state=domain.state,
        disks=choice.disks,
        memory_file=choice.memory_file,
        description=request.description,
        parent=current,
        quiesce=request.quiesce,
        atomic=request.atomic,
        reuse=request.reuse,
        metadata=request.metadata,
    )
    overlays = 0 if request.reuse else NEW_OVERLAY_BYTES * len(choice.overlays)
    memory = owner.memory if choice.with_memory and owner.running else 0
    sources = (disk.source for disk in choice.disks if disk.held != "no" and disk.source)
    return Plan(
        title=t("take snapshot {name} of {guest}", name=choice.name, guest=domain.name),
        before=forest,
        steps=(step,),
        after=_after(forest, step),
        concerns=sorted_concerns((*check_snapshot(reading, choice), *refused_while_off(owner, (step,)))),
        way=_way(choice, running=owner.running),
        space_needed=overlays + memory,
        subjects=tuple(dict.fromkeys((*sources, *choice.overlays))),
    )


def _way(choice: SnapshotChoice, *, running: bool) -> Message:
    if choice.kind == "internal-disk":
        how = t("libvirt runs qemu-img, which writes the snapshot into the guest's current images")
    elif choice.kind == "internal-checkpoint":
        how = t(
            "libvirt pauses the guest while QEMU writes the guest's memory and the snapshot into the guest's current "
            "images"
        )
    elif choice.kind == "external-checkpoint":
        how = t("libvirt pauses the guest, writes its memory to a file, and switches to new overlays")
    elif running:
        how = t("QEMU switches all disks to new overlays simultaneously, and the guest keeps running")
    else:
        how = t("libvirt runs qemu-img, which creates new overlays, and these become the guest's disks")
    if not choice.inside:
        how = t("{how}. The current images become read-only backing files", how=how)
    if choice.why is None:
        return t("{kind}: {how}", kind=choice.kind, how=how)
    return t("{kind}, because {why}: {how}", kind=choice.kind, why=choice.why, how=how)


# -- what will be ----------------------------------------------------------------------------------------


def _after(forest: Forest, step: TakeSnapshot) -> Forest:
    """Return the forest, its uses and its records, as they are once a snapshot was taken."""
    put = list(_images_after(forest, step))
    moved = {disk.target: disk.file for disk in step.disks if disk.held == "external" and disk.file}
    uses = [
        replace(use, path=moved[use.target]) if use.guest == step.guest.name and use.target in moved else use
        for use in forest.uses
    ]
    return forest.edited(put=put, uses=uses, records=_records_after(forest, step))


def _images_after(forest: Forest, step: TakeSnapshot) -> Iterator[Image]:
    for disk in step.disks:
        image = forest.images.get(disk.source or "")
        if image is None:
            continue
        if disk.held == "internal":
            new = InternalSnapshot(next_id(image.snapshots), step.name, virtual_size=image.virtual_size)
            yield replace(image, snapshots=(*image.snapshots, new))
        elif disk.held == "external" and disk.file:
            # QEMU opens a backing file for reading only.
            running = bool(image.held)
            if running:
                yield replace(image, held="read")
            if step.reuse and disk.file in forest.images:
                yield replace(forest[disk.file], held="write" if running else "")
                continue
            yield Image(
                disk.file,
                "qcow2",
                virtual_size=image.virtual_size,
                backing=Reference(image.path, "absolute", image.path, image.format),
                cluster_size=65536,
                compat="1.1",
                held="write" if running else "",
            )


def _records_after(forest: Forest, step: TakeSnapshot) -> tuple[SnapshotRecord, ...]:
    if not step.metadata:
        return forest.records
    memory: Held = "external" if step.memory_file else "internal" if step.kind == "internal-checkpoint" else "no"
    record = SnapshotRecord(
        guest=step.guest.name,
        name=step.name,
        state=_state(step),
        parent=step.parent,
        current=True,
        memory=memory,
        memory_file=step.memory_file,
        disks=step.disks,
        description=step.description,
    )
    others = (replace(r, current=False) if r.guest == step.guest.name and r.current else r for r in forest.records)
    return (*others, record)


def _state(step: TakeSnapshot) -> str:
    """Return libvirt's word for the guest's state in a record."""
    off = {"shut off": "shutoff", "saved": "shutoff", "no state": "nostate", "crashed": "crashed"}
    if step.state in off:
        return off[step.state]
    if step.kind == "external-disk":
        return "disk-snapshot"
    return "paused" if step.state == "paused" else "running"
