"""What speaks against going back to a snapshot."""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.size import human_size
from vmsnap_nb.plans.ground import about_room
from vmsnap_nb.plans.merge_cut_short import spoils
from vmsnap_nb.plans.overlay import NEW_OVERLAY_BYTES
from vmsnap_nb.plans.plan import Concern
from vmsnap_nb.plans.revert_definition import changed_hardware, definition_of
from vmsnap_nb.plans.revert_draft import RevertDraft
from vmsnap_nb.plans.revert_facts import RevertFacts
from vmsnap_nb.plans.snapshot_concerns import has_managed_save
from vmsnap_nb.plans.snapshot_draft import is_running

__all__ = [
    "about_files",
    "about_firmware",
    "about_guest",
    "about_hardware",
    "about_images",
    "about_loss",
    "about_record",
]

_BROKEN = {"missing", "unreadable", "not-a-file", "corrupt", "invalid", "loop"}
_NOTE_BYTES = 4096
_NATIVE = (9, 9, 0)
"""Since this version libvirt itself reverts to external snapshots."""


def about_record(domain: Domain, draft: RevertDraft, facts: RevertFacts) -> Iterator[Concern]:
    """Look whether the record can be gone back to at all."""
    record, me = draft.record, (domain.name,)
    if draft.snapshot.status == "untracked":
        yield Concern(
            "not-supported",
            "refuse",
            f"libvirt has no record of {record.name}: {draft.snapshot.problem}",
            "reconcile() makes it known to libvirt; then revert",
            holders=me,
        )
    elif not definition_of(record.xml):
        yield Concern(
            "not-supported",
            "refuse",
            f"the record of {record.name} does not keep the definition that {domain.name} had",
            f"virsh snapshot-revert --domain {domain.name} --snapshotname {record.name} --force",
            holders=me,
        )
    if record.kind == "mixed":
        yield Concern(
            "mixed-kinds",
            "refuse",
            f"{record.name} is partly internal and partly external, which neither libvirt nor this package reverts to",
            "revert its disks one by one with qemu-img, the guest being off",
            holders=me,
        )
    if not domain.persistent:
        yield Concern(
            "not-supported",
            "refuse",
            f"{domain.name} has no persistent record: libvirt would forget it with its snapshots as soon as it is off",
            f"make it persistent first: virsh dumpxml {domain.name} | virsh define /dev/stdin",
            holders=me,
        )
    if draft.way == "overlays" and facts.snapshot.libvirt_version < _NATIVE:
        version = ".".join(map(str, facts.snapshot.libvirt_version))
        yield Concern(
            "not-supported",
            "note",
            f"libvirt {version} does not revert to external snapshots itself (9.9 does): this plan takes the steps by "
            "hand",
            holders=me,
        )


def about_guest(domain: Domain, draft: RevertDraft, forest: Forest, facts: RevertFacts) -> Iterator[Concern]:
    """Look at what the guest does now, and at what its memory was."""
    record, me = draft.record, (domain.name,)
    for target, job in facts.snapshot.jobs.items():
        what = f"its disk {target} has an active job ({job})" if target else f"it has an active job ({job})"
        yield Concern(
            "active-job",
            "refuse",
            f"{domain.name} cannot be reverted now: {what}",
            "wait for its end; or end it: "
            + (f"virsh blockjob {domain.name} {target} --abort" if target else f"virsh domjobabort {domain.name}"),
            holders=me,
        )
    if has_managed_save(forest, domain.name):
        yield Concern(
            "managed-save",
            "refuse",
            f"{domain.name} has its memory saved, which belongs to its disks as they are now: its next start would go "
            "on from there, on other disks",
            f"start {domain.name} first: then its memory is kept as well; or let libvirt forget it: "
            f"virsh managedsave-remove {domain.name}",
            holders=me,
        )
    if is_running(domain) and draft.kept is None:
        only = draft.way == "memory" and draft.request.keep_current
        yield Concern(
            "memory-lost",
            "refuse" if only else "warn",
            f"{domain.name} is {domain.state}, and its memory of now is lost",
            "save(path) keeps it in a file first" if only else "keep_current=True keeps it in a snapshot",
            holders=me,
            waivable=only,
        )
    if record.memory == "no" and draft.state != "shut off":
        yield Concern(
            "memory-lost",
            "note",
            f"{record.name} holds no memory: {domain.name} starts from its disks"
            + (", as after a power failure" if record.state == "disk-snapshot" else ""),
            holders=me,
        )
    elif record.memory != "no" and not draft.with_memory:
        yield Concern(
            "memory-lost",
            "note",
            f"the memory that {record.name} holds is not restored, since the guest is to be off: its disks are as "
            "after a power failure",
            "to='as-taken' goes on from there",
            holders=me,
        )


def about_images(domain: Domain, draft: RevertDraft, forest: Forest, facts: RevertFacts) -> Iterator[Concern]:
    """Look at the images and files that hold the state of then."""
    record = draft.record
    memory = record.memory_file
    if draft.with_memory and memory is not None and memory in facts.snapshot.gone:
        yield Concern(
            "missing-base",
            "refuse",
            f"{memory}, the memory that {record.name} holds, is gone",
            "put it back; or go back to the disks alone: to='off'",
            images=(memory,),
            holders=(domain.name,),
        )
    for disk in draft.disks:
        path = disk.path if disk.then is None else disk.then
        image = forest.images.get(path)
        if image is None:
            if path in facts.snapshot.gone or (path.startswith("/") and draft.way == "inside"):
                yield _missing(path, f"{path}, which held {disk.target} at {record.name}, is gone")
            continue
        broken = next((layer for layer in forest.lineage(path) if forest.status(layer) in _BROKEN), None)
        if broken is not None:
            below = "" if broken == path else f", on which {path} stands,"
            yield _missing(broken, f"{broken}{below} is {forest.status(broken)}: {forest[broken].problem}")
        yield from _about_merges(domain, draft, forest, path, facts)
        if draft.way == "inside" and disk.then is not None and not disk.readonly:
            yield from _about_inside(domain, draft, forest, disk.target, image)
        elif disk.then is not None:
            yield from _about_then(domain, draft, forest, image)
        elif draft.way == "memory":
            yield from _about_memory(draft, image, disk.target, facts)


def _missing(path: str, what: str) -> Concern:
    return Concern(
        "missing-base",
        "refuse",
        what,
        "put it back, or mend the reference to it (qemu-img rebase -u)",
        images=(path,),
    )


def _about_merges(
    domain: Domain, draft: RevertDraft, forest: Forest, path: str, facts: RevertFacts
) -> Iterator[Concern]:
    """Look for commits that were cut short when a part of their data was in the image, or in one below it."""
    for note in dict.fromkeys(facts.merges):
        # What is inside the base as a snapshot is not written to.
        if spoils(forest, note, path) and not (draft.way == "inside" and path in forest.same_file(note.base)):
            yield Concern(
                "active-job",
                "refuse",
                f"{path} may not read as it did at {draft.record.name}: the merge of {note.top} into {note.base} was "
                "cut short",
                f"guest.unfinished()[0].run() first; once a part of it is in {note.base}, what that held alone is lost",
                images=(note.base,),
                holders=(domain.name,),
            )


def _about_inside(domain: Domain, draft: RevertDraft, forest: Forest, target: str, image: Image) -> Iterator[Concern]:
    """Look at an image that libvirt would write a snapshot's content into."""
    name, path = draft.record.name, image.path
    held = any(disk.target == target and disk.held == "internal" for disk in draft.record.disks)
    if not held:
        return
    if image.status == "ok" and name not in (inside.name for inside in image.snapshots):
        yield _missing(path, f"there is no snapshot {name} inside {path} any more")
    if above := forest.children(path):
        yield Concern(
            "shared-base",
            "refuse",
            f"{', '.join(above)} stands on {path}, and would read what {name} held instead of what it was made on",
            f"delete the external snapshots above it first (delete_snapshot merges them); or copy the content of "
            f"{name} out: qemu-img convert -O qcow2 -l {name} {path} NEW.qcow2",
            images=(path, *above),
        )
    others = tuple(dict.fromkeys(use.guest for use in forest.users(path) if use.guest != domain.name))
    if others and not above:
        yield Concern(
            "shared-base",
            "refuse",
            f"{', '.join(others)} has {path} as its disk as well",
            "give it an image of its own first",
            images=(path,),
            holders=others,
        )
    elif not is_running(domain) and image.held:
        yield Concern("in-use", "refuse", f"a process has {image.name} open", "end that process first", images=(path,))
    if not image.writable and image.status == "ok":
        yield Concern(
            "read-only",
            "refuse",
            f"{path} is write-protected, and what {name} held is written into it",
            f"chmod u+w {path}",
            images=(path,),
            waivable=True,
        )


def _about_then(domain: Domain, draft: RevertDraft, forest: Forest, image: Image) -> Iterator[Concern]:
    """Look at an image on which the guest would get a new overlay."""
    writers = tuple(dict.fromkeys(use.guest for use in forest.writers(image.path)))
    others = tuple(name for name in writers if name != domain.name)
    if writers and not others:
        yield Concern(
            "disk-changed",
            "refuse",
            f"{domain.name} writes to {image.path} itself now: it no longer holds what {draft.record.name} held",
            "go back to an earlier snapshot; or waive this, if nothing was written since",
            images=(image.path,),
            holders=writers,
            waivable=True,
        )
    elif others:
        yield Concern(
            "shared-base",
            "refuse",
            f"{', '.join(others)} writes to {image.path}, so that it does not stay what {draft.record.name} held",
            f"give {others[0]} an overlay of its own on it first",
            images=(image.path,),
            holders=others,
        )


def _about_memory(draft: RevertDraft, image: Image, target: str, facts: RevertFacts) -> Iterator[Concern]:
    """Look whether a disk that the snapshot does not hold is what it was when the memory was written."""
    then = next((disk.source for disk in draft.record.disks if disk.target == target), None)
    later = facts.memory_mtime_ns is not None and (image.mtime_ns or 0) > facts.memory_mtime_ns
    if image.writable and (then != image.path or later):
        yield Concern(
            "disk-changed",
            "refuse",
            f"{image.path} is not what {target} was when {draft.record.name} was taken, and {draft.record.name} holds "
            "the memory alone: the guest would go on with files in mind that have changed since, and spoil them",
            "start the guest without that memory",
            images=(image.path,),
            waivable=True,
        )


def about_hardware(domain: Domain, draft: RevertDraft, facts: RevertFacts) -> Iterator[Concern]:
    """Look whether the definition of then is another one."""
    then = definition_of(draft.record.xml)
    if not then or not facts.definition:
        return
    changed = changed_hardware(then, facts.definition)
    if changed:
        yield Concern(
            "hardware-changed",
            "warn",
            f"{domain.name} had other hardware at {draft.record.name}, and gets it back: {', '.join(changed)}",
            "change its definition again afterwards, if you want what it has now",
            holders=(domain.name,),
        )


def about_firmware(domain: Domain, draft: RevertDraft, facts: RevertFacts) -> Iterator[Concern]:
    """Say what becomes of the variables of UEFI firmware."""
    firmware = facts.snapshot
    if not firmware.pflash or (draft.way == "inside" and firmware.holds_nvram):
        return
    where = f" in {firmware.nvram}" if firmware.nvram else ""
    if draft.with_memory:
        what = f"the variables of its UEFI firmware{where} become what they were then: they are part of the memory"
    else:
        what = f"the variables of its UEFI firmware{where} are not taken back: they stay as they are"
    yield Concern(
        "not-supported",
        "note",
        what,
        "copy that file first, if they matter" if draft.with_memory else "",
        images=(firmware.nvram,) if firmware.nvram else (),
        holders=(domain.name,),
    )


def about_loss(domain: Domain, draft: RevertDraft, forest: Forest) -> Iterator[Concern]:
    """Name each file whose content is thrown away, the largest first."""
    if draft.kept is not None:
        return
    inside = [disk.path for disk in draft.disks if draft.way == "inside" and not disk.readonly and disk.path in forest]
    sizes = {path: forest[path].allocated for path in inside} | {one.path: one.size for one in draft.discards}
    for path, size in sorted(sizes.items(), key=lambda item: -(item[1] or 0)):
        much = "of unknown size" if size is None else f"{human_size(size)} on disk"
        yield Concern(
            "state-lost",
            "warn",
            f"what was written to {path} ({much})"
            + (" since the last snapshot inside it" if path in inside else "")
            + " is thrown away",
            "keep_current=True takes a snapshot of it first",
            images=(path,),
            holders=(domain.name,),
        )


def about_files(draft: RevertDraft, forest: Forest, facts: RevertFacts) -> Iterator[Concern]:
    """Look at the places of the new files, and at what an earlier revert may have left there."""
    ground = facts.snapshot.ground
    needed: dict[str, int] = {}
    for disk in draft.overlays:
        needed[os.path.dirname(disk.path)] = needed.get(os.path.dirname(disk.path), 0) + NEW_OVERLAY_BYTES
        if disk.path in ground.taken:
            yield Concern(
                "file-exists",
                "refuse",
                f"{disk.path} exists already, and nothing is ever overwritten",
                "remove the file yourself, or move it away",
                images=(disk.path,),
            )
        named = {one.file for record in forest.records for one in record.disks}
        left = [
            path
            for path in forest.children(disk.then or "")
            if path not in named and not forest.users(path) and not forest.children(path)
        ]
        if left:
            yield Concern(
                "file-exists",
                "note",
                f"{', '.join(left)} stands on {disk.then}, and neither a guest nor a snapshot uses it: perhaps a "
                "revert has left it",
                "remove it, if you know that nobody needs it",
                images=tuple(left),
            )
    for disk_ in draft.discards:
        folder = os.path.dirname(disk_.path)
        needed[folder] = needed.get(folder, 0) + (NEW_OVERLAY_BYTES if disk_.backing is not None else 0)
    for path in () if draft.kept is None else draft.kept.overlays:
        needed[os.path.dirname(path)] = needed.get(os.path.dirname(path), 0) + NEW_OVERLAY_BYTES
    if draft.note is not None:
        needed[draft.note.folder] = needed.get(draft.note.folder, 0) + _NOTE_BYTES
    yield from about_room(ground, needed)
