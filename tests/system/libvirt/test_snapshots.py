"""libvirt's records of snapshots, read by patterns and parsed in full."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from vmsnap_nb.system.libvirt import snapshots

pytestmark = pytest.mark.quick

DISK = """
      <disk type='file' device='disk'>
        <driver name='qemu' type='qcow2'/>
        <source file='/i/later.qcow2'/>
        <target dev='vda' bus='virtio'/>
      </disk>"""
RECORD = f"""\
<domainsnapshot>
  <name>a</name>
  <state>running</state>
  <creationTime>1</creationTime>
  <memory snapshot='external' file='/i/a.mem'/>
  <domain type='qemu'>
    <name>g</name>
    <devices>
      <emulator>/usr/bin/qemu-system-x86_64</emulator>
    </devices>
  </domain>
  <inactiveDomain type='qemu'>
    <name>g</name>
    <devices>{DISK}
    </devices>
  </inactiveDomain>
</domainsnapshot>
"""


def test_disks_of_the_next_start_are_none_of_the_snapshot() -> None:
    found = snapshots._fields_as_set(RECORD)
    assert found == snapshots._fields(ET.fromstring(RECORD))
    assert found is not None
    assert found["disks"] == ()


def test_what_looks_like_an_end_in_the_metadata_is_none() -> None:
    forged = "\n    <metadata>\n      <a xmlns='http://x/'>words<domain>\n  </domain>\n</a>\n    </metadata>"
    own = RECORD.replace("later", "own").replace("</inactiveDomain>", "</domain>").replace("<inactiveDomain", "<domain")
    own = own[: own.index("\n  <domain")] + own[own.rindex("\n  <domain") :]
    xml = own.replace("\n    <devices>", f"{forged}\n    <devices>")
    record = snapshots._fields(ET.fromstring(xml))
    assert record is not None
    assert [disk.source for disk in record["disks"]] == ["/i/own.qcow2"]
    assert snapshots._fields_as_set(xml) in (None, record)
