"""What each verb of a guest does with kinds of disks: the cells of docs/kinds.md, tried on a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.devices import MakeDevice, block_disk
from support.hosts import IMAGES, define, file_disk, qemu_img
from support.images import MIB, create
from support.scripts import script

import vmsnap_nb as vs
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan

pytestmark = pytest.mark.hosts

KINDS = script("kinds")


def qcow2_device(device: MakeDevice) -> str:
    return block_disk(create(device(), size=16 * MIB))


def raw_device(device: MakeDevice) -> str:
    return block_disk(device(), format="raw")


def on_vmdk(_: MakeDevice) -> str:
    qemu_img("create", "-q", "-f", "vmdk", "base.vmdk", "16M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.vmdk", "-F", "vmdk", "top.qcow2")
    return file_disk(IMAGES / "top.qcow2")


DISKS: dict[str, Callable[[MakeDevice], str]] = {
    "qcow2 on a block device": qcow2_device,
    "raw block device": raw_device,
    "base in vmdk, vdi, vhdx, vpc, qed, qcow or parallels": on_vmdk,
}


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


def tried(guest: Guest) -> dict[str, str]:
    """Perform all verbs, one after the other."""

    def external(name: str) -> LivePlan:
        disks = {"vda": str(IMAGES / f"{name}.qcow2")}
        return guest.snapshot(name, kind="external-disk", disks=disks)

    running = guest.running
    inside = "internal-checkpoint" if running else "internal-disk"
    found = {"internal snapshot": come_of(lambda: guest.snapshot("i1", kind=inside))}
    if found["internal snapshot"] == "works":
        assert come_of(lambda: guest.revert("i1", keep_current=False)) == "works"
        assert come_of(lambda: guest.delete_snapshot("i1")) == "works"
    found["external snapshot"] = come_of(lambda: external("s1"))
    found["revert"] = come_of(lambda: guest.revert("s1", to="paused" if running else "off", keep_current=False))
    found["delete a snapshot"] = come_of(lambda: guest.delete_snapshot("s1"))
    assert come_of(lambda: external("s2")) == "works"
    found["commit"] = come_of(guest.commit)
    assert come_of(lambda: external("s3")) == "works"
    found["pull"] = come_of(guest.pull)
    return found


@pytest.mark.parametrize("state", ["off", "running"])
@pytest.mark.parametrize("kind", DISKS)
def test_a_cell_is_what_comes_of_a_verb(connection: Any, device: MakeDevice, kind: str, state: str) -> None:
    define(connection, "demo", DISKS[kind](device), running=state == "running")
    with vs.connect("qemu:///system") as host:
        found = tried(host.guest("demo"))
    cells = dict(zip(KINDS.VERBS, KINDS.DISKS[kind][1][state], strict=True))
    others = {
        verb: (result, cells[verb])
        for verb, result in found.items()
        if not any(part.startswith(result) for part in cells[verb].split("; "))
    }
    assert others == {}
