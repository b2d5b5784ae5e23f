"""What speaks against taking a snapshot."""

from __future__ import annotations

import os.path
import shlex
from collections import Counter
from collections.abc import Iterator

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.internal_snapshots import is_later_id, next_id, restored_by
from vmsnap_nb.model.snapshot import SnapshotDisk
from vmsnap_nb.plans.checks.devices import passed_through
from vmsnap_nb.plans.checks.folders import free_name, kept_memory, room
from vmsnap_nb.plans.checks.host import too_deep
from vmsnap_nb.plans.checks.layers import broken, lower_keys, missing, new_overlay_exposes
from vmsnap_nb.plans.checks.needed import other_chains
from vmsnap_nb.plans.checks.notes import merging, pulling, strangers
from vmsnap_nb.plans.checks.open_images import held_concerns
from vmsnap_nb.plans.checks.security import not_relabelled
from vmsnap_nb.plans.checks.users import active_jobs, idle_pools, in_use, managed_save
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, warn
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.overlay.reference import NEW_OVERLAY_BYTES
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.snapshot.choice import SnapshotChoice
from vmsnap_nb.plans.snapshot.kind_checks import check_kind
from vmsnap_nb.words.message import NOTHING, Message, joined, listed, t

__all__ = ["check_snapshot"]


def check_snapshot(reading: Reading, choice: SnapshotChoice) -> Iterator[Concern]:
    """Yield all that speaks against it."""
    forest, owner = reading.forest, reading.owner
    yield from held_concerns(forest, owner.domain.name)
    yield from _name(forest, owner, choice)
    yield from check_kind(forest, owner, choice)
    yield from _agent(owner, choice)
    if not owner.running:
        yield from _managed_save(forest, owner, choice)
        yield from idle_pools(owner)
    yield from _not_held(owner, choice)
    # Jobs of a disk that is left out matter to checkpoints, and to what is inside, alone.
    held = [disk.target for disk in choice.disks if disk.held != "no"]
    yield from other_chains(forest, owner.domain.name, held)
    yield from active_jobs(owner, held if choice.kind == "external-disk" else None)
    for disk in choice.disks:
        image = forest.images.get(disk.source or "")
        if disk.held != "no" and image is not None:
            yield from _image(forest, owner, disk, image)
    for path in choice.paths:
        yield from _file(reading, choice, path)
    for disk in choice.disks:
        if disk.held == "external":
            yield from _overlay(owner, choice, disk)
    yield from merging(reading, (d.source for d in choice.disks if d.held == "external" and d.source), through=False)
    yield from pulling(reading, (d.source for d in choice.disks if d.held != "no" and d.source))
    yield from strangers(reading)
    yield from not_relabelled(owner, choice.overlays)
    yield from _room(reading, choice)


def _name(forest: Forest, owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check whether the name is free."""
    guest = owner.domain.name
    inside = [
        disk.source
        for disk in choice.disks
        if disk.held == "internal" and disk.source in forest.images
        if choice.name in (snapshot.name for snapshot in forest[disk.source or ""].snapshots)
    ]
    if choice.request.metadata and choice.name in choice.taken:
        yield refuse(
            "name-taken",
            t("{guest} already has a snapshot named {name}", guest=guest, name=choice.name),
            t("choose another name, or omit it"),
            holders=(guest,),
        )
    elif inside:
        yield refuse(
            "name-taken",
            t(
                "a snapshot named {name} already exists in {images}, but libvirt has no record of it",
                images=listed(map(str, inside)),
                name=choice.name,
            ),
            either(t("choose another name"), t("create the missing record with reconcile()")),
            images=tuple(path for path in inside if path),
            holders=(guest,),
        )
    yield from _ids(forest, choice)


def _ids(forest: Forest, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check that inside no image a snapshot has the name that is the ID of another: QEMU would restore the other."""
    external = t("use {argument}", argument="kind='external-disk'")
    for disk in choice.disks:
        image = forest.images.get(disk.source or "")
        if disk.held != "internal" or image is None:
            continue
        new = InternalSnapshot(next_id(image.snapshots), choice.name)
        inside = (*image.snapshots, new)
        if is_later_id(image.snapshots, choice.name):
            yield warn(
                "name-taken",
                t(
                    "a later snapshot in {path} will get the ID {name}: from then on, internal snapshots are refused "
                    "until snapshot {name} is deleted",
                    path=image.path,
                    name=choice.name,
                ),
                t("choose a name that is not a number"),
                images=(image.path,),
            )
        names = dict.fromkeys(one.name for one in image.snapshots if one.name == new.id != new.name)
        for name in (*names, choice.name):
            other = restored_by(inside, name)
            if other is None or other.name == name:
                continue
            yield refuse(
                "name-taken",
                t(
                    "in {path}, snapshot {other} has or would get the ID {name}. If asked for snapshot {name}, QEMU "
                    "would then restore {other}",
                    path=image.path,
                    other=other.name,
                    name=name,
                ),
                either(
                    t("choose another name") if other is not new else t("delete snapshot {name} first", name=name),
                    external,
                ),
                images=(image.path,),
            )


# -- the guest -------------------------------------------------------------------------------------------


def _agent(owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check whether the guest can freeze its file systems, if that is wanted."""
    if choice.request.quiesce and not (owner.running and owner.agent):
        guest, omit = owner.domain.name, t("omit quiesce")
        if owner.running:
            what = t("cannot freeze the file systems of {guest}: the QEMU guest agent does not respond", guest=guest)
            install = t(
                "start qemu-guest-agent in the guest (lab guests include it if it was installed on this machine when "
                "the lab was opened)"
            )
        else:
            what = t("cannot freeze the file systems of {guest}: the guest is off", guest=guest)
        yield refuse("no-agent", what, either(install, omit) if owner.running else omit, holders=(guest,))


def _managed_save(forest: Forest, owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check whether its memory is saved, which belongs to the disks of that moment."""
    guest = owner.domain.name
    if choice.inside:
        so = t("the snapshot would not include that memory")
        instead = t("start {guest} first, and take a checkpoint", guest=guest)
        yield from managed_save(forest, guest, so, instead=instead, concern=warn)
    else:
        yield from managed_save(forest, guest, t("it would write to images that have become backing files"))


def _not_held(owner: GuestFacts, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check what of the guest is not part of it."""
    guest = owner.domain.name
    if owner.running and choice.kind == "external-disk":
        if choice.request.quiesce:
            what, remedy = (
                t(
                    "the snapshot does not include the memory of {guest}: after a revert, {guest} starts as "
                    "after a power failure",
                    guest=guest,
                ),
                NOTHING,
            )
        else:
            what = t(
                "the snapshot includes neither the memory of {guest} nor data that the guest has not yet written to "
                "disk. After a revert, {guest} starts as after a power failure",
                guest=guest,
            )
            remedy = t(
                "use {quiesce} to write cached data to disk first, or {checkpoint} to save the memory as well",
                quiesce="quiesce=True",
                checkpoint="kind='external-checkpoint'",
            )
        yield remark("memory-lost", what, remedy, holders=(guest,))
    for out in choice.left_out:
        if out.writable and not out.asked and not choice.inside:
            yield warn(
                "not-supported",
                t("disk {disk} is left out ({why}). A revert will not change it", disk=out.target, why=out.why),
                NOTHING if out.target in passed_through(owner) else _name_overlay(out.target),
                holders=(guest,),
            )
        elif not out.asked and not out.writable:
            what = t("disk {disk} is left out: {why}", disk=out.target, why=out.why)
            yield remark("not-supported", what, holders=(guest,))


def _name_overlay(target: str) -> Message:
    return t("name a file for its overlay: {argument}", argument=f"disks={{{target!r}: '/path/of/overlay.qcow2'}}")


# -- the images ------------------------------------------------------------------------------------------


def _image(forest: Forest, owner: GuestFacts, disk: SnapshotDisk, image: Image) -> Iterator[Concern]:
    """Check the image of a disk that the snapshot would hold."""
    yield from broken(forest, image.path, by_libvirt=owner.is_system, opened=owner.running)
    yield from _encrypted(forest, owner, disk, image)
    yield from _in_another_file(disk, image)
    if disk.held == "external":
        yield from too_deep(forest, image.path, disk.target)
    if disk.held == "internal" and not image.writable and image.status == "ok":
        yield refuse(
            "read-only",
            t("{path} is write-protected, and an internal snapshot would be written into it", path=image.path),
            either(
                t("make the image writable: {command}", command=f"chmod u+w {shlex.quote(image.path)}"),
                t("use {argument}", argument="kind='external-disk'"),
            ),
            images=(image.path,),
            waivable=True,
        )
    recording = [bitmap.name for bitmap in image.bitmaps if bitmap.recording]
    if disk.held == "external" and recording and not owner.running and not owner.domain.checkpoints:
        yield warn(
            "backup-chain",
            t(
                "{path} has dirty bitmaps ({names}), and its overlay will have none: the next backup must be a full "
                "one",
                path=image.path,
                names=joined(recording),
            ),
            either(
                t("take the snapshot while the guest is running, so that libvirt continues the bitmaps in the overlay"),
                t("add the bitmaps to the overlay with qemu-img bitmap --add"),
            ),
            images=(image.path,),
        )
    besides = owner.domain.name if owner.running else ""
    inside = disk.held == "internal"
    yield from in_use(forest, (image.path,) if inside else (), () if inside else (image.path,), besides=besides)


def _encrypted(forest: Forest, owner: GuestFacts, disk: SnapshotDisk, image: Image) -> Iterator[Concern]:
    """Check what becomes of an encrypted image."""
    if disk.held == "external":
        yield from new_overlay_exposes(image)
        if not owner.running:
            guest = owner.domain.name
            remedy = t(
                "take the snapshot while {guest} is running, so that libvirt has the key of each layer", guest=guest
            )
            yield from lower_keys(forest, image.path, guest, remedy)
        return
    # qemu-img, which libvirt lets do it while the guest is off, opens the layers below as well.
    layers = (image.path,) if owner.running else forest.known_lineage(image.path)
    secret = next((forest[path] for path in layers if forest[path].encryption), None)
    if secret is not None:
        image = secret
        guest, fields = owner.domain.name, {"path": image.path, "encryption": image.encryption}
        external = {"argument": "kind='external-disk'"}
        if owner.running:
            what = t(
                "{path} is encrypted ({encryption}): QEMU aborts if it writes the memory of {guest} into such an "
                "image (seen with 7.2)",
                guest=guest,
                **fields,
            )
            remedy = t("use {argument}", **external)
        else:
            what = t(
                "{path} is encrypted ({encryption}). libvirt writes the snapshot into it with qemu-img, which has no "
                "key",
                **fields,
            )
            remedy = t("use {argument} while {guest} is running", guest=guest, **external)
        yield refuse("not-supported", what, remedy, images=(image.path,))


def _in_another_file(disk: SnapshotDisk, image: Image) -> Iterator[Concern]:
    """Check for an external data file, with which a snapshot cannot be taken, or not be deleted."""
    if image.data_file is None:
        return
    inside = disk.held == "internal"
    yield refuse(
        "not-supported",
        t(
            "{path} keeps its data in an external data file, {file}: QEMU cannot take an internal snapshot of it",
            path=image.path,
            file=image.data_file.written,
        )
        if inside
        else t(
            "{path} keeps its data in an external data file, {file}: no plan merges into it, so the snapshot could not "
            "be deleted",
            path=image.path,
            file=image.data_file.written,
        ),
        t(
            "copy it into one file first: {command}",
            command=f"qemu-img convert -O qcow2 {shlex.quote(image.path)} NEW.qcow2",
        ),
        images=(image.path,),
        waivable=not inside,
    )


# -- the files that would be made ------------------------------------------------------------------------


def _file(reading: Reading, choice: SnapshotChoice, path: str) -> Iterator[Concern]:
    """Check the place of an overlay or of the memory."""
    if choice.request.reuse and path != choice.memory_file:
        yield from _reused(reading, choice, path)
    else:
        yield from free_name(reading.forest, reading.folders, path, _what_is_there(reading.forest, choice, path))
    if path == choice.memory_file:
        own = t("name a file in a folder that only you can change: {call}", call="memory_file=…")
        yield from kept_memory(reading.folders, path, own)


def _what_is_there(forest: Forest, choice: SnapshotChoice, path: str) -> Message | None:
    """Return what to do about a file that is there: a snapshot that was interrupted may have left it."""
    sources = {disk.source for disk in choice.disks}
    if (
        path in forest.images
        and forest.parent(path) in sources
        and not forest.users(path)
        and not forest.children(path)
    ):
        return t(
            "choose another name, or remove the file: it is an unused overlay of {base}, perhaps left "
            "behind by an interrupted snapshot",
            base=forest.parent(path),
        )
    return None


def _reused(reading: Reading, choice: SnapshotChoice, path: str) -> Iterator[Concern]:
    """Check an overlay that the user has made."""
    forest = reading.forest
    there = path in reading.folders.taken or (path in forest.images and forest[path].status != "missing")
    source = next((disk.source for disk in choice.disks if disk.file == path), None)
    if not there:
        create = t("create the file first, with {base} as its backing file", base=source)
        yield missing(path, either(create, t("omit reuse")))
    elif path in forest.images and source is not None:
        image = forest[path]
        names = forest.same_file(source)
        if image.format != "qcow2" or image.backing is None or image.backing.key not in names:
            yield refuse(
                "backing-format-wrong",
                t(
                    "{path} cannot be reused, because it is not a qcow2 image based on {base}: the guest would see a "
                    "different disk",
                    path=path,
                    base=source,
                ),
                either(
                    t(
                        "record its backing file: {command}",
                        command=f"qemu-img rebase -u -F FORMAT -b {shlex.quote(source)} {shlex.quote(path)}",
                    ),
                    t("omit reuse"),
                ),
                images=(path,),
                waivable=True,
            )


def _overlay(owner: GuestFacts, choice: SnapshotChoice, disk: SnapshotDisk) -> Iterator[Concern]:
    """Check whether the overlay of a disk has a place, and a name that libvirt writes as it is."""
    guest = owner.domain.name
    if disk.file is None:
        yield refuse(
            "not-supported",
            t("disk {disk} is not a file, so its overlay has no default path", disk=disk.target),
            _name_overlay(disk.target),
            holders=(guest,),
        )
    elif "," in disk.file and not (choice.request.reuse or owner.running):
        # qemuSnapshotCreateInactiveExternal doubles it, as if it stood in an option: the file gets another name
        # than the guest is told, and the guest does not start any more.
        yield refuse(
            "not-supported",
            t("{path} contains a comma, which libvirt doubles in the file name while a guest is off", path=disk.file),
            _name_overlay(disk.target),
            images=(disk.file,),
            holders=(guest,),
        )


def _room(reading: Reading, choice: SnapshotChoice) -> Iterator[Concern]:
    """Check whether the folders can take the overlays and the memory."""
    needed: Counter[str] = Counter()
    for path in () if choice.request.reuse else choice.overlays:
        needed[os.path.dirname(path)] += NEW_OVERLAY_BYTES
    memory = choice.memory_file
    if choice.kind == "internal-checkpoint":  # QEMU writes it into the first image that it holds
        memory = next((disk.source for disk in choice.disks if disk.held == "internal" and disk.source), None)
    # Memory that the guest never wrote to takes no room.
    most = {} if memory is None else {os.path.dirname(memory): t("mostly for the guest's memory")}
    for folder in most:
        needed[folder] += reading.owner.memory
    yield from room(reading.folders, needed, most)
