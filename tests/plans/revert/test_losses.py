"""What a revert takes from a guest beside its state, on made-up guests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.readings import reading

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State
from vmsnap_nb.model.image import Bitmap, Image
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.revert.choice import choose
from vmsnap_nb.plans.revert.losses import check_losses, saved_memory
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.plans.step import GuestRef

GUEST = GuestRef("demo", "0c0c0c0c-1111-2222-3333-444444444444", "")
BACKUPS = (Bitmap("monday", 65536),)
NVRAM = {"pflash": True, "nvram": "/i/demo.fd"}


def world(held: str, state: State = "shut off", put: tuple[Image, ...] = (), **fields: object) -> tuple[Forest, Domain]:
    """A guest whose only disk one snapshot holds, `a`: in the image, or with an overlay on it."""
    disk = SnapshotDisk("vda", held, "/i/top", "/i/over" if held == "external" else None)  # type: ignore[arg-type]
    now = "/i/over" if held == "external" else "/i/top"
    domain = Domain("demo", GUEST.uuid, state, disks=(Disk("vda", now, "qcow2", "virtio"),))
    given: dict[str, object] = {"disks": (disk,), **fields}
    record = SnapshotRecord("demo", "a", **given)  # type: ignore[arg-type]
    images = (image("base"), image("top", "base"), image("over", "top"))
    return forest(*images, uses=domain.uses).edited(records=[record], put=put), domain


def found(world: tuple[Forest, Domain], keep: bool = True, **facts: object) -> list[Concern]:
    now: Reading = reading(*world, **facts)
    return list(check_losses(now, choose(now, RevertRequest(guest=GUEST, name="a", keep_current=keep))))


def levels(concerns: list[Concern]) -> list[tuple[str, str]]:
    return [(one.name, one.level) for one in concerns]


# -- firmware --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["internal", "external"])
@pytest.mark.parametrize("file", ["/i/demo.fd", ""])
@pytest.mark.parametrize("memory", [False, True])
def test_variables_of_the_firmware_are_said_to_go_back_with_the_memory_alone(
    held: str, file: str, memory: bool
) -> None:
    with_memory = {"memory": held, "state": "running"} if memory else {}
    (said,) = found(world(held, **with_memory), pflash=True, nvram=file)
    assert (said.name, said.level, said.holders) == ("not-supported", "note", ("demo",))
    assert said.images == ((file,) if file else ())
    assert ("reverted together with the memory" in said.what) == memory
    assert ("not reverted" in said.what) != memory
    assert ("/i/demo.fd" in said.what) == bool(file)
    assert bool(said.remedy) == (memory and bool(file))


def test_an_internal_snapshot_that_holds_the_variables_says_nothing_of_them() -> None:
    new = {**NVRAM, "nvram_format": "qcow2", "libvirt_version": (99, 0, 0)}
    assert found(world("internal"), **new) == []
    assert levels(found(world("external"), **new)) == [("not-supported", "note")]
    assert found(world("internal")) == []


# -- data ------------------------------------------------------------------------------------------------


def test_what_is_kept_is_not_lost() -> None:
    for held in ("internal", "external"):
        assert found(world(held)) == []
        (lost,) = found(world(held), keep=False)
        assert (lost.name, lost.level, lost.holders) == ("state-lost", "warn", ("demo",))
        assert lost.images == (("/i/top",) if held == "internal" else ("/i/over",))
        assert "keep_current=True" in lost.remedy
        assert ("last internal snapshot" in lost.what) == (held == "internal")


def test_the_largest_loss_comes_first_and_what_nobody_measured_last() -> None:
    before, domain = world("internal")
    more = tuple(Disk(f"vd{letter}", f"/i/{letter}", "qcow2") for letter in "bcd")
    put = image("b", allocated=5 << 30), image("c", allocated=None), image("d", allocated=9 << 30)
    disks = (*before.records[0].disks, *(SnapshotDisk(one.target, "internal", one.source) for one in more))
    many = replace(domain, disks=(*domain.disks, *more))
    tree = before.edited(put=put, uses=many.uses, records=[replace(before.records[0], disks=disks)])
    assert [one.images for one in found((tree, many), keep=False)] == [("/i/d",), ("/i/b",), ("/i/top",), ("/i/c",)]


def test_a_read_only_disk_loses_nothing() -> None:
    before, domain = world("internal")
    assert found((before, replace(domain, disks=(replace(domain.disks[0], readonly=True),))), keep=False) == []


@pytest.mark.parametrize("based", [False, True])
def test_an_image_that_is_written_though_it_is_no_disk_any_more(based: bool) -> None:
    before, domain = world("internal")
    moved = replace(domain, disks=(Disk("vda", "/i/new", "qcow2", "virtio"),))
    put = (image("new"),) if based else (image("new"), image("over"))
    concerns = found((before.edited(put=put, uses=moved.uses), moved))
    assert levels(concerns) == ([] if based else [("state-lost", "refuse")])  # an overlay refuses in another check
    for one in concerns:
        assert (one.images, one.holders, one.waivable) == (("/i/top",), ("demo",), True)
        assert "vda" in one.remedy


def test_another_name_of_the_disk_is_the_disk() -> None:
    before, domain = world("internal", put=(image("over"), image("link", identity=(1, 1))))
    moved = replace(domain, disks=(Disk("vda", "/i/link", "qcow2", "virtio"),))
    same = before.edited(put=[replace(before["/i/top"], identity=(1, 1))], uses=moved.uses)
    assert found((same, moved)) == []


# -- dirty bitmaps ---------------------------------------------------------------------------------------


def test_qemu_reverts_no_image_inside_that_has_bitmaps() -> None:
    (said,) = found(world("internal", put=(image("top", "base", bitmaps=BACKUPS),)))
    assert (said.name, said.level, said.waivable) == ("backup-chain", "refuse", False)
    assert (said.images, said.holders) == (("/i/top",), ("demo",))
    assert "qemu-img bitmap --remove -- /i/top monday" in said.remedy


def test_the_new_overlay_has_no_bitmaps_which_can_be_accepted() -> None:
    (said,) = found(world("external", put=(image("over", "top", bitmaps=BACKUPS),)))
    assert (said.name, said.level, said.waivable) == ("backup-chain", "refuse", True)
    assert (said.images, said.holders) == (("/i/over",), ("demo",))
    below = found(world("external", put=(image("top", "base", bitmaps=BACKUPS),)))
    assert below == []


def test_checkpoints_are_bitmaps_and_libvirt_writes_no_record_beside_them() -> None:
    before, domain = world("external")
    with_one = replace(domain, checkpoints=("c1",))
    assert levels(found((before, with_one))) == [("backup-chain", "refuse")] * 2
    running = world("external", memory="external", memory_file="/i/m", state="running")
    goes_on = found((running[0], with_one), gone=frozenset())
    assert levels(goes_on) == [("backup-chain", "refuse")]
    assert "new overlay" in goes_on[0].what
    inside = world("internal")
    (said,) = found((inside[0], replace(inside[1], checkpoints=("c1",))))
    assert "c1" in said.remedy


def test_bitmaps_of_disks_that_a_revert_leaves_alone_do_not_count() -> None:
    before, domain = world("external")
    second = Disk("vdb", "/i/second", "qcow2")
    disks = (*before.records[0].disks, SnapshotDisk("vdb", "no", "/i/second"))
    two = replace(domain, disks=(*domain.disks, second))
    put = [image("second", bitmaps=BACKUPS)]
    tree = before.edited(put=put, uses=two.uses, records=[replace(before.records[0], disks=disks)])
    assert [one for one in found((tree, two)) if one.images == ("/i/second",)] == []
    memory = SnapshotRecord("demo", "a", disks=(SnapshotDisk("vda", "no", "/i/over"),), memory="external")
    alone = before.edited(records=[memory], put=[image("over", "top", bitmaps=BACKUPS)])
    assert found((alone, domain)) == []


# -- hardware and memory ---------------------------------------------------------------------------------


def test_hardware_is_called_by_what_it_is() -> None:
    def definition(*parts: str) -> str:
        return f"<domain><name>demo</name><devices>{''.join(parts)}</devices></domain>"

    card = "<video><model type='qxl'/></video>"
    before, domain = world("internal", xml=f"<domainsnapshot>{definition(card)}</domainsnapshot>")
    (said,) = found((before, domain), definition=definition("<strange/>"))
    assert (said.name, said.level, said.holders) == ("hardware-changed", "warn", ("demo",))
    assert "graphics card" in said.what
    assert "strange" in said.what
    assert found((before, domain), definition="") == []
    assert found((before, domain), definition=definition(card)) == []
    bare = before.edited(records=[replace(before.records[0], xml="<domainsnapshot/>")])
    assert found((bare, domain), definition=definition()) == []


def test_memory_that_is_gone_or_forged_is_not_restored() -> None:
    before, domain = world("external", memory="external", memory_file="/i/m", state="running")
    assert list(saved_memory(reading(before, domain), "/i/m")) == []
    (gone,) = saved_memory(reading(before, domain, gone=frozenset({"/i/m"})), "/i/m")
    assert (gone.name, gone.level) == ("missing-base", "refuse")
    assert "to='off'" in gone.remedy
    (forged,) = saved_memory(reading(before, domain, distrusted={"/i/m": "mallory owns it"}), "/i/m")
    assert (forged.name, forged.level, forged.images) == ("not-supported", "refuse", ("/i/m",))
    assert "mallory owns it" in forged.what
    assert "to='off'" in forged.remedy
