"""Checks of what QEMU holds: where it writes to an image that libvirt does not name, or whose file was deleted.

An external snapshot that was interrupted leads to the same, so what its entry says is compared here as well.
"""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Iterator

from vmsnap_nb.model.aliases import is_among, names_of
from vmsnap_nb.model.disk_xml import defined_source
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.plans.concern import Concern, refuse
from vmsnap_nb.plans.journal import SnapshotEntry, Switch
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import t

__all__ = [
    "can_be_merged",
    "copied_by",
    "held_concerns",
    "held_losses",
    "interrupted_snapshots",
    "missed_switches",
    "set_aside",
    "switched",
    "unrecorded_switches",
]


def held_concerns(forest: Forest, guest: str) -> Iterator[Concern]:
    """Return what speaks against doing anything with the disks of a guest that runs."""
    doubtful = (use for use in forest.uses if use.guest == guest and (use.named is not None or use.deleted))
    yield from (_held(forest, use) for use in doubtful)


def held_losses(forest: Forest, guest: str) -> Iterator[Concern]:
    """Return those of them that speak against the end of the guest, since something would be lost with it."""
    yield from (_held(forest, use) for use in forest.uses if use.guest == guest and (use.next or use.deleted))


def can_be_merged(forest: Forest, use: Use) -> bool:
    """Return whether a layer of the disk is still there that can take what QEMU holds of those that were deleted."""
    return use.path not in use.deleted or forest.known_lineage(use.path)[-1] not in use.deleted


def copied_by(forest: Forest, use: Use) -> str:
    """Return the command that copies all that QEMU holds of a disk into a new image, which the guest then uses."""
    new = use.path if forest.status(use.path) == "missing" else os.path.join(os.path.dirname(use.path), "NEW")
    options = ("--transient-job", "--wait", "--pivot")
    return shlex.join(("virsh", "blockcopy", use.guest, use.target, "--dest", new, *options))


def _held(forest: Forest, use: Use) -> Concern:
    guest = use.guest
    if use.named is None:
        command = copied_by(forest, use)
        if can_be_merged(forest, use):
            remedy = t(
                "if the file was moved, move it back. Otherwise, leave {guest} running: guest.unfinished() returns "
                "the plan that copies its content into another image. If that plan is refused, copy the whole disk "
                "into a new image: {command}",
                guest=guest,
                command=command,
            )
        else:
            remedy = t(
                "if the file was moved, move it back. Otherwise, leave {guest} running, and copy the whole disk into "
                "a new image: {command}",
                guest=guest,
                command=command,
            )
        return refuse("deleted-image", use.problem, remedy, images=use.deleted, holders=(guest,))
    if use.next is None:
        what = t(
            "{problem}. The definition for the next start names {path}, so a shutdown loses no data",
            problem=use.problem,
            path=use.path,
        )
        remedy = t("shut {guest} down and start it again", guest=guest)
    else:
        what = t(
            "{problem}. After a shutdown, the next start of {guest} would not use the data written to that image",
            problem=use.problem,
            guest=guest,
        )
        remedy = t(
            "run guest.unfinished()[0].run(), which corrects the definition to {path}. Then shut {guest} down and "
            "start it again",
            path=use.path,
            guest=guest,
        )
    return refuse("other-image", what, remedy, images=(use.path, use.named), holders=(guest,))


def switched(reading: Reading) -> Iterator[SnapshotEntry]:
    """Yield the entries of snapshots of the guest that were interrupted.

    If it was defined anew it has another UUID, and the same disks.
    """
    forest, domain = reading.forest, reading.owner.domain
    now = names_of(forest, (use.path for use in domain.uses))
    for entry in reading.entries:
        if not isinstance(entry, SnapshotEntry):
            continue
        has = any(path in now for disk in entry.disks for path in (disk.source, disk.file))
        if entry.uuid == domain.uuid or (entry.guest == domain.name and has):
            yield entry


def missed_switches(reading: Reading, entry: SnapshotEntry) -> tuple[Switch, ...]:
    """Return the disks of a guest that is off which QEMU may have written to overlays that libvirt does not name."""
    forest, domain = reading.forest, reading.owner.domain
    if domain.running:
        return ()
    sources = {use.target: use.path for use in domain.uses}
    return tuple(
        one
        for one in entry.disks
        if sources.get(one.target) in forest.same_file(one.source)
        and one.file in forest.images
        and forest.parent(one.file) in forest.same_file(one.source)
        and not (one.file in reading.maps and not reading.maps[one.file].extents)
    )


def set_aside(reading: Reading, entry: SnapshotEntry) -> tuple[Switch, ...]:
    """Return the disks whose overlay holds, or may hold, what QEMU has written, and which no guest and record has."""
    forest = reading.forest
    used = {path for use in forest.uses for path in forest.known_lineage(use.path)}
    used |= {path for record in forest.records for disk in record.disks for path in (disk.source, disk.file) if path}
    missed = missed_switches(reading, entry)
    return tuple(
        one
        for one in entry.disks
        if one not in missed
        and one.file not in reading.incomplete
        and not is_among(forest, one.file, used)
        and one.file in forest.images
        and forest[one.file].status != "missing"
        and not (one.file in reading.maps and not reading.maps[one.file].extents)
    )


def unrecorded_switches(reading: Reading, entry: SnapshotEntry) -> dict[str, str]:
    """Return by target the images that the next start of a running guest would use instead of the overlays on them.

    libvirt writes its definition last, and may have been interrupted before it did.
    """
    forest, guest = reading.forest, reading.owner
    if not guest.running or not guest.domain.persistent:
        return {}
    later = {one.target: defined_source(guest.definition, one.target) for one in entry.disks}
    now = {use.target: use.path for use in guest.domain.uses}
    return {
        one.target: named
        for one in entry.disks
        if now.get(one.target) in forest.same_file(one.file)
        and (named := later[one.target]) is not None
        and named in forest.same_file(one.source)
    }


def interrupted_snapshots(reading: Reading) -> Iterator[Concern]:
    """Check that no snapshot of the guest was interrupted so that what it has written is in no disk of it."""
    guest = reading.owner.domain.name
    for entry in switched(reading):
        for one in missed_switches(reading, entry):
            yield refuse(
                "other-image",
                t(
                    "cannot start {guest}: snapshot {name} was interrupted, and QEMU may have written data of disk "
                    "{disk} to {file} since then, but the image in libvirt's definition is {source}",
                    guest=guest,
                    name=entry.name,
                    disk=one.target,
                    file=one.file,
                    source=one.source,
                ),
                t("correct the definition first: guest.unfinished()[0].run()"),
                images=(one.file, one.source),
                holders=(guest,),
                waivable=True,
            )
