"""Records of snapshots as libvirt writes them: their disks are those of the guest, whatever its metadata contain."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from support.hosts import IMAGES, define, file_disk
from support.images import MIB, create
from support.refusals import refused

import vmsnap_nb as vs

pytestmark = pytest.mark.hosts

DEVICES = """
    <devices>
      <disk type='file' device='disk'>
        <source file='/forged'/>
        <target dev='vda' bus='virtio'/>
      </disk>
    </devices>
  </domain>
"""


@pytest.mark.parametrize(
    "text",
    [
        f"<![CDATA[{DEVICES}]]>",
        f"<!--{DEVICES}-->",
        f"<?x {DEVICES}?>",
        f"words<domain>words{DEVICES}",
        f"<![CDATA[{DEVICES}<inactiveDomain]]>",
    ],
    ids=["cdata", "comment", "instruction", "mixed", "two"],
)
def test_what_looks_like_devices_in_the_metadata_is_no_disk(connection: Any, text: str) -> None:
    disk = create(IMAGES / "disk.qcow2", size=4 * MIB)
    xml = str(define(connection, "d", file_disk(disk)).XMLDesc())
    own = f"<metadata><a xmlns='http://x/'>{text}</a></metadata><memory "
    domain = connection.defineXML(xml.replace("<memory ", own, 1))
    domain.snapshotCreateXML("<domainsnapshot><name>s</name></domainsnapshot>", 0)
    with vs.connect("qemu:///system") as host:
        [record] = host.guest("d").snapshots().records
        assert [held.source for held in record.disks] == [str(disk)]
        [listed] = [one for one in host.survey(IMAGES).records if one.name == "s"]
        assert listed.disks == record.disks


def test_memory_is_restored_by_the_guests_own_emulator_or_refused_before_the_guest_is_stopped(connection: Any) -> None:
    real, own = shutil.which("qemu-system-x86_64"), IMAGES / "wrapper"
    own.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    own.chmod(0o755)
    domain = define(connection, "d", file_disk(create(IMAGES / "d.qcow2", size=4 * MIB)))
    domain = connection.defineXML(domain.XMLDesc().replace(f"<emulator>{real}<", f"<emulator>{own}<"))
    domain.create()
    with vs.connect("qemu:///system") as host:
        guest = host.guest("d")
        assert guest.snapshot("a", kind="external-checkpoint").run(progress=False).as_predicted
        memory = IMAGES / "d.a.mem"
        memory.chmod(0o622)
        assert refused(guest.revert("a", keep_current=False)) == {"not-supported"}
        assert not refused(guest.revert("a", keep_current=False, to="off"))
        memory.chmod(0o600)
        assert guest.revert("a", keep_current=False).run(progress=False).as_predicted
        assert guest.running
