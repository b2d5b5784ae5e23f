"""What each verb of a guest does with kinds of disks: the cells of docs/kinds.md, tried on a host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from support.devices import MakeDevice, block_disk
from support.hosts import IMAGES, define, encrypted_disk, file_disk, part_of_file, qemu_img
from support.images import MIB, create
from support.scripts import script

import vmsnap_nb as vs
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts

KINDS = script("kinds")


def qcow2_device(_: Any, device: MakeDevice) -> str:
    return block_disk(create(device(), size=16 * MIB))


def raw_device(_: Any, device: MakeDevice) -> str:
    return block_disk(device(), format="raw")


def on_vmdk(*_: Any) -> str:
    qemu_img("create", "-q", "-f", "vmdk", "base.vmdk", "16M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.vmdk", "-F", "vmdk", "top.qcow2")
    return file_disk(IMAGES / "top.qcow2")


def luks_inside_qcow2(connection: Any, _: MakeDevice) -> str:
    return encrypted_disk(connection, IMAGES / "secret.img")


def raw_luks(connection: Any, _: MakeDevice) -> str:
    return encrypted_disk(connection, IMAGES / "secret.img", format="raw")


def with_data_file(*_: Any) -> str:
    return file_disk(create(IMAGES / "demo.qcow2", size=MIB, data_file=IMAGES / "demo.data"))


def part(*_: Any) -> str:
    return part_of_file(IMAGES / "container", MIB)


def unknown_features(*_: Any) -> str:
    path = create(IMAGES / "demo.qcow2", size=MIB)
    with open(path, "r+b") as file:
        file.seek(72)
        file.write((1 << 40).to_bytes(8))
    return file_disk(path)


DISKS: dict[str, Callable[[Any, MakeDevice], str]] = {
    "qcow2 on a block device": qcow2_device,
    "raw block device": raw_device,
    "base in vmdk, vdi, vhdx, vpc, qed, qcow or parallels": on_vmdk,
    "LUKS inside qcow2": luks_inside_qcow2,
    "raw LUKS": raw_luks,
    "qcow2 with an external data file": with_data_file,
    "part of a file (`<slices>`)": part,
    "features that QEMU does not know": unknown_features,
}
NOT_STARTED = ("qcow2 with an external data file", "features that QEMU does not know")
CASES = [(kind, state) for kind in DISKS for state in ("off", "running") if state == "off" or kind not in NOT_STARTED]


def come_of(make: Callable[[], LivePlan]) -> str:
    """Return what came of a plan, as the first words of a cell."""
    plan = make()
    if plan.refused:
        return "refused: " + ", ".join(sorted({one.name for one in plan.concerns if one.level == "refuse"}))
    try:
        report = plan.run(progress=False)
    except VmsnapError:
        return "fails"
    assert report.as_predicted, report.differences
    return "works"


def tried(guest: Guest, domain: Any) -> dict[str, str]:
    """Perform all verbs, one after the other; a snapshot that is refused is taken by libvirt."""
    running = guest.running

    def external(name: str) -> str:
        disks = {"vda": str(IMAGES / f"{name}.qcow2")}
        result = come_of(lambda: guest.snapshot(name, kind="external-disk", disks=disks))
        if result != "works":
            _by_libvirt(domain, name)
        return result

    inside = "internal-checkpoint" if running else "internal-disk"
    found = {"internal snapshot": come_of(lambda: guest.snapshot("i1", kind=inside))}
    if found["internal snapshot"] == "works":
        assert come_of(lambda: guest.revert("i1", keep_current=False)) == "works"
        assert come_of(lambda: guest.delete_snapshot("i1")) == "works"
    found["external snapshot"] = external("s1")
    if guest.snapshots():
        found["delete a snapshot"] = come_of(lambda: guest.delete_snapshot("s1"))
        external("s2")
        to = "paused" if running else "off"
        found["revert"] = come_of(lambda: guest.revert("s2", to=to, keep_current=False))  # type: ignore[arg-type]
        external("s3")
        found["commit"] = come_of(guest.commit)
        external("s4")
        found["pull"] = come_of(guest.pull)
    return found


def _by_libvirt(domain: Any, name: str) -> None:
    """Let libvirt take a snapshot, while the guest runs if it can."""
    running, libvirt = domain.isActive(), library()
    with contextlib.suppress(libvirt.libvirtError):
        if not running:
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    disk = f"<disk name='vda' snapshot='external'><source file='{IMAGES}/{name}.qcow2'/></disk>"
    xml = f"<domainsnapshot><name>{name}</name><disks>{disk}</disks></domainsnapshot>"
    with contextlib.suppress(libvirt.libvirtError):  # of what QEMU does not open none can be taken
        domain.snapshotCreateXML(xml, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    if domain.isActive() and not running:
        domain.destroy()


@pytest.mark.parametrize(("kind", "state"), CASES)
def test_a_cell_is_what_comes_of_a_verb(connection: Any, device: MakeDevice, kind: str, state: str) -> None:
    domain = define(connection, "demo", DISKS[kind](connection, device), running=state == "running")
    with vs.connect("qemu:///system") as host:
        found = tried(host.guest("demo"), domain)
    cells = dict(zip(KINDS.VERBS, KINDS.DISKS[kind][1][state], strict=True))
    others = {
        verb: (result, cells[verb])
        for verb, result in found.items()
        if not any(part.startswith(result) for part in cells[verb].split("; "))
    }
    assert others == {}
