"""Guests as an administrator defines them: by an XML of their own, on images that no lab has made."""

from __future__ import annotations

import uuid
from pathlib import Path
from xml.sax.saxutils import quoteattr

from support.images import create, write
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host


def chain(folder: Path, references: list[str | None], *, names: str = "l{}.qcow2", **options: object) -> list[Path]:
    """Make a chain with these references, and something in each layer."""
    paths = []
    for number, reference in enumerate(references):
        path = create(folder / names.format(number), reference, size="16M", **options)  # type: ignore[arg-type]
        write(path, f"write -q -P {number + 1} {number}M 2M")
        paths.append(path)
    return paths


def file_disk(source: Path | str, format: str = "qcow2", target: str = "vda") -> str:
    """Return a disk that is a file."""
    return disk(f"<source file={quoteattr(str(source))}/>", format, target=target)


def disk(source: str, format: str = "qcow2", *, kind: str = "file", target: str = "vda") -> str:
    """Return a disk with any element for its source."""
    return (
        f"<disk type='{kind}' device='disk'><driver name='qemu' type='{format}'/>{source}"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


def define(host: Host, name: str, *disks: str) -> Guest:
    """Define a guest without a system on its disks: it does nothing when it runs."""
    name = f"own-{name}"
    host.connection.defineXML(
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid.uuid4()}</uuid><memory unit='MiB'>64</memory>"
        f"<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{''.join(disks)}</devices>"
        "<seclabel type='static' model='dac' relabel='no'><label>+0:+0</label></seclabel></domain>"
    )
    return host.guest(name)
