"""The domain XML of lab guests (https://libvirt.org/formatdomain.html), and the mark by which a lab knows its own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from string import ascii_lowercase

from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.guest.agent import AGENT_PORT
from vmsnap_nb.system.guest.port import COMMAND_PORT

__all__ = ["DomainSpec", "domain_xml", "lab_of"]

_NAMESPACE = "urn:vmsnap-nb:lab:1"
_MARK = f"{{{_NAMESPACE}}}lab"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpec:
    """What the domain of a lab guest is made of."""

    name: str
    uuid: str
    disk: str  # absolute path of its image, a qcow2
    root: str  # absolute path of the lab's folder
    memory: int  # MiB
    cpus: int
    # What it boots; None where it boots from its disk.
    kernel: str | None
    initrd: str | None
    kvm: bool
    console_log: str  # path of the console's log
    as_root: bool  # whether QEMU is to run as root although libvirt would choose another user
    # Paths of the sockets for commands and for the QEMU guest agent; None leaves them to libvirt.
    port: str | None
    agent: str | None
    more: tuple[str, ...] = ()  # paths of further images: its disks vdb, vdc, …


def domain_xml(spec: DomainSpec) -> str:
    """Return the XML of a guest."""
    ET.register_namespace("vmsnap", _NAMESPACE)
    domain = ET.Element("domain", type="kvm" if spec.kvm else "qemu")
    _text(domain, "name", spec.name)
    _text(domain, "uuid", spec.uuid)
    ET.SubElement(ET.SubElement(domain, "metadata"), _MARK, root=spec.root)
    _text(domain, "memory", str(spec.memory), unit="MiB")
    _text(domain, "vcpu", str(spec.cpus))
    if spec.kvm:
        ET.SubElement(domain, "cpu", mode="host-passthrough")
    system = ET.SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine="pc")
    if spec.kernel and spec.initrd:
        _text(system, "kernel", spec.kernel)
        _text(system, "initrd", spec.initrd)
        # Without no_timer_check the kernel panics where a busy host lets its first timer interrupts come late.
        # Where QEMU translates, it would translate a program anew each time that it starts at another address: all is
        # slower by a fifth, and QEMU's memory grows to a gigabyte and more.
        # At this level the console says how far the kernel is, in some twenty lines; all of it would cost time.
        # The firmware has the routes of interrupts in a table, too: to ask ACPI's program for each device's takes long.
        options = ["console=ttyS0", "loglevel=6", "no_timer_check", f"hostname={_host_name(spec.name)}"]
        options += [] if spec.kvm else ["norandmaps", "acpi=noirq"]
        _text(system, "cmdline", " ".join(options))
    ET.SubElement(system, "boot", dev="hd")
    ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    ET.SubElement(domain, "clock", offset="utc")
    _devices(ET.SubElement(domain, "devices"), spec)
    if spec.as_root:
        label = ET.SubElement(domain, "seclabel", type="static", model="dac", relabel="no")
        _text(label, "label", "+0:+0")
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _devices(devices: ET.Element, spec: DomainSpec) -> None:
    for letter, path in zip(ascii_lowercase, (spec.disk, *spec.more), strict=False):
        disk = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(disk, "driver", name="qemu", type="qcow2")
        ET.SubElement(disk, "source", file=path)
        ET.SubElement(disk, "target", dev=f"vd{letter}", bus="virtio")
    ET.SubElement(devices, "controller", type="usb", model="none")
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=spec.console_log, append="off")
    ET.SubElement(serial, "target", port="0")
    _channel(devices, AGENT_PORT, spec.agent)
    if spec.kernel:
        _channel(devices, COMMAND_PORT, spec.port)
    ET.SubElement(devices, "memballoon", model="none")


def _channel(devices: ET.Element, name: str, path: str | None) -> None:
    channel = ET.SubElement(devices, "channel", type="unix")
    if path:
        ET.SubElement(channel, "source", mode="bind", path=path)
    ET.SubElement(channel, "target", type="virtio", name=name)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _host_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63] or "guest"


def lab_of(xml: str) -> str | None:
    """Return the folder of the lab that a domain belongs to, or None if it is no lab's."""
    mark = parse_xml(xml).find(f"metadata/{_MARK}")
    return None if mark is None else mark.get("root")
