"""What tests do with guests beside what is tested: further disks, what a guest has, its end."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

from vmsnap_nb.live.guest import Guest
from vmsnap_nb.system.libvirt.library import library


def attach(guest: Guest, *disks: tuple[str, Path, str, str]) -> None:
    """Give a guest further disks: target, path, format, device."""
    root = ET.fromstring(guest.xml())
    devices = root.find("devices")
    assert devices is not None
    for target, path, format, device in disks:
        subprocess.run(["qemu-img", "create", "-q", "-f", format, str(path), "1M"], check=True)
        disk = ET.SubElement(devices, "disk", type="file", device=device)
        ET.SubElement(disk, "driver", name="qemu", type=format)
        ET.SubElement(disk, "source", file=str(path))
        ET.SubElement(disk, "target", dev=target, bus="sata" if device == "cdrom" else "virtio")
    guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))


def files(guest: Guest) -> dict[str, bytes]:
    """All of a guest's own files, what was left of the making of some, and its definition."""
    folder = Path(guest.chain().top).parent
    names = (*folder.glob(f"{guest.name}*"), *folder.glob(".vmsnap*"), *folder.glob(".*partial"))
    return {str(path): path.read_bytes() for path in sorted(names)} | {"xml": guest.xml().encode()}


def timeless(record: str) -> str:
    """What a record looks like, without the time at which its snapshot was taken."""
    head, _, rest = record.partition("created=")
    return head + rest.partition(")")[2]


def forget_records(guest: Guest) -> None:
    """Let libvirt forget all snapshots of a guest, and touch no file."""
    for row in guest.snapshots().records:
        guest.handle.domain.snapshotLookupByName(row.name).delete(library().VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)


def discard(guest: Guest) -> None:
    """Make an end of a guest, of its records and of the files that have its name."""
    guest.power.destroy()
    forget_records(guest)
    folder = Path(guest.chain().top).parent
    guest.undefine()
    for path in folder.glob(f"{guest.name}*"):
        path.unlink()
