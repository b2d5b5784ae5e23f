"""Plans that take a snapshot, or save and restore a guest's memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import Held, SnapshotRecord
from vmsnap_nb.plans.overlay import NEW_OVERLAY_BYTES
from vmsnap_nb.plans.plan import Concern, Plan
from vmsnap_nb.plans.snapshot_concerns import (
    about_files,
    about_guest,
    about_images,
    about_jobs,
    about_kind,
    about_name,
)
from vmsnap_nb.plans.snapshot_draft import SnapshotDraft, is_running
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts
from vmsnap_nb.plans.snapshot_steps import TakeSnapshot

__all__ = ["after_snapshot", "plan_snapshot", "sorted_concerns"]

_LEVELS = ("refuse", "warn", "note")


def sorted_concerns(concerns: Iterable[Concern]) -> tuple[Concern, ...]:
    """Put the gravest first, and each only once."""
    return tuple(sorted(dict.fromkeys(concerns), key=lambda concern: _LEVELS.index(concern.level)))


def plan_snapshot(forest: Forest, domain: Domain, draft: SnapshotDraft, facts: SnapshotFacts) -> Plan:
    """Plan a snapshot.

    Parameters
    ----------
    forest : Forest
        The images, with the guest's snapshot records.
    domain : Domain
        The guest.
    draft : SnapshotDraft
        What it would hold and where.
    facts : SnapshotFacts
        Of the guest and the folders.

    Returns
    -------
    Plan
    """
    current = next((r.name for r in forest.records if r.guest == domain.name and r.current), None)
    step = TakeSnapshot(
        domain.name,
        domain.uuid,
        facts.uri,
        draft.name,
        draft.kind,
        domain.state,
        draft.disks,
        draft.memory_file,
        draft.request.description,
        current,
        draft.request.quiesce,
        draft.request.atomic,
        draft.request.reuse,
        draft.request.metadata,
    )
    concerns = [
        *about_name(domain, draft, forest),
        *about_kind(domain, draft, forest, facts),
        *about_guest(domain, draft, forest, facts),
        *about_jobs(domain, draft, facts),
        *about_images(domain, draft, forest),
        *about_files(domain, draft, forest, facts),
    ]
    overlays = 0 if draft.request.reuse else NEW_OVERLAY_BYTES * len(draft.overlays)
    memory = facts.memory if draft.kind.endswith("checkpoint") and is_running(domain) else 0
    sources = (disk.source for disk in draft.disks if disk.held != "no" and disk.source)
    return Plan(
        title=f"take snapshot {draft.name} of {domain.name}",
        before=forest,
        steps=(step,),
        after=after_snapshot(forest, step),
        concerns=sorted_concerns(concerns),
        way=_way(draft, domain),
        space_needed=overlays + memory,
        subjects=tuple(dict.fromkeys((*sources, *draft.overlays))),
    )


def _way(draft: SnapshotDraft, domain: Domain) -> str:
    running = is_running(domain)
    how = {
        "internal-disk": "libvirt has qemu-img write it into the same images",
        "internal-checkpoint": "libvirt stops the guest while QEMU writes its memory and a mark into the same images",
        "external-disk": "libvirt has QEMU go over to new overlays at once, while the guest runs on"
        if running
        else "libvirt has qemu-img make new overlays and points the guest at them",
        "external-checkpoint": "libvirt stops the guest, writes its memory to a file, and goes over to new overlays",
    }[draft.kind]
    because = f", because {draft.why}" if draft.why else ""
    old = "; the images of now become read-only backing files" if draft.kind.startswith("external") else ""
    return f"{draft.kind}{because}: {how}{old}"


# -- what will be ----------------------------------------------------------------------------------------


def after_snapshot(forest: Forest, step: TakeSnapshot) -> Forest:
    """Predict the forest, uses and records once a snapshot was taken.

    Parameters
    ----------
    forest : Forest
        As it is before that step.
    step : TakeSnapshot
        The step.

    Returns
    -------
    Forest
    """
    put = list(_images_after(forest, step))
    moved = {disk.target: disk.file for disk in step.disks if disk.held == "external" and disk.file}
    uses = [
        replace(use, path=moved[use.target]) if use.guest == step.guest and use.target in moved else use
        for use in forest.uses
    ]
    return forest.edited(put=put, uses=uses, records=_records_after(forest, step))


def _images_after(forest: Forest, step: TakeSnapshot) -> Iterator[Image]:
    for disk in step.disks:
        image = forest.images.get(disk.source or "")
        if image is None:
            continue
        if disk.held == "internal":
            new = InternalSnapshot(_next_id(image), step.name, virtual_size=image.virtual_size)
            yield replace(image, snapshots=(*image.snapshots, new))
        elif disk.held == "external" and disk.file:
            # QEMU opens a backing file for reading only.
            running = bool(image.held)
            if running:
                yield replace(image, held="read")
            if step.reuse and disk.file in forest:
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


def _next_id(image: Image) -> str:
    numbers = [int(snapshot.id) for snapshot in image.snapshots if snapshot.id.isdigit()]
    return str(max(numbers, default=0) + 1)


def _records_after(forest: Forest, step: TakeSnapshot) -> tuple[SnapshotRecord, ...]:
    if not step.metadata:
        return forest.records
    memory: Held = "external" if step.memory_file else "internal" if step.kind == "internal-checkpoint" else "no"
    record = SnapshotRecord(
        step.guest,
        step.name,
        _state(step),
        step.parent,
        True,
        memory,
        step.memory_file,
        step.disks,
        step.description,
    )
    others = (replace(r, current=False) if r.guest == step.guest and r.current else r for r in forest.records)
    return (*others, record)


def _state(step: TakeSnapshot) -> str:
    """Give libvirt's word for the guest's state in a record."""
    off = {"shut off": "shutoff", "no state": "nostate", "crashed": "crashed"}
    if step.state in off:
        return off[step.state]
    if step.kind == "external-disk":
        return "disk-snapshot"
    return "paused" if step.state == "paused" else "running"
