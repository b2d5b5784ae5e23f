"""Disks that name a volume of a storage pool on the network: libvirt lets QEMU open it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.volumes import with_volume_paths

DISK = (
    "<domain><devices><disk type='volume'><source pool='san' volume='unit:0:0:1' mode='direct'/><target dev='vda'/>"
    "</disk></devices></domain>"
)
POOL = (
    "<pool type='{}'><source><host name='box'/><device path='iqn.x:y'/><initiator><iqn name='iqn.me'/></initiator>"
    "</source></pool>"
)


def connected(type: str, *, active: bool) -> Any:
    def volume(_: str) -> Any:
        if not active:
            raise library().libvirtError("the pool is not active")
        return SimpleNamespace(path=lambda: "ip-box:3260-iscsi-iqn.x:y-lun-1", info=lambda: [3, 0, 0])

    pool = SimpleNamespace(
        storageVolLookupByName=volume, refresh=lambda: None, XMLDesc=lambda: POOL.format(type), name=lambda: "san"
    )
    return lambda: SimpleNamespace(storagePoolLookupByName=lambda _: pool)


def test_a_logical_unit_that_qemu_opens_is_a_disk_on_the_network() -> None:
    for active in (True, False):
        found = with_volume_paths(connected("iscsi-direct", active=active), DISK)
        assert '<disk type="network"><source protocol="iscsi" name="iqn.x:y/1"><host name="box" />' in found
        assert '<initiator><iqn name="iqn.me" /></initiator></source>' in found


def test_a_volume_whose_path_is_a_name_stays_unknown() -> None:
    found = with_volume_paths(connected("rbd", active=True), DISK)
    assert '<source pool="san" volume="unit:0:0:1"' in found
