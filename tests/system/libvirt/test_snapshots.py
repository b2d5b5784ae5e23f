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
