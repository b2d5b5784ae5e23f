"""What a revert takes from a guest beside its state: hardware, firmware, data, dirty bitmaps; and its memory file."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import join

from vmsnap_nb.model.moment import time_text
from vmsnap_nb.model.size import human_size
from vmsnap_nb.plans.checks import devices
from vmsnap_nb.plans.checks.layers import missing
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, warn
from vmsnap_nb.plans.journal import MOMENT, written_before_clock
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.revert.choice import RevertChoice
from vmsnap_nb.plans.revert.definition import changed_parts, definition_of, is_for_next_start, pending_sources
from vmsnap_nb.plans.snapshot.backup_checkpoints import while_off
from vmsnap_nb.plans.snapshot.choice import SnapshotChoice
from vmsnap_nb.words.message import N_, NOTHING, joined, listed, t

__all__ = ["check_losses", "saved_memory"]

_PARTS = {
    "memory": N_("memory"),
    "currentMemory": N_("current memory"),
    "vcpu": N_("number of processors"),
    "cpu": N_("processor model"),
    "os": N_("firmware and boot options"),
    "features": N_("platform features"),
    "clock": N_("clock"),
    "title": N_("title"),
    "description": N_("description"),
    "metadata": N_("metadata"),
    "seclabel": N_("security label"),
    "interface": N_("network interface"),
    "controller": N_("controller"),
    "graphics": N_("graphical console"),
    "video": N_("graphics card"),
    "sound": N_("sound card"),
    "input": N_("input device"),
    "serial": N_("serial port"),
    "console": N_("text console"),
    "channel": N_("channel to the host"),
    "hostdev": N_("device of the host"),
    "filesystem": N_("shared folder"),
    "rng": N_("random number generator"),
    "watchdog": N_("watchdog"),
    "memballoon": N_("memory balloon"),
    "redirdev": N_("redirected USB device"),
}
"""What the elements of a definition are called; others keep their names."""


def check_losses(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Return what is lost or changed."""
    yield from _hardware(reading, choice)
    yield from _firmware(reading, choice)
    yield from _loss(reading, choice)
    yield from _written_since(reading, choice)
    yield from _bitmaps(reading, choice)


def saved_memory(reading: Reading, path: str) -> Iterator[Concern]:
    """Check that the memory of a snapshot is there, and that libvirt can be given it."""
    disks_only = t("revert only the disks: {argument}", argument="to='off'")
    if path in reading.gone:
        yield missing(path, either(t("restore the file"), disks_only))
    elif path in reading.distrusted:
        yield refuse(
            "not-supported",
            t("the memory in {path} cannot be restored: {why}", path=path, why=reading.distrusted[path]),
            either(t("find out who created it, and correct this"), disks_only),
            images=(path,),
        )


def _hardware(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Check whether the definition at the snapshot is another one."""
    guest, then = reading.owner.domain.name, definition_of(choice.record.xml)
    if not then or not reading.owner.definition:
        return
    for target, path in pending_sources(reading.owner).items():
        yield warn(
            "hardware-changed",
            t(
                "the definition for the next start of {guest} uses {path} as disk {disk}, and the revert replaces "
                "that definition",
                guest=guest,
                path=path,
                disk=target,
            ),
            t("if you want that disk, change the definition again afterwards"),
            images=(path,) if path in reading.forest.images else (),
            holders=(guest,),
        )
    exact = is_for_next_start(choice.record.xml)
    changed = changed_parts(then, reading.owner.definition, exact=exact)
    if changed:
        yield warn(
            "hardware-changed",
            t(
                "the definition of {guest} was different at the time of snapshot {name}, and the revert restores "
                "these parts of it: {parts}",
                guest=guest,
                name=choice.record.name,
                parts=listed(map(_part, changed)),
            ),
            t("if you want the current parts, change the definition again afterwards"),
            holders=(guest,),
        )


def _part(part: str) -> str:
    """Return what a part of a definition is called, as `changed_parts` names it."""
    element, _, name = part.partition(" ")
    if element == "disk":
        return t("disk {disk}", disk=name)
    words = t(_PARTS[element]) if element in _PARTS else element
    return t("{device} ({model})", device=words, model=name) if name else words


def _firmware(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Say what becomes of the state of a TPM, and of the variables of UEFI firmware."""
    firmware = reading.owner
    yield from devices.tpm(firmware, with_memory=choice.with_memory, reverting=True)
    if not firmware.pflash or (choice.way == "inside" and firmware.holds_nvram):
        return
    fields = {"guest": firmware.domain.name, "file": firmware.nvram}
    if choice.with_memory and firmware.nvram:
        what = t("the UEFI variables of {guest} in {file} are reverted together with the memory", **fields)
    elif choice.with_memory:
        what = t("the UEFI variables of {guest} are reverted together with the memory", guest=firmware.domain.name)
    elif firmware.nvram:
        what = t("the UEFI variables of {guest} in {file} are not reverted", **fields)
    else:
        what = t("the UEFI variables of {guest} are not reverted", guest=firmware.domain.name)
    yield remark(
        "not-supported",
        what,
        t("if you need these variables, copy that file first") if choice.with_memory and firmware.nvram else NOTHING,
        images=(firmware.nvram,) if firmware.nvram else (),
        holders=(firmware.domain.name,),
    )


def _loss(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Name each file whose content is discarded, the largest first."""
    if choice.kept is not None:
        yield from _not_kept(reading, choice, choice.kept)
        return
    forest = reading.forest
    written = (disk.path for disk in choice.disks if choice.way == "inside" and not disk.readonly)
    inside = [path for path in written if path in forest.images]
    sizes = {path: forest[path].allocated for path in inside} | {one.path: one.size for one in choice.discards}
    for path, size in sorted(sizes.items(), key=lambda item: -(item[1] or 0)):
        much = t("unknown size") if size is None else t("{size} on disk", size=human_size(size))
        if path in inside:
            what = t(
                "data written to {path} ({size}) since its last internal snapshot is discarded", path=path, size=much
            )
        else:
            what = t("data written to {path} ({size}) is discarded", path=path, size=much)
        yield warn(
            "state-lost",
            what,
            t("pass keep_current=True to take a snapshot first"),
            images=(path,),
            holders=(reading.owner.domain.name,),
        )


def _written_since(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Check that an interrupted revert discards nothing that was written since it began.

    The guest may have gone on, or the entry is an old one: from a backup, or one that others have kept.
    """
    entry, forest = choice.request.interrupted, reading.forest
    began = None if entry is None else reading.times.get(entry.path)
    if entry is None or began is None or choice.kept is not None:
        return
    if choice.way == "inside":
        mixed = {one.image for one in reading.insides if one.change == "revert"}
        paths = [
            disk.path
            for disk in choice.disks
            if not disk.readonly
            and (disk.path, choice.record.name) not in reading.as_taken
            and not any(forest.same(disk.path, one) for one in mixed)
        ]
    else:
        paths = [one.path for one in choice.discards]
    for path in paths:
        image, is_empty = forest.images.get(path), path in reading.maps and not reading.maps[path].extents
        if image is None or is_empty:
            continue
        written = image.mtime_ns or 0
        hidden = written_before_clock(entry.files, path, written, began)
        if not hidden and written <= began + MOMENT:
            continue
        fields = {
            "name": choice.record.name,
            "began": time_text(began),
            "path": path,
            "time": time_text(written),
        }
        yield refuse(
            "disk-changed",
            t(
                "the revert to snapshot {name} was started at {began}, but {path} was last written at {time}: that "
                "data would be discarded",
                **fields,
            )
            if not hidden
            else t(
                "{path} was written to after the revert to snapshot {name} was started at {began}, and the clock was "
                "set back in the meantime (last write: {time}): that data would be discarded",
                **fields,
            ),
            either(
                t("keep the current state: {call}", call=f"guest.revert({choice.record.name!r})"),
                t("waive this if you do not need that data"),
            ),
            images=(path,),
            holders=(reading.owner.domain.name,),
            waivable=True,
        )


def _not_kept(reading: Reading, choice: RevertChoice, kept: SnapshotChoice) -> Iterator[Concern]:
    """Check for images that are written, and that the snapshot of the current state does not include.

    They were disks of the guest at the snapshot, and are not now.
    """
    forest, guest = reading.forest, reading.owner.domain.name
    held = [disk.source for disk in kept.disks if disk.held == "internal"]
    wanted = {disk.source for disk in choice.record.disks if disk.held == "internal"}
    for disk in choice.disks if choice.way == "inside" else ():
        path = disk.path
        if path not in wanted or path not in forest.images or any(forest.same(path, one) for one in held):
            continue
        if forest.known_children(path):
            continue  # refused because of the overlays
        yield refuse(
            "state-lost",
            t(
                "the current content of {path} will be overwritten and lost, because the image is not currently a "
                "disk of {guest}",
                path=path,
                guest=guest,
            ),
            either(
                t("attach the image to {guest} again first, as disk {disk}", guest=guest, disk=disk.target),
                t("if you need that content, copy it first, then waive this"),
            ),
            images=(path,),
            holders=(guest,),
            waivable=True,
        )


def _bitmaps(reading: Reading, choice: RevertChoice) -> Iterator[Concern]:
    """Check what becomes of dirty bitmaps, on which incremental backups are based."""
    forest, domain = reading.forest, reading.owner.domain
    if choice.way != "inside" and choice.state == "shut off":  # the record is made the current one in the end
        yield from while_off(reading.owner)
    now = {use.target: use.path for use in domain.uses}
    for disk in choice.disks:
        image = forest.images.get(disk.path if choice.way == "inside" else now.get(disk.target, ""))
        if image is None or disk.readonly or choice.way == "memory" or (choice.way == "overlays" and not disk.new):
            continue
        names = dict.fromkeys((*(bitmap.name for bitmap in image.bitmaps), *domain.checkpoints))
        if not names:
            continue
        if choice.way == "inside":
            remove = "; ".join(join(("qemu-img", "bitmap", "--remove", "--", image.path, name)) for name in names)
            yield refuse(
                "backup-chain",
                t(
                    "{path} has dirty bitmaps ({names}), and QEMU does not revert such an image to an internal "
                    "snapshot, because the bitmaps would miss the changes",
                    path=image.path,
                    names=joined(names),
                ),
                t("take a backup first, then remove them: {commands}", commands=remove),
                images=(image.path,),
                holders=(domain.name,),
            )
        else:
            yield refuse(
                "backup-chain",
                t(
                    "the dirty bitmaps of {path} ({names}) do not record what this revert changes, because the new "
                    "overlay has no bitmaps. The next backup of {guest} must be a full one",
                    path=image.path,
                    names=joined(names),
                    guest=domain.name,
                ),
                t("take the incremental backup first, or waive this if no backup depends on them"),
                images=(image.path,),
                holders=(domain.name,),
                waivable=True,
            )
