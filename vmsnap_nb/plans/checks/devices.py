"""Checks of what a guest's definition says of devices: those whose state cannot be saved, and disks of special kinds.

Tried with libvirt 9.0 and QEMU 7.2; what no machine at hand has is taken from libvirt's source (qemu_migration.c).
"""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator

from vmsnap_nb.model.disk_xml import layers_below, named_image, sliced_disks
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.libvirt_xml import disk_at, parse_xml
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, warn
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.words.message import NOTHING, Message, listed, t

__all__ = [
    "memory_stays",
    "no_jobs",
    "parts_of_files",
    "passed_through",
    "shareable",
    "shared_on_purpose",
    "special_disks",
    "tpm",
]

_STAYS = frozenset({"parallels", "qcow", "vdi", "vhdx", "vmdk", "vpc"})
"""Formats of images with which QEMU does not write out a guest's memory: it does that as if the guest migrated."""
_KINDS = {"pci": "PCI", "scsi": "SCSI", "scsi_host": "SCSI", "usb": "USB"}
"""The kinds of host devices that have a name of their own."""
_TPM_STATE = "/var/lib/libvirt/swtpm"


def memory_stays(forest: Forest, owner: GuestFacts, instead: Message) -> Iterator[Concern]:
    """Check that QEMU can write out the memory of a guest that runs: with some devices and images it refuses.

    `instead` is what works with them.
    """
    detach = t("detach the device first")
    guest, root = owner.domain.name, _root(owner)
    if not owner.running:
        return
    for path in dict.fromkeys(layer for use in owner.domain.uses for layer in forest.known_lineage(use.path)):
        image = forest.images.get(path)
        if image is not None and image.format in _STAYS:
            yield refuse(
                "not-supported",
                t(
                    "QEMU cannot save the memory of {guest} because {image} has the format {format}",
                    guest=guest,
                    image=path,
                    format=image.format,
                ),
                either(instead, t("convert the image to qcow2 while {guest} is off", guest=guest)),
                images=(path,),
                holders=(guest,),
            )
    if root is None:
        return
    fixed = tuple(_fixed(root))
    if fixed:
        yield refuse(
            "not-supported",
            t(
                "QEMU cannot save the memory of {guest} because the guest uses {devices}",
                guest=guest,
                devices=listed(fixed),
            ),
            either(instead, detach),
            holders=(guest,),
        )
    if passed := tuple(_passed(root)):
        yield refuse(
            "not-supported",
            t(
                "QEMU cannot save the memory of {guest}, which uses {devices}, unless this QEMU version supports that",
                guest=guest,
                devices=listed(passed),
            ),
            either(either(instead, detach), t("waive this if you know that it supports this")),
            holders=(guest,),
            waivable=True,
        )
    shared = [_target(one) for one in root.iterfind("devices/filesystem") if not _is_virtiofs(one)]
    if shared:
        yield warn(
            "not-supported",
            t(
                "QEMU cannot save the memory of {guest} while the guest has the host folder {folders} mounted",
                guest=guest,
                folders=listed(shared),
            ),
            either(t("unmount it in the guest first"), instead),
            holders=(guest,),
        )


def _fixed(root: ET.Element) -> Iterator[Message]:
    for filesystem in root.iterfind("devices/filesystem"):
        if _is_virtiofs(filesystem):
            yield t("the host folder {folder} (virtiofs)", folder=_target(filesystem))
    for shmem in root.iterfind("devices/shmem"):
        if shmem.get("role") != "master":
            yield t("the shared memory {name} (shmem)", name=shmem.get("name", ""))
    if root.find("devices/interface[@type='vdpa']") is not None:
        yield t("a vdpa network device")
    for disk in root.iterfind("devices/disk"):
        if disk.find("transient") is not None:
            yield t("the transient disk {disk}", disk=_target(disk))


def _passed(root: ET.Element) -> Iterator[Message]:
    for device in root.iterfind("devices/hostdev"):
        kind = device.get("type", "")
        yield t("a host {kind} device", kind=_KINDS.get(kind, kind))
    if root.find("devices/tpm/backend[@type='passthrough']") is not None:
        yield t("the host's TPM")
    if root.find("cpu/feature[@name='invtsc'][@policy='require']") is not None:
        yield t("the CPU feature invtsc")


def special_disks(owner: GuestFacts, external: Collection[str]) -> Iterator[Concern]:
    """Check that no disk of which an external snapshot is taken is shared, transient in a guest that runs, or far."""
    guest, root = owner.domain.name, _root(owner)
    for disk in () if root is None else root.iterfind("devices/disk"):
        target = _target(disk)
        out = t("leave it out: {argument}", argument=f"disks={{{target!r}: 'no'}}")
        if target not in external or disk.find("readonly") is not None:
            continue
        if device := _passed_through(disk):
            yield refuse(
                "not-supported",
                t("disk {disk} is {device}, which cannot have an overlay", disk=target, device=device),
                out,
                holders=(guest,),
            )
        elif disk.find("transient") is not None and owner.running:
            yield refuse(
                "not-supported",
                t(
                    "disk {disk} is transient: data that {guest} writes to it is discarded at shutdown, and libvirt "
                    "cannot take a snapshot of the disk while the guest is running",
                    disk=target,
                    guest=guest,
                ),
                either(out, t("shut {guest} down first", guest=guest)),
                holders=(guest,),
            )
        elif disk.get("type") == "network" and not owner.running:
            yield refuse(
                "not-supported",
                t(
                    "disk {disk} is on the network, and libvirt can create an overlay on it only while {guest} is "
                    "running",
                    disk=target,
                    guest=guest,
                ),
                either(
                    out,
                    t("start the guest first (the paused state is enough): {command}", command=_start_paused(guest)),
                ),
                holders=(guest,),
            )
        elif disk.find("shareable") is not None:
            yield refuse(
                "not-supported",
                t(
                    "disk {disk} is shareable: other guests may write to it, so libvirt does not create an overlay on "
                    "it",
                    disk=target,
                ),
                out,
                holders=(guest,),
            )


def shared_on_purpose(owner: GuestFacts) -> frozenset[str]:
    """Return the targets of disks whose image others may have as well: shareable, transient, or a part of a file."""
    return frozenset((*_disks_with("shareable", owner), *_disks_with("transient", owner), *sliced_disks(owner.xml)))


def shareable(owner: GuestFacts) -> frozenset[str]:
    """Return the targets of raw disks to which several guests may write while they run."""
    return frozenset(_disks_with("shareable", owner))


def _disks_with(element: str, owner: GuestFacts) -> Iterator[str]:
    root = _root(owner)
    disks = () if root is None else root.iterfind("devices/disk")
    return (_target(disk) for disk in disks if disk.find(element) is not None)


def passed_through(owner: GuestFacts) -> frozenset[str]:
    """Return the targets of the disks that can have no overlay, whatever the guest does."""
    root = _root(owner)
    disks = () if root is None else root.iterfind("devices/disk")
    return frozenset(_target(disk) for disk in disks if _passed_through(disk))


def _passed_through(disk: ET.Element) -> Message:
    """Return what a disk is that libvirt or QEMU give to the guest as a device; nothing for one that is an image."""
    if disk.get("device") == "lun":  # libvirt makes an overlay while the guest is off, and then cannot start it
        return t("a SCSI device of the host (device='lun')")
    return t("a vhost-user device") if disk.get("type") == "vhostuser" else NOTHING


def _start_paused(guest: str) -> str:
    return shlex.join(("virsh", "start", "--paused", guest))


def floppies(owner: GuestFacts, targets: Collection[str]) -> Iterator[Concern]:
    """Check that no such disk is a floppy: without QEMU libvirt passes it over, though it wants it in the snapshot."""
    for disk in owner.domain.disks:
        if disk.device == "floppy" and disk.target in targets and not owner.running:
            yield refuse(
                "not-supported",
                t(
                    "{disk} is a floppy disk, which libvirt omits from an internal snapshot of a guest that is off: "
                    "a revert would not change it",
                    disk=disk.target,
                ),
                either(
                    t("use {argument}", argument="kind='external-disk'"),
                    t("eject it, or make it read-only: {command}", command=_edit(owner)),
                ),
                holders=(owner.domain.name,),
            )


def network_disks(owner: GuestFacts, targets: Collection[str]) -> Iterator[Concern]:
    """Check that no such disk is on the network: without QEMU libvirt takes no internal snapshot of one."""
    root = None if owner.running else _root(owner)
    for disk in () if root is None else root.iterfind("devices/disk[@type='network']"):
        if _target(disk) in targets:
            yield refuse(
                "not-supported",
                t(
                    "disk {disk} is on the network, and libvirt can take an internal snapshot of it only while {guest} "
                    "is running",
                    disk=_target(disk),
                    guest=owner.domain.name,
                ),
                t(
                    "start the guest first (the paused state is enough): {command}. Then use {argument}",
                    command=_start_paused(owner.domain.name),
                    argument="kind='internal-checkpoint'",
                ),
                holders=(owner.domain.name,),
            )


def _edit(owner: GuestFacts) -> str:
    return f"virsh edit {shlex.quote(owner.domain.name)}"


def parts_of_files(
    owner: GuestFacts, targets: Collection[str], remedy: Message = NOTHING, *, forest: Forest | None = None
) -> Iterator[Concern]:
    """Check that no such disk is a part of a file: the header of an overlay can only name all of it.

    Beside the `remedy` there is always that of an image of its own. With the `forest`, what is below the image of a
    disk may be a part of a file if the headers say the same: a running QEMU goes on with the layers that it has.
    """
    sources = {disk.target: disk.source or "" for disk in owner.domain.disks}
    for target in sliced_disks(owner.xml):
        if target in targets and not (forest is not None and owner.running and _is_in_headers(forest, owner, target)):
            copied = t(
                "copy the disk into a separate image, then name that image in the definition of {guest}: {command}",
                guest=owner.domain.name,
                command=_copy_of(owner, target, sources.get(target, "")),
            )
            live = forest is not None and owner.running and _own_part(owner, target) is not None
            yield refuse(
                "not-supported",
                (_not_undone if live else _whole_file)(target, owner.domain.name),
                either(remedy, copied) if remedy else copied,
                holders=(owner.domain.name,),
            )


def _whole_file(target: str, guest: str) -> Message:
    return t(
        "disk {disk} of {guest} uses only part of a file (<slices>). An overlay is always based on the whole file, so "
        "the guest would read different data",
        disk=target,
        guest=guest,
    )


def _not_undone(target: str, guest: str) -> Message:
    """Return what becomes of a snapshot that a running QEMU would take: only its header says which part it is."""
    return t(
        "disk {disk} of {guest} uses only part of a file (<slices>). It would not be possible to revert to the "
        "snapshot or to delete it",
        disk=target,
        guest=guest,
    )


def _is_in_headers(forest: Forest, owner: GuestFacts, target: str) -> bool:
    """Return whether the image of a disk is a whole file, and headers name the parts of files below it as libvirt."""
    root = _root(owner)
    disk = None if root is None else disk_at(root, target)
    if disk is None or disk.find("source/slices") is not None:
        return False
    above = named_image(disk.find("source"))
    for layer in layers_below(disk):
        part = layer.find("source/slices/slice")
        image = forest.images.get(above or "")
        if part is not None:
            reference = None if image is None else image.backing
            if reference is None or reference.part != (part.get("offset"), part.get("size")):
                return False
        above = named_image(layer.find("source"))
    return True


def _copy_of(owner: GuestFacts, target: str, source: str) -> str:
    """Return what copies a disk; an overlay names in its header which part of a file it is based on."""
    part = _own_part(owner, target)
    if part is None:
        return shlex.join(("qemu-img", "convert", "-O", "qcow2", source, "NEW.qcow2"))
    name = source.replace(",", ",,")
    options = f"driver=raw,offset={part.get('offset')},size={part.get('size')},file.filename={name}"
    return shlex.join(("qemu-img", "convert", "--image-opts", options, "-O", "qcow2", "NEW.qcow2"))


def _own_part(owner: GuestFacts, target: str) -> ET.Element | None:
    """Return which part of a file a disk itself is, not a layer below it."""
    root = _root(owner)
    disk = None if root is None else disk_at(root, target)
    return None if disk is None else disk.find("source/slices/slice")


def no_jobs(owner: GuestFacts, target: str) -> Iterator[Concern]:
    """Check that libvirt takes block jobs of a disk: not of a transient one."""
    guest, root = owner.domain.name, _root(owner)
    disk = None if root is None else disk_at(root, target)
    if disk is not None and disk.find("transient") is not None:
        yield refuse(
            "not-supported",
            t(
                "disk {disk} is transient: data that {guest} writes to it is discarded at shutdown, and libvirt "
                "cannot merge its chain while the guest is running",
                disk=target,
                guest=guest,
            ),
            t("shut {guest} down, so that qemu-img can merge the chain", guest=guest),
            holders=(guest,),
        )


def tpm(owner: GuestFacts, *, with_memory: bool, reverting: bool) -> Iterator[Concern]:
    """Remark what becomes of the state of an emulated TPM: it is in no disk."""
    guest, root = owner.domain.name, _root(owner)
    if root is None or root.find("devices/tpm/backend[@type='emulator']") is None:
        return
    where = f"{_TPM_STATE}/{owner.domain.uuid}"
    if with_memory and reverting:
        what = t("the TPM state of {guest} is restored with the memory", guest=guest)
    elif with_memory:
        what = t("the snapshot includes the TPM state of {guest}, with the memory", guest=guest)
    elif reverting:
        what = t("the TPM state of {guest} ({folder}) is not reverted", guest=guest, folder=where)
    else:
        what = t(
            "the snapshot does not include the TPM state of {guest} ({folder}): a revert will not change it",
            guest=guest,
            folder=where,
        )
    if with_memory:
        yield remark("not-supported", what, holders=(guest,))
        return
    yield remark(
        "not-supported",
        what,
        t(
            "if that folder holds keys that you need, also copy it: {command}",
            command=f"cp -a {shlex.quote(where)} DESTINATION",
        ),
        images=(where,),
        holders=(guest,),
    )


def _root(owner: GuestFacts) -> ET.Element | None:
    return parse_xml(owner.xml) if owner.xml else None


def _target(element: ET.Element) -> str:
    target = element.find("target")
    return "" if target is None else target.get("dev") or target.get("dir") or ""


def _is_virtiofs(filesystem: ET.Element) -> bool:
    driver = filesystem.find("driver")
    return driver is not None and driver.get("type") == "virtiofs"
