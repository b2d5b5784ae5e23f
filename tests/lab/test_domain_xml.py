"""The XML of a guest of the lab."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

from vmsnap_nb.lab.domain_xml import DomainSpec, domain_xml, lab_of
from vmsnap_nb.system.guest.console import console_log
from vmsnap_nb.system.libvirt.domains import channels, read_disks

SPEC = DomainSpec(
    name="<x> & 机",
    uuid="6a2f41a3-c54c-fce8-32d2-0324e1c32e22",
    disk="/lab/images/a b.qcow2",
    root="/lab",
    memory=256,
    cpus=1,
    kernel="/lab/boot/kernel",
    initrd="/lab/boot/initrd",
    kvm=False,
    console_log="/lab/console/1.log",
    as_root=False,
    port="/lab/port/1.c",
    agent="/lab/port/1.a",
)


def test_the_xml_of_a_guest_says_what_was_asked_for() -> None:
    text = domain_xml(SPEC)
    root = ET.fromstring(text)
    assert root.findtext("name") == SPEC.name
    assert root.get("type") == "qemu"
    assert [(disk.target, disk.source, disk.format, disk.bus) for disk in read_disks(text)] == [
        ("vda", "/lab/images/a b.qcow2", "qcow2", "virtio")
    ]
    assert channels(text) == {"org.qemu.guest_agent.0": False, "org.vmsnap_nb.0": False}
    assert console_log(root) == "/lab/console/1.log"
    assert lab_of(text) == "/lab"
    assert lab_of("<domain><name>other</name></domain>") is None
    by_disk = ET.fromstring(domain_xml(replace(SPEC, kernel=None, initrd=None, kvm=True, as_root=True)))
    assert by_disk.find("os/kernel") is None
    assert "norandmaps acpi=noirq" in (root.findtext("os/cmdline") or "")
    assert "norandmaps" not in (ET.fromstring(domain_xml(replace(SPEC, kvm=True))).findtext("os/cmdline") or "")
    assert by_disk.get("type") == "kvm"
    assert by_disk.findtext("seclabel/label") == "+0:+0"
