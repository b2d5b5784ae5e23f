"""What speaks against reverting to a snapshot."""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Iterator
from shlex import join, quote

from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.internal_snapshots import restored_by
from vmsnap_nb.plans.checks.devices import parts_of_files
from vmsnap_nb.plans.checks.folders import free_name, room
from vmsnap_nb.plans.checks.interrupted import finishing, reads_otherwise
from vmsnap_nb.plans.checks.known import not_known
from vmsnap_nb.plans.checks.layers import broken, lower_keys, missing, new_overlay_exposes
from vmsnap_nb.plans.checks.needed import other_chains
from vmsnap_nb.plans.checks.notes import pulling
from vmsnap_nb.plans.checks.open_images import held_concerns
from vmsnap_nb.plans.checks.users import active_jobs, idle_pools, in_use, managed_save
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, warn
from vmsnap_nb.plans.overlay.reference import NEW_OVERLAY_BYTES
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.revert.choice import RevertChoice
from vmsnap_nb.plans.revert.definition import definition_of, recorded_name
from vmsnap_nb.plans.revert.losses import check_losses, saved_memory
from vmsnap_nb.words.message import counted, listed, t
from vmsnap_nb.words.states import state_words

__all__ = ["check_revert"]

_ENTRY_BYTES = 4096
_NATIVE = (9, 9, 0)
"""Since this version libvirt itself reverts to external snapshots."""


def check_revert(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Return all that speaks against it."""
    yield from held_concerns(reading.forest, reading.owner.domain.name)
    yield from _record(reading, choice)
    yield from _guest(reading, choice)
    yield from _images(reading, choice)
    yield from other_chains(reading.forest, reading.owner.domain.name, (disk.target for disk in choice.disks))
    if choice.way == "overlays":
        yield from parts_of_files(reading.owner, [disk.target for disk in choice.disks if disk.new])
    yield from check_losses(reading, choice)
    yield from _files(reading, choice)


def _record(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Check whether the record can be reverted to at all."""
    domain, record = reading.owner.domain, choice.record
    me = (domain.name,)
    if choice.snapshot.status == "untracked":
        yield refuse(
            "not-supported",
            choice.snapshot.problem,
            t("create the record with reconcile(), then revert"),
            holders=me,
        )
    elif not definition_of(record.xml):
        yield refuse(
            "not-supported",
            t(
                "the record of snapshot {name} does not contain the domain definition of {guest} at that time",
                name=record.name,
                guest=domain.name,
            ),
            t(
                "revert with the current definition, using libvirt itself: {command}",
                command=join(
                    ("virsh", "snapshot-revert", "--domain", domain.name, "--snapshotname", record.name, "--force")
                ),
            ),
            holders=me,
        )
    yield from _old_name(domain, choice)
    yield from _state_of(reading, choice)
    if not domain.persistent:
        yield refuse(
            "not-supported",
            t(
                "{guest} is transient: libvirt would lose the guest and its snapshots as soon as the guest is off",
                guest=domain.name,
            ),
            t(
                "make it persistent first: {command}",
                command=f"virsh dumpxml {quote(domain.name)} | virsh define /dev/stdin",
            ),
            holders=me,
        )
    if choice.way == "overlays" and reading.owner.libvirt_version < _NATIVE:
        version = ".".join(map(str, reading.owner.libvirt_version))
        yield remark(
            "not-supported",
            t(
                "libvirt {version} cannot revert to external snapshots (9.9 and later can), so this plan performs "
                "the revert in separate steps",
                version=version,
            ),
            holders=me,
        )


def _old_name(domain: Domain, choice: RevertChoice) -> Iterator[Concern]:
    """Check that libvirt would not have to restore memory into a guest that it knows by another name by now."""
    then = recorded_name(choice.record.xml) if choice.with_memory else ""
    if then in ("", domain.name):
        return
    back = join(("virsh", "domrename", domain.name, then))
    yield refuse(
        "not-supported",
        t(
            "the memory of snapshot {name} was saved when {guest} was named {then}, and libvirt can restore it only "
            "under "
            "that name",
            name=choice.record.name,
            guest=domain.name,
            then=then,
        ),
        either(
            t("revert only the disks: {argument}", argument="to='off'"),
            t("shut {guest} down and restore its old name first: {command}", guest=domain.name, command=back),
        ),
        holders=(domain.name,),
    )


def _state_of(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Check whether the snapshot still is what was taken, and is of one kind."""
    record, me = choice.record, (reading.owner.domain.name,)
    if _in_doubt(reading, choice):
        yield refuse(
            "state-lost",
            t(
                "snapshot {name} may no longer hold the state that it recorded: {why}",
                name=record.name,
                why=choice.snapshot.problem,
            ),
            either(
                t("restore those files from a backup first, or revert to another snapshot"),
                t("waive this if you know that the images still hold that state"),
            ),
            images=record.files,
            holders=me,
            waivable=True,
        )
    if record.kind == "mixed":
        yield refuse(
            "mixed-kinds",
            t(
                "snapshot {name} is partly internal and partly external, and neither libvirt nor vmsnap_nb can "
                "revert to it",
                name=record.name,
            ),
            t("shut the guest down, then revert its disks one by one with qemu-img"),
            holders=me,
        )


def _in_doubt(reading: Reading, choice: RevertChoice) -> bool:
    """Return whether images that still exist may not hold the state of the snapshot, by what became of its overlays.

    An overlay that is gone, or was merged down, may have been merged into the very image that holds the state.
    """
    external = [disk for disk in choice.record.held_disks if disk.held == "external"]
    images = [reading.forest.images.get(disk.source or "") for disk in external]
    if any(image is None or image.status != "ok" for image in images):
        return False  # said of the image itself
    return choice.snapshot.status == "stale" or any(disk.file in reading.gone for disk in external)


def _guest(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Check what the guest does now, and what becomes of its memory."""
    domain, record = reading.owner.domain, choice.record
    me = (domain.name,)
    yield from active_jobs(reading.owner)
    if choice.way == "inside" or choice.state != "shut off":
        yield from idle_pools(reading.owner)
    yield from managed_save(
        reading.forest,
        domain.name,
        t("the revert gives the guest different disks"),
        instead=t("start {guest} first, so that its memory is also kept", guest=domain.name),
    )
    if domain.running and choice.kept is None:
        only = choice.way == "memory" and choice.request.keep_current
        concern = refuse if only else warn
        yield concern(
            "memory-lost",
            t(
                "{guest} is {state}, and its current memory will be lost",
                guest=domain.name,
                state=state_words(domain.state),
            ),
            t("save it to a file first with save(path)")
            if only
            else t("pass keep_current=True to keep it in a snapshot"),
            holders=me,
            waivable=only,
        )
    if record.memory == "no" and choice.state != "shut off":
        if record.state == "disk-snapshot":
            what = t(
                "{name} does not include memory, so {guest} starts from its disks, as after a power failure",
                name=record.name,
                guest=domain.name,
            )
        else:
            what = t(
                "{name} does not include memory, so {guest} starts from its disks", name=record.name, guest=domain.name
            )
        yield remark("memory-lost", what, holders=me)
    elif record.memory != "no" and not choice.with_memory:
        yield remark(
            "memory-lost",
            t(
                "the memory of snapshot {name} is not restored, because the guest will be off. Its disks will be in "
                "the same "
                "state as after a power failure",
                name=record.name,
            ),
            t("use {argument} to resume from that memory", argument="to='as-taken'"),
            holders=me,
        )


def _images(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Check the images and files that hold the state of the snapshot."""
    forest, record = reading.forest, choice.record
    if choice.with_memory and record.memory_file is not None:
        yield from saved_memory(reading, record.memory_file)
    for disk in choice.disks:
        path = disk.held
        image = forest.images.get(path)
        if image is None:
            yield from not_known(reading, (path,))
            if path in reading.gone or (
                path.startswith("/") and choice.way == "inside" and path not in reading.unknown
            ):
                yield missing(path)
            continue
        if not disk.readonly or choice.state != "shut off":  # a CD is needed at the start alone
            yield from broken(forest, path)
        yield from _interrupted_merges(reading, choice, path)
        yield from pulling(reading, (path,))
        if choice.way == "inside" and disk.then is not None and not disk.readonly:
            yield from _image_inside(reading, choice, disk.target, image)
        elif disk.then is not None:
            yield from _image_of_then(reading, choice, image)
        elif choice.way == "memory":
            yield from _memory(reading, choice, disk.target, image)


def _interrupted_merges(reading: Reading, choice: RevertChoice, path: str) -> Iterator[Concern]:
    """Check for commits that were interrupted when a part of their data was in the image, or in one below it."""
    forest = reading.forest
    for entry in reading.merges:
        # What is inside the base as a snapshot is not written to.
        if reads_otherwise(forest, entry, path) and not (
            choice.way == "inside" and path in forest.same_file(entry.base)
        ):
            yield refuse(
                "active-job",
                t(
                    "{path} may no longer hold its content from the time of snapshot {name}: the merge of {top} into "
                    "{base} was "
                    "interrupted",
                    path=path,
                    name=choice.record.name,
                    top=entry.top,
                    base=entry.base,
                ),
                t(
                    "finish the merge first with {call}[0].run(). Data that the merge has already overwritten in "
                    "{base} is lost",
                    call=finishing(entry, reading.owner.domain),
                    base=entry.base,
                ),
                images=(entry.base,),
                holders=(reading.owner.domain.name,),
            )


def _image_inside(reading: Reading, choice: RevertChoice, target: str, image: Image) -> Iterator[Concern]:
    """Check an image that libvirt would write a snapshot's content into."""
    domain = reading.owner.domain
    name, path = choice.record.name, image.path
    held = any(disk.target == target and disk.held == "internal" for disk in choice.record.disks)
    if not held:
        return
    if image.status == "ok" and image.is_seen and name not in (inside.name for inside in image.snapshots):
        yield refuse(
            "missing-base",
            t("{path} no longer contains a snapshot named {name}", path=path, name=name),
            t("restore the image from a backup"),
            images=(path,),
        )
    yield from _another_inside(name, image)
    layers = () if domain.running else reading.forest.known_lineage(path)  # qemu-img opens those below as well
    if secret := next((layer for layer in layers if reading.forest[layer].encryption), None):
        yield refuse(
            "not-supported",
            t(
                "{path} is encrypted ({encryption}). libvirt would restore snapshot {name} with qemu-img, which has "
                "no key",
                path=secret,
                encryption=reading.forest[secret].encryption,
                name=name,
            ),
            t("start {guest} first, then revert", guest=domain.name),
            images=(secret,),
        )
    yield from _shared(reading, name, path)
    if not image.writable and image.status == "ok":
        yield refuse(
            "read-only",
            t(
                "{path} is write-protected, and the revert would write the content of snapshot {name} into it",
                path=path,
                name=name,
            ),
            t("make the image writable: {command}", command=f"chmod u+w {quote(path)}"),
            images=(path,),
            waivable=True,
        )


def _another_inside(name: str, image: Image) -> Iterator[Concern]:
    """Check that QEMU would not take the name for the ID of another snapshot, and restore that one."""
    other = restored_by(image.snapshots, name)
    wanted = next((inside for inside in image.snapshots if inside.name == name), None)
    if other is None or wanted is None or other.name == name:
        return
    which = ",".join(f"snapshot.{key}={value.replace(',', ',,')}" for key, value in (("id", wanted.id), ("name", name)))
    command = f"qemu-img convert -O qcow2 -l {quote(which)} {quote(image.path)} NEW.qcow2"
    yield refuse(
        "name-taken",
        t(
            "in {path}, snapshot {other} has the ID {name}: if asked for snapshot {name}, QEMU would restore {other}",
            path=image.path,
            other=other.name,
            name=name,
        ),
        either(
            t("delete snapshot {name} first", name=other.name),
            t("copy the content of snapshot {name} into a new image: {command}", name=name, command=command),
        ),
        images=(image.path,),
    )


def _shared(reading: Reading, name: str, path: str) -> Iterator[Concern]:
    """Check for overlays and guests that depend on an image into which a snapshot's content is written."""
    forest, domain = reading.forest, reading.owner.domain
    if above := forest.known_children(path):
        yield refuse(
            "shared-base",
            counted(
                "{overlays} is based on {base}, and would be corrupted if {base} is reverted to snapshot {name}",
                "{overlays} are based on {base}, and would be corrupted if {base} is reverted to snapshot {name}",
                len(above),
                overlays=listed(above),
                base=path,
                name=name,
            ),
            either(
                t("first delete the external snapshots above it with delete_snapshot(), which merges their overlays"),
                t(
                    "copy the content of snapshot {name} into a new image: {command}",
                    name=name,
                    command=f"qemu-img convert -O qcow2 -l {quote(name)} {quote(path)} NEW.qcow2",
                ),
            ),
            images=(path, *above),
        )
    others = tuple(dict.fromkeys(use.guest for use in forest.known_users(path) if use.guest != domain.name))
    if others and not above:
        yield refuse(
            "shared-base",
            t("{path} is also a disk of {guests}", path=path, guests=listed(others)),
            t("give {guest} its own image first", guest=others[0]),
            images=(path,),
            holders=others,
        )
    elif not domain.running:
        yield from in_use(forest, (path,))


def _image_of_then(reading: Reading, choice: RevertChoice, image: Image) -> Iterator[Concern]:
    """Check an image on which the guest would get a new overlay."""
    guest = reading.owner.domain.name
    yield from in_use(reading.forest, (), (image.path,), besides=guest if reading.owner.running else "")
    yield from new_overlay_exposes(image)
    yield from lower_keys(
        reading.forest,
        image.path,
        guest,
        t(
            "copy the snapshot's content into a new image, and give {guest} that as its disk: {command}",
            guest=guest,
            command="qemu-img convert --object secret,id=key,data=KEY --image-opts "
            + quote(f"driver={image.format},encrypt.key-secret=key,file.filename={image.path}")
            + " -O qcow2 NEW.qcow2",
        ),
    )
    writers = tuple(dict.fromkeys(use.guest for use in reading.forest.known_writers(image.path)))
    others = tuple(name for name in writers if name != guest)
    if writers and not others:
        yield refuse(
            "disk-changed",
            t(
                "{guest} now writes directly to {path}, so that image no longer holds the content of snapshot {name}",
                guest=guest,
                path=image.path,
                name=choice.record.name,
            ),
            either(t("revert to an earlier snapshot"), t("waive this if nothing has been written since")),
            images=(image.path,),
            holders=writers,
            waivable=True,
        )
    elif others:
        yield refuse(
            "shared-base",
            counted(
                "{guests} writes to {path}, so that image no longer holds the content of snapshot {name}",
                "{guests} write to {path}, so that image no longer holds the content of snapshot {name}",
                len(others),
                guests=listed(others),
                path=image.path,
                name=choice.record.name,
            ),
            t("give {guest} its own overlay on {image} first", guest=others[0], image=image.path),
            images=(image.path,),
            holders=others,
        )


def _memory(reading: Reading, choice: RevertChoice, target: str, image: Image) -> Iterator[Concern]:
    """Check whether a disk that the snapshot does not hold is what it was when the memory was written."""
    name = choice.record.name
    then = next((disk.source for disk in choice.record.disks if disk.target == target), None)
    completed = reading.times.get(choice.record.memory_file or "")
    later = completed is not None and (image.mtime_ns or 0) > completed
    if image.writable and (then != image.path or later):
        yield refuse(
            "disk-changed",
            t(
                "{path} is not the content of disk {disk} at the time of snapshot {name}, which includes only memory. "
                "The guest's cached data would not match the disk and would corrupt its file systems",
                path=image.path,
                disk=target,
                name=name,
            ),
            t("start the guest without that memory"),
            images=(image.path,),
            waivable=True,
        )


def _files(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Check the places of the new files, and what an earlier revert may have left there."""
    forest = reading.forest
    named = {disk.file for record in forest.records for disk in record.disks}
    for disk in choice.overlays:
        yield from free_name(forest, reading.folders, disk.path, t("remove the file yourself, or move it away"))
        left = tuple(
            path
            for path in forest.known_children(disk.held)
            if path not in named and not forest.users(path) and not forest.children(path)
        )
        if left:
            yield remark(
                "file-exists",
                counted(
                    "{overlays} is based on {base}, but no guest or snapshot uses it: an earlier revert may have "
                    "left it behind",
                    "{overlays} are based on {base}, but no guest or snapshot uses them: earlier reverts may have "
                    "left them behind",
                    len(left),
                    overlays=listed(left),
                    base=disk.then,
                ),
                t("remove it if you know that nothing needs it any more"),
                images=left,
            )
    needed: Counter[str] = Counter()
    kept = () if choice.kept is None else choice.kept.overlays
    for path in (*(disk.path for disk in choice.overlays), *kept):
        needed[os.path.dirname(path)] += NEW_OVERLAY_BYTES
    for discard in choice.discards:
        needed[os.path.dirname(discard.path)] += NEW_OVERLAY_BYTES if discard.backing is not None else 0
    if choice.entry is not None:
        needed[choice.entry.folder] += _ENTRY_BYTES
    yield from room(reading.folders, needed)
