"""Guests with libvirt's checkpoints: what libvirt and QEMU refuse then is in the plan, and block jobs keep bitmaps."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bitmaps import recorded
from support.guests import discard
from support.images import create
from support.labs import start_paused

from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.plan import Plan

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def guest(lab: Lab, base: Image, request: pytest.FixtureRequest) -> Iterator[Guest]:
    name = f"chk-{abs(hash(request.node.name)) % 10**6}"
    guest = lab.guest(name, backing=base)
    yield guest
    if guest.running:
        guest.destroy()
    forget_checkpoints(guest)
    discard(guest)


def forget_checkpoints(guest: Guest) -> None:
    for one in guest.handle.domain.listAllCheckpoints():
        one.delete(2)  # VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY


def checkpoint(guest: Guest, name: str) -> None:
    guest.handle.domain.checkpointCreateXML(f"<domaincheckpoint><name>{name}</name></domaincheckpoint>", 0)


def concerns(plan: Plan, level: str = "refuse") -> list[str]:
    return [one.what for one in plan.concerns if one.name == "backup-chain" and one.level == level]


def off_with_checkpoint(guest: Guest) -> None:
    guest.snapshot("first", kind="external-disk").run(progress=False)
    start_paused(guest)
    checkpoint(guest, "monday")
    guest.snapshot("second", kind="external-disk").run(progress=False)
    guest.destroy()
    assert guest.domain().checkpoints == ("monday",)


def test_what_libvirt_refuses_while_it_is_off(guest: Guest) -> None:
    off_with_checkpoint(guest)
    chain = [image.path for image in guest.chain()]
    for plan in (
        guest.snapshot("third", kind="external-disk"),
        guest.snapshot("third", kind="internal-disk"),
        guest.revert("first"),
        guest.revert("first", keep_current=False),
        guest.delete_snapshot("first"),
        guest.commit(top=chain[-2], base=chain[-3]),
    ):
        assert any("While the guest is off" in what for what in concerns(plan)), plan.title
        with pytest.raises(PlanRefusedError):
            plan.run(waive="backup-chain", progress=False)
    assert [image.path for image in guest.chain()] == chain
    assert [row.name for row in guest.snapshots()] == ["first", "second"]


def test_a_merge_while_it_is_off_keeps_the_checkpoint_of_use(guest: Guest) -> None:
    off_with_checkpoint(guest)
    for row in guest.snapshots():
        guest.handle.domain.snapshotLookupByName(row.name).delete(2)
    plan = guest.pull()
    assert concerns(plan) == []
    assert plan.run(progress=False).as_predicted
    assert "monday" in recorded(Path(guest.chain()[-1].path))
    start_paused(guest)
    assert backed_up(guest, "monday")


def backed_up(guest: Guest, since: str) -> bool:
    """Return whether libvirt begins an incremental backup that is based on a checkpoint."""
    target = f"{guest.chain()[-1].path}.backup"
    xml = (
        f"<domainbackup mode='push'><incremental>{since}</incremental><disks>"
        f"<disk name='vda' type='file'><target file='{target}'/></disk></disks></domainbackup>"
    )
    guest.handle.domain.backupBegin(xml, None)
    return True


@pytest.mark.parametrize("verb", ["commit", "pull", "delete"])
def test_block_jobs_keep_the_checkpoint_of_use(guest: Guest, verb: str) -> None:
    guest.snapshot("first", kind="external-disk").run(progress=False)
    start_paused(guest)
    checkpoint(guest, "monday")
    guest.snapshot("second", kind="external-disk").run(progress=False)
    chain = guest.chain()
    plan = {
        "commit": lambda: guest.commit(base=chain[-2]),
        "pull": lambda: guest.pull(base=chain[-3]),
        "delete": lambda: guest.delete_snapshot("second"),
    }[verb]()
    assert concerns(plan) == []
    assert any("libvirt will copy" in what for what in concerns(plan, "note"))
    assert plan.run(progress=False).as_predicted
    assert backed_up(guest, "monday")


def test_a_live_commit_into_a_base_that_holds_no_bitmaps(lab: Lab, tmp_path: Path) -> None:
    raw = create(tmp_path / "raw.img", size="8M", format="raw")
    base = lab.base("RawBase", raw, format="raw")
    guest = lab.guest("chk-raw", backing=base)
    start_paused(guest)
    checkpoint(guest, "monday")
    plan = guest.commit()
    assert any("monday" in what and "raw" in what for what in concerns(plan))
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    guest.destroy()
    forget_checkpoints(guest)
    discard(guest)


def test_no_revert_inside_an_image_with_bitmaps(guest: Guest) -> None:
    guest.snapshot("inside", kind="internal-disk").run(progress=False)
    start_paused(guest)
    checkpoint(guest, "monday")
    assert any("QEMU does not revert" in what for what in concerns(guest.revert("inside")))
    guest.destroy()
    plan = guest.revert("inside", keep_current=False)
    assert any("QEMU does not revert" in what for what in concerns(plan))
    with pytest.raises(PlanRefusedError):
        plan.run(waive=["backup-chain", "state-lost"], progress=False)
    remedy = next(one.remedy for one in plan.concerns if one.name == "backup-chain")
    subprocess.run(remedy.partition(": ")[2], shell=True, check=True)
    forget_checkpoints(guest)
    assert guest.revert("inside", keep_current=False).run(progress=False).as_predicted


def test_a_revert_by_a_new_overlay_ends_the_chain_of_backups(guest: Guest) -> None:
    guest.snapshot("first", kind="external-disk").run(progress=False)
    start_paused(guest)
    checkpoint(guest, "monday")
    plan = guest.revert("first", to="paused", keep_current=False)
    assert any("full one" in what for what in concerns(plan))
    report = plan.run(waive="backup-chain", progress=False)
    assert report.as_predicted, report.differences
