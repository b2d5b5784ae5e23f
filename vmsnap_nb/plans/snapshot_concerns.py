"""What speaks against taking a snapshot."""

from __future__ import annotations

import os.path
from collections.abc import Iterator

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.snapshot import MANAGED_SAVE, SnapshotDisk
from vmsnap_nb.plans.ground import about_room
from vmsnap_nb.plans.overlay import NEW_OVERLAY_BYTES
from vmsnap_nb.plans.plan import Concern
from vmsnap_nb.plans.snapshot_draft import SnapshotDraft, is_running
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts

__all__ = ["about_files", "about_guest", "about_images", "about_jobs", "about_kind", "about_name", "has_managed_save"]

_MOST_LAYERS = 200
"""Layers of a chain after which libvirt takes no further snapshot (``VIR_STORAGE_MAX_CHAIN_DEPTH``)."""

_BROKEN = {"missing", "unreadable", "not-a-file", "corrupt", "invalid", "loop"}


def has_managed_save(forest: Forest, guest: str) -> bool:
    """Tell whether libvirt keeps the memory of a guest that was saved."""
    return any(record.guest == guest and record.name == MANAGED_SAVE for record in forest.records)


def about_name(domain: Domain, draft: SnapshotDraft, forest: Forest) -> Iterator[Concern]:
    """Look whether the name is free."""
    inside = [
        disk.source
        for disk in draft.disks
        if disk.held == "internal" and disk.source in forest
        if draft.name in (snapshot.name for snapshot in forest[disk.source or ""].snapshots)
    ]
    if draft.request.metadata and draft.name in draft.taken:
        yield Concern(
            "name-taken",
            "refuse",
            f"{domain.name} has a snapshot {draft.name} already",
            "give another name, or leave it out",
            holders=(domain.name,),
        )
    elif inside:
        yield Concern(
            "name-taken",
            "refuse",
            f"there is a snapshot {draft.name} inside {', '.join(map(str, inside))} already, unknown to libvirt",
            "give another name; reconcile() makes that one known to libvirt",
            images=tuple(path for path in inside if path),
            holders=(domain.name,),
        )


def about_kind(domain: Domain, draft: SnapshotDraft, forest: Forest, facts: SnapshotFacts) -> Iterator[Concern]:
    """Look whether this kind goes with the guest's state and disks."""
    running = is_running(domain)
    held = {disk.held for disk in draft.disks} - {"no"}
    wanted = "internal" if draft.kind.startswith("internal") else "external"
    if not held:
        yield Concern(
            "not-supported",
            "refuse",
            f"no disk of {domain.name} would be part of the snapshot: "
            + ("; ".join(f"{out.target}: {out.why}" for out in draft.left_out) or "it has none"),
            "use kind='external-disk', or name the disks" if wanted == "internal" else "name the disks and their files",
        )
    elif held - {wanted}:
        mixed = ", ".join(d.target for d in draft.disks if d.held not in ("no", wanted))
        yield Concern(
            "mixed-kinds",
            "refuse",
            f"a snapshot is internal or external with all its disks: {mixed} would not be {wanted}",
            "choose one for all disks, or leave some out ('no') and take two snapshots",
            holders=(domain.name,),
        )
    if draft.kind == "internal-disk" and running:
        yield Concern(
            "not-supported",
            "refuse",
            f"{domain.name} is {domain.state}, and libvirt takes no internal disk snapshot of a running guest",
            "use kind='internal-checkpoint' (with its memory) or 'external-disk', or shut it down first",
            holders=(domain.name,),
        )
    if draft.kind.endswith("checkpoint") and not running:
        other = draft.kind.replace("checkpoint", "disk")
        yield Concern(
            "not-supported",
            "refuse",
            f"{domain.name} is {domain.state}, so there is no memory to hold",
            f"use kind={other!r}, or start it first",
            holders=(domain.name,),
        )
    yield from _about_firmware(domain, draft, facts)
    left_out = [out for out in draft.left_out if out.writable]
    if wanted == "internal" and held and left_out:
        yield Concern(
            "not-supported",
            "refuse",
            f"{', '.join(f'{out.target} would be left out ({out.why})' for out in left_out)}, and libvirt takes "
            "internal snapshots of all disks or none",
            "use kind='external-disk', which holds disks of any format, and leaves out what you like",
            holders=(domain.name,),
        )
    for disk in draft.disks:
        image = forest.images.get(disk.source or "")
        if disk.held == "internal" and image is not None and image.format not in (None, "qcow2"):
            yield Concern(
                "not-supported",
                "refuse",
                f"{disk.target} is {image.format}, and only qcow2 has room for a snapshot inside",
                "use kind='external-disk', or leave the disk out",
                images=(image.path,),
            )
    if wanted == "external" and draft.request.metadata:
        yield from _on_internal(domain, forest)


def _about_firmware(domain: Domain, draft: SnapshotDraft, facts: SnapshotFacts) -> Iterator[Concern]:
    """Look what becomes of the variables of UEFI firmware."""
    if not facts.pflash:
        return
    inside = draft.kind.startswith("internal")
    version = ".".join(map(str, facts.libvirt_version))
    if inside and not facts.takes_inside(running=is_running(domain)):
        doing, since = ("a running guest", "10.10") if is_running(domain) else ("a guest", "9.3")
        why = f"libvirt {version} takes no internal snapshot of {doing} with UEFI firmware ({since} does)"
    elif inside and is_running(domain) and not facts.holds_nvram:
        why = f"libvirt takes an internal snapshot of a running guest with UEFI firmware only if {facts.nvram} is qcow2"
    else:
        why = ""
    where = f" in {facts.nvram}" if facts.nvram else ""
    if why:
        yield Concern(
            "not-supported",
            "refuse",
            f"{domain.name}: {why}",
            "use kind='external-disk'" + (" or 'external-checkpoint'" if is_running(domain) else ""),
            holders=(domain.name,),
        )
    elif draft.kind == "external-disk" or (inside and not facts.holds_nvram):
        yield Concern(
            "not-supported",
            "note",
            f"the variables of its UEFI firmware{where} are not part of it: reverting leaves them as they are then",
            "copy that file as well, if they matter",
            images=(facts.nvram,) if facts.nvram else (),
            holders=(domain.name,),
        )


def _on_internal(domain: Domain, forest: Forest) -> Iterator[Concern]:
    current = next((r for r in forest.records if r.guest == domain.name and r.current), None)
    if current is not None and current.kind.startswith("internal"):
        yield Concern(
            "mixed-kinds",
            "note",
            f"it will stand on {current.name}, which is internal: libvirt does not delete an external snapshot whose "
            "parent is internal",
            "nothing to do: to delete it, this package does the steps by hand",
            holders=(domain.name,),
        )


def about_guest(domain: Domain, draft: SnapshotDraft, forest: Forest, facts: SnapshotFacts) -> Iterator[Concern]:
    """Look at the guest: its agent, its saved memory, what of it is not held."""
    running = is_running(domain)
    if draft.request.quiesce and not (running and facts.agent):
        why = "no QEMU guest agent answers" if running else "the guest is off, so no agent answers"
        yield Concern(
            "no-agent",
            "refuse",
            f"the file systems of {domain.name} cannot be frozen: {why}",
            "start qemu-guest-agent in the guest (a lab's has it if this machine had it when the lab was opened), "
            "or leave quiesce out"
            if running
            else "leave quiesce out",
            holders=(domain.name,),
        )
    if has_managed_save(forest, domain.name) and not running:
        if draft.kind.startswith("external"):
            yield Concern(
                "managed-save",
                "refuse",
                f"{domain.name} has its memory saved: on its next start it would go on with the disks of that moment, "
                "and write to what has become the backing file",
                f"start {domain.name} and shut it down first, or let libvirt forget the memory: "
                f"virsh managedsave-remove {domain.name}",
                holders=(domain.name,),
            )
        else:
            yield Concern(
                "managed-save",
                "warn",
                f"{domain.name} has its memory saved; the snapshot holds the disks of that moment without it",
                f"start {domain.name} first, and take a checkpoint",
                holders=(domain.name,),
            )
    if running and draft.kind == "external-disk":
        quiet = "" if draft.request.quiesce else ", and what the guest has not yet written is not in it"
        yield Concern(
            "memory-lost",
            "note",
            f"the memory of {domain.name} is not part of it{quiet}: reverting is like a start after a power failure",
            "" if draft.request.quiesce else "quiesce=True flushes first; kind='external-checkpoint' holds the memory",
            holders=(domain.name,),
        )
    for out in draft.left_out:
        if out.writable and not out.asked and draft.kind.startswith("external"):
            yield Concern(
                "not-supported",
                "warn",
                f"{out.target} is left out: {out.why}; reverting leaves it as it is then",
                f"name a file for its overlay: disks={{{out.target!r}: '/path/of/overlay.qcow2'}}",
                holders=(domain.name,),
            )
        elif not out.asked and not out.writable:
            yield Concern("not-supported", "note", f"{out.target} is left out: {out.why}", holders=(domain.name,))


def about_jobs(domain: Domain, draft: SnapshotDraft, facts: SnapshotFacts) -> Iterator[Concern]:
    """Look for jobs that are not done."""
    for target, job in facts.jobs.items():
        held = any(disk.target == target and disk.held != "no" for disk in draft.disks)
        if target and not held and draft.kind == "external-disk":
            continue
        what = f"its disk {target} has an active job ({job})" if target else f"it has an active job ({job})"
        yield Concern(
            "active-job",
            "refuse",
            f"{domain.name} cannot be snapshot now: {what}",
            "wait for its end; or end it: "
            + (f"virsh blockjob {domain.name} {target} --abort" if target else f"virsh domjobabort {domain.name}"),
            holders=(domain.name,),
        )


def about_images(domain: Domain, draft: SnapshotDraft, forest: Forest) -> Iterator[Concern]:
    """Look at the images that the snapshot would hold."""
    for disk in draft.disks:
        image = forest.images.get(disk.source or "")
        if disk.held == "no" or image is None:
            continue
        for path in forest.lineage(image.path):
            if forest.status(path) in _BROKEN:
                yield Concern(
                    "missing-base",
                    "refuse",
                    f"{path}, on which {disk.target} stands, is {forest.status(path)}: {forest[path].problem}",
                    "put it back, or mend the reference to it (qemu-img rebase -u)",
                    images=(path,),
                )
        if disk.held == "external" and forest.depth(image.path) >= _MOST_LAYERS:
            yield Concern(
                "not-supported",
                "refuse",
                f"the chain of {disk.target} has {forest.depth(image.path)} layers, and libvirt takes at most "
                f"{_MOST_LAYERS}",
                "merge some of them first",
                images=(image.path,),
            )
        if disk.held == "internal" and not image.writable and image.status == "ok":
            yield Concern(
                "read-only",
                "refuse",
                f"{image.path} is write-protected, and an internal snapshot is written into it",
                f"chmod u+w {image.path}, or use kind='external-disk'",
                images=(image.path,),
                waivable=True,
            )
        yield from _in_use(domain, disk, forest, image.path)


def _in_use(domain: Domain, disk: SnapshotDisk, forest: Forest, path: str) -> Iterator[Concern]:
    others = tuple(dict.fromkeys(use.guest for use in forest.users(path) if use.running and use.guest != domain.name))
    writers = {use.guest for use in forest.writers(path) if use.running and use.guest != domain.name}
    held = forest[path].held
    if others and (disk.held == "internal" or writers):
        yield Concern(
            "in-use",
            "refuse",
            f"{', '.join(others)} has {forest[path].name} open" + (" and writes to it" if writers else ""),
            f"shut {others[0]} down first",
            images=(path,),
            holders=others,
        )
    elif not is_running(domain) and (held == "write" or (held and disk.held == "internal")):
        yield Concern(
            "in-use",
            "refuse",
            f"a process has {forest[path].name} open" + (" for writing" if held == "write" else ""),
            "end that process first",
            images=(path,),
        )


def about_files(domain: Domain, draft: SnapshotDraft, forest: Forest, facts: SnapshotFacts) -> Iterator[Concern]:
    """Look at the places of the new files."""
    reuse = draft.request.reuse
    for path in draft.paths:
        there = path in facts.ground.taken or (path in forest and forest[path].status != "missing")
        reused = reuse and path != draft.memory_file
        if reused:
            yield from _about_reused(path, draft, forest, there=there)
        elif there:
            yield Concern(
                "file-exists",
                "refuse",
                f"{path} exists already, and nothing is ever overwritten",
                _what_is_there(path, draft, forest),
                images=(path,),
            )
        elif path in forest and forest.children(path):
            yield Concern(
                "shared-base",
                "refuse",
                f"{path} is missing and other images refer to it: a new file there would become their backing file",
                "give another name",
                images=(path, *forest.children(path)),
            )
    for disk in draft.disks:
        if disk.held == "external" and disk.file and "," in disk.file and not (reuse or is_running(domain)):
            # qemuSnapshotCreateInactiveExternal doubles it, as if it stood in an option: the file gets another name
            # than the guest is told, and the guest does not start any more.
            yield Concern(
                "not-supported",
                "refuse",
                f"{disk.file} has a comma in it, which libvirt writes twice while a guest is off",
                f"name another file: disks={{{disk.target!r}: '/path/of/overlay.qcow2'}}",
                images=(disk.file,),
                holders=(domain.name,),
            )
        if disk.held == "external" and disk.file is None:
            yield Concern(
                "not-supported",
                "refuse",
                f"{disk.target} is no file, so no place for its overlay follows from it",
                f"name one: disks={{{disk.target!r}: '/path/of/overlay.qcow2'}}",
                holders=(domain.name,),
            )
    yield from _about_folders(draft, facts)


def _what_is_there(path: str, draft: SnapshotDraft, forest: Forest) -> str:
    """Tell a file that a snapshot cut short has left from any other."""
    sources = {disk.source for disk in draft.disks}
    if path in forest and forest.parent(path) in sources and not forest.users(path) and not forest.children(path):
        return (
            f"it stands on {forest.parent(path)}, and nobody uses it: perhaps a snapshot"
            " that was cut short has left it. Give another name, or remove it"
        )
    return "give another name, or remove the file yourself"


def _about_reused(path: str, draft: SnapshotDraft, forest: Forest, *, there: bool) -> Iterator[Concern]:
    source = next((disk.source for disk in draft.disks if disk.file == path), None)
    if not there:
        yield Concern(
            "missing-base",
            "refuse",
            f"{path} is to be reused, and there is no such file",
            f"make it first, with {source} as its backing file; or leave reuse out",
            images=(path,),
        )
    elif path in forest and source is not None:
        image = forest[path]
        names = forest.same_file(source)
        if image.format != "qcow2" or image.backing is None or image.backing.key not in names:
            yield Concern(
                "backing-format-wrong",
                "refuse",
                f"{path} is to be reused, and it is no qcow2 image on {source}: the guest would see another disk",
                f"qemu-img rebase -u -F FORMAT -b {source} {path}; or leave reuse out",
                images=(path,),
                waivable=True,
            )


def _about_folders(draft: SnapshotDraft, facts: SnapshotFacts) -> Iterator[Concern]:
    needed: dict[str, int] = {}
    for path in () if draft.request.reuse else draft.overlays:
        needed[os.path.dirname(path)] = needed.get(os.path.dirname(path), 0) + NEW_OVERLAY_BYTES
    memory = draft.memory_file
    if draft.kind == "internal-checkpoint":  # QEMU writes it into the first image that it holds
        memory = next((disk.source for disk in draft.disks if disk.held == "internal" and disk.source), None)
    if memory is not None:
        needed[os.path.dirname(memory)] = needed.get(os.path.dirname(memory), 0) + facts.memory
    # Memory that the guest never wrote to takes no room.
    most = {} if memory is None else {os.path.dirname(memory): ", most of it for the guest's memory"}
    yield from about_room(facts.ground, needed, most)
