"""What a merge does to libvirt's records of snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.snapshots import guest_world
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.snapshot_steps import ForgetRecord
from vmsnap_nb.system.libvirt_library import library

pytestmark = pytest.mark.guest


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    """Give a guest that is paused at its start, with three snapshots in files."""
    guest = lab.guest("records", backing=base, boot="disk")
    guest._domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)
    for name in ("one", "two", "three"):
        guest.snapshot(name, kind="external-disk").run(progress=False)
    yield guest
    guest.destroy()
    for name in guest.snapshots().names:
        guest._domain.snapshotLookupByName(name).delete(library().VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    guest.undefine()
    for file in lab.root.glob("images/records*"):
        file.unlink()


def test_a_commit_ends_one_snapshot_and_moves_the_next(guest: Guest) -> None:
    layers = [image.name for image in guest.chain()]
    assert layers == ["RootBase", "records", "records.one", "records.two", "records.three"]
    three = guest.snapshots()["three"].record
    plan = guest.commit(top="records.one", base="records")
    (ended,) = [concern for concern in plan.concerns if concern.name == "state-lost"]
    assert ended.level == "warn"
    assert ended.what.startswith("the snapshot one of records ends")
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    left = guest.snapshots()
    assert [(row.name, row.status, row.record.parent) for row in left] == [("two", "ok", None), ("three", "ok", "two")]
    names = [[str(path).rpartition("/")[2] for path in (disk.source, disk.file)] for disk in left["two"].record.disks]
    assert names == [["records.qcow2", "records.two.qcow2"]], "the state of two is in the base now"
    assert left["three"].record == three
    assert [image.name for image in guest.chain()] == ["RootBase", "records", "records.two", "records.three"]


def test_forgetting_a_record_leaves_the_others_as_they_are(guest: Guest) -> None:
    before = {row.name: row.record for row in guest.snapshots()}
    step = ForgetRecord(guest.name, guest.uuid, guest.host.uri, "one")
    undo = guest_world(guest).actions[ForgetRecord](step)
    after = {row.name: row.record for row in guest.snapshots()}
    assert after == {"two": replace(before["two"], parent=None), "three": before["three"]}
    undo()
    assert {row.name: row.record for row in guest.snapshots()} == before
