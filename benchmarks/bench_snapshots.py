"""Snapshots of 200 guests, 10 each: one bulk read against virsh per guest, and against the bare libvirt calls.

The bulk read and the bare calls go to an embedded libvirt with the 200 guests, whose images have these snapshots.
virsh is run as a script has to run it: `snapshot-list` and `snapshot-current` for each guest and `snapshot-dumpxml` for
each snapshot, since no other command tells the disks. It gets the easiest libvirt there is, the test driver with a
single guest that has such snapshots, so that next to nothing is measured but virsh itself; and only some guests are
asked, and the time is scaled up.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

GUESTS, EACH, ASKED, ROUNDS = 200, 10, 4, 9

DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>
<target dev='vda' bus='virtio'/></disk>
<serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
</devices></domain>"""


def fill(connection: object, folder: Path) -> None:
    """Define the guests with their images, and records of the internal and external snapshots in them."""
    from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
    from vmsnap_nb.plans.snapshot.record_xml import record_xml

    template = folder / "template"
    layers = images(template)
    for number in range(GUESTS):
        name = f"guest-{number:03}"
        shutil.copytree(template, folder / name)
        paths = [str(folder / name / layer) for layer in layers]
        xml = DOMAIN.format(name=name, uuid=uuid.uuid4(), image=paths[-1])
        domain = connection.defineXML(xml)  # type: ignore[attr-defined]
        definition = domain.XMLDesc()
        parent = None
        for place in range(EACH):
            image, external = paths[place // 2], place % 2
            overlay = paths[place // 2 + 1] if external else None
            disk = SnapshotDisk("vda", "external" if external else "internal", image, overlay)
            record = SnapshotRecord(
                name,
                f"s{place}",
                parent=parent,
                disks=(disk,),
                description=f"number {place}",
                created=datetime.fromtimestamp(1_700_000_000 + place, UTC),
            )
            domain.snapshotCreateXML(record_xml(record, definition), 1 | (2 if place == EACH - 1 else 0))
            parent = record.name
    shutil.rmtree(template)


def images(folder: Path) -> list[str]:
    """Create the images of one guest, every second snapshot inside one; return their names, the active layer last."""

    def qemu_img(*words: str) -> None:
        subprocess.run(["qemu-img", *words], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    folder.mkdir()
    names = ["base.qcow2"]
    qemu_img("create", "-f", "qcow2", names[-1], "1G")
    for place in range(EACH):
        if place % 2:
            names.append(f"s{place}.qcow2")
            qemu_img("create", "-f", "qcow2", "-b", names[-2], "-F", "qcow2", names[-1])
        else:
            qemu_img("snapshot", "-c", f"s{place}", names[-1])
    return names


def bare(connection: object) -> int:
    """Only the calls, and nothing made of their answers."""
    size = 0
    for domain in connection.listAllDomains():  # type: ignore[attr-defined]
        domain.name()
        snapshots = domain.listAllSnapshots()
        domain.snapshotCurrent().getName()
        domain.hasManagedSaveImage()
        size += sum(len(snapshot.getXMLDesc()) for snapshot in snapshots)
    return size


def easiest(connection: object, folder: Path) -> str:
    """Write one guest with its snapshots for the test driver, and give its address."""
    domain = connection.lookupByName("guest-000")  # type: ignore[attr-defined]
    namespace = "http://libvirt.org/schemas/domain/test/1.0"
    snapshots = ""
    for one in domain.listAllSnapshots():
        active = f"</name><active>{int(one.isCurrent())}</active>"
        text = one.getXMLDesc().replace("</name>", active, 1).replace("type='qemu'", "type='test'")
        snapshots += text.replace("domainsnapshot>", "test:domainsnapshot>")
    xml = domain.XMLDesc().replace("type='qemu'", f"type='test' xmlns:test='{namespace}'", 1)
    path = folder / "node.xml"
    path.write_text(f"<node>{xml.replace('</domain>', snapshots + '</domain>')}</node>")
    return f"test://{path}"


def by_virsh(uri: str, times: int) -> int:
    """What a script does for one guest, so many times."""

    def ask(*words: str) -> str:
        return subprocess.run(["virsh", "-q", "-c", uri, *words], capture_output=True, text=True, check=True).stdout

    found = 0
    guest = "guest-000"
    for _ in range(times):
        ask("snapshot-current", "--domain", guest, "--name")
        for name in ask("snapshot-list", "--domain", guest, "--name").split():
            found += len(ask("snapshot-dumpxml", "--domain", guest, "--snapshotname", name)) > 0
    return found


def best(*works: Callable[[], object]) -> list[float]:
    """Measure some works in turn, so that what else the machine does meets all of them; give the best of each."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, taken in zip(works, times, strict=True):
            gc.collect()
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="vb", dir="/tmp"))
    os.environ.setdefault("VMSNAP_ACCEL", "tcg")  # nothing is booted
    try:
        return measure(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path) -> int:
    import vmsnap_nb as vs
    from vmsnap_nb.lab.driver import write_qemu_conf
    from vmsnap_nb.model.snapshot import Snapshot, SnapshotList, SnapshotLists
    from vmsnap_nb.system.libvirt.domains import read_roll
    from vmsnap_nb.system.libvirt.snapshots import read_all_records

    write_qemu_conf(folder)  # otherwise libvirt looks at QEMU anew for each guest, as a user who may not come here
    with vs.connect(f"qemu:///embed?root={folder}") as host:
        connection = host.connection
        fill(connection, folder)

        def ours() -> int:
            every = read_all_records(read_roll(connection))
            lists = tuple(SnapshotList(records[0].guest, tuple(map(Snapshot, records))) for records in every.values())
            return len(SnapshotLists(lists).to_frame())

        assert ours() == GUESTS * EACH  # pandas is loaded by now
        limit, all_ours, whole = best(lambda: bare(connection), ours, host.snapshots)
        began = time.perf_counter()
        assert len(host.snapshots().to_frame()) == GUESTS * EACH
        sized = time.perf_counter() - began
        uri = easiest(connection, folder)
        start = time.perf_counter()
        assert by_virsh(uri, ASKED) == ASKED * EACH
        virsh = (time.perf_counter() - start) / ASKED * GUESTS
    print(f"{GUESTS} guests with {EACH} snapshots each")
    print(f"  bare libvirt calls                {limit:8.3f} s")
    print(f"  calls, parse and frame together   {all_ours:8.3f} s   {all_ours / limit:.2f} x the bare calls")
    print(
        f"  so parse and frame alone          {all_ours - limit:8.3f} s   {all_ours / limit - 1:.2f} x the bare calls"
    )
    print(f"  host.snapshots(), files compared  {whole:8.3f} s   {whole / limit:.2f} x the bare calls")
    print(f"  its table, with what each takes   {sized:8.3f} s   {sized / GUESTS / EACH * 1000:.1f} ms a snapshot")
    print(f"  virsh, {ASKED} guests asked, scaled    {virsh:8.1f} s   {virsh / all_ours:.0f} x ours")
    if virsh / all_ours < 40 or (all_ours - limit) / limit > 1.5:
        print("NOT reached: at least 40 x faster than virsh, parse and frame at most 1.5 x the bare calls")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
