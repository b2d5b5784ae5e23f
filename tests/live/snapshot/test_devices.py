"""Devices whose state QEMU cannot save, and disks of special kinds: what libvirt refuses is refused in the plan."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.guests import discard

from vmsnap_nb.errors import LibvirtError, PlanRefusedError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.guest

FILESYSTEM = """<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/>
<source dir='{folder}'/><target dir='share'/></filesystem>"""
DISK = """<disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{folder}/devices-b.img'/><target dev='vdb' bus='virtio'/>"""
DEVICES = {
    "shmem": ("<shmem name='mine'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>", "shared memory mine"),
    "virtiofs": (FILESYSTEM, "the host folder share"),
    "transient": (f"{DISK}<transient/></disk>", "the transient disk vdb"),
    "shareable": (f"{DISK}<shareable/></disk>", ""),
    "vmdk": (f"{DISK}</disk>".replace("'raw'", "'vmdk'"), "has the format vmdk"),
    "sliced": (
        f"{DISK}</disk>".replace(
            "devices-b.img'/>",
            "devices-b.img'><slices><slice type='storage' offset='4096' size='8192'/></slices></source>",
        ),
        "",
    ),
}


def with_device(guest: Guest, xml: str) -> None:
    folder = Path(guest.chain().top).parent
    format = "vmdk" if "vmdk" in xml else "raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", format, str(folder / "devices-b.img"), "1M"], check=True)
    root = ET.fromstring(guest.handle.definition())
    devices = root.find("devices")
    assert devices is not None
    devices.append(ET.fromstring(xml.format(folder=folder)))
    if "virtiofs" in xml:
        root.append(ET.fromstring("<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"))
    guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    guest = lab.guest("devices", backing=base, boot="disk")
    yield guest
    discard(guest)


def refused(plan: LivePlan) -> list[str]:
    return [concern.what for concern in plan.concerns if concern.level == "refuse"]


def libvirt_refuses(guest: Guest, flags: int, memory: str = "") -> None:
    """What is refused in the plan, libvirt would refuse at the run."""
    xml = f"<domainsnapshot><name>by-hand</name>{memory}</domainsnapshot>"
    with pytest.raises(library().libvirtError):
        guest.handle.domain.snapshotCreateXML(xml, flags)


@pytest.mark.parametrize("device", ["shmem", "virtiofs", "transient", "vmdk"])
def test_memory_is_not_saved_with_it(guest: Guest, device: str) -> None:
    xml, words = DEVICES[device]
    with_device(guest, xml)
    guest.start(wait=False)
    folder = Path(guest.chain().top).parent
    for plan in (
        guest.snapshot("cp", kind="external-checkpoint", disks=["vda"]),
        guest.snapshot("cp", kind="internal-checkpoint"),
        guest.save(),
        guest.save(folder / "devices.save"),
    ):
        assert any(words in what for what in refused(plan)), plan.concerns
        with pytest.raises(PlanRefusedError, match=words):
            plan.run(progress=False)
    libvirt_refuses(guest, 0, f"<memory snapshot='external' file='{folder}/devices.mem'/>")
    # What the remedy says works.
    plan = guest.snapshot("disk", kind="external-disk", disks=["vda"])
    assert plan.run(progress=False).as_predicted


@pytest.mark.parametrize("device", ["transient", "shareable"])
def test_a_disk_of_which_libvirt_takes_no_snapshot(guest: Guest, device: str) -> None:
    with_device(guest, DEVICES[device][0])
    guest.start(wait=False)
    plan = guest.snapshot("s", kind="external-disk")
    assert any(f"vdb is {device}" in what for what in refused(plan))
    libvirt_refuses(guest, library().VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    (remedy,) = {concern.remedy for concern in plan.concerns if f"vdb is {device}" in concern.what}
    assert "disks={'vdb': 'no'}" in remedy
    assert guest.snapshot("s", kind="external-disk", disks={"vdb": "no"}).run(progress=False).as_predicted
    if device == "transient":
        # Its chain is not merged while the guest runs either.
        guest.destroy()
        overlay = guest.snapshot("off", kind="external-disk", disks=["vdb"])
        assert overlay.run(progress=False).as_predicted
        guest.start(wait=False)
        assert any("vdb is transient" in what for what in refused(guest.pull(disk="vdb")))
        with pytest.raises((LibvirtError, VmsnapError)):
            guest.pull(disk="vdb").run(progress=False, waive=["not-supported"])


@pytest.mark.parametrize("device", ["lun", "vhost-user"])
def test_a_device_that_can_have_no_overlay(guest: Guest, device: str) -> None:
    source, more = "type='unix' path='/nowhere/socket'", "<source type='memfd'/><access mode='shared'/>"
    kind, way, bus = "vhostuser", "disk", "virtio"
    if device == "lun":
        source, more, kind, way, bus = "dev='/dev/loop0'", "", "block", "lun", "scsi"
    disk = f"<disk type='{kind}' device='{way}'><driver type='raw'/><source {source}/><target dev='vdb' bus='{bus}'/>"
    xml = guest.handle.definition().replace("</devices>", f"{disk}</disk></devices>")
    xml = xml.replace("<devices>", f"<memoryBacking>{more}</memoryBacking><devices>")
    guest.host.connection.defineXML(xml)
    folder = Path(guest.chain().top).parent
    asked = guest.snapshot("s", kind="external-disk", disks={"vdb": str(folder / "o.qcow2")})
    assert any(f"vdb is a {'SCSI' if device == 'lun' else 'vhost'}" in what for what in refused(asked))
    plan = guest.snapshot("s", kind="external-disk")
    (concern,) = [one for one in plan.concerns if "disk vdb is left out" in one.what]
    assert (concern.level, str(concern.remedy)) == ("warn", "")
    assert plan.run(progress=False).as_predicted


def test_no_overlay_is_put_on_a_part_of_a_file(guest: Guest) -> None:
    with_device(guest, DEVICES["sliced"][0])
    for running in (False, True):
        if running:
            guest.start(wait=False)
        plan = guest.snapshot(f"s-{running}", kind="external-disk")
        (concern,) = [one for one in plan.concerns if "uses only part of a file" in one.what]
        assert concern.level == "refuse"
        assert "disks={'vdb': 'no'}" in concern.remedy
        left_out = guest.snapshot(f"s-{running}", kind="external-disk", disks={"vdb": "no"})
        assert left_out.run(progress=False).as_predicted


def test_the_state_of_a_tpm_is_named(guest: Guest) -> None:
    """Without its emulator no guest with one starts here; the plan is made of what its definition would say."""
    guest.snapshot("before", kind="external-disk").run(progress=False)
    plan = guest.snapshot("s", kind="external-disk")
    now = plan.place.read(plan.request)
    assert now.guest is not None
    xml = now.guest.xml.replace("</devices>", "<tpm model='tpm-crb'><backend type='emulator'/></tpm></devices>")
    seen = replace(now, guest=replace(now.guest, xml=xml))
    for request in (plan.request, guest.revert("before").request):
        told = [concern for concern in request.plan(seen).concerns if "TPM" in concern.what]
        assert told
        assert f"/swtpm/{guest.uuid}" in told[0].what
