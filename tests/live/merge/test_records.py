"""What a merge does to libvirt's records of snapshots."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest
from support.faulty import perform
from support.guests import discard
from support.images import MIB, create
from support.labs import start_paused

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.revert.steps import MakeCurrent
from vmsnap_nb.plans.snapshot.steps import ForgetRecord
from vmsnap_nb.plans.step import GuestRef

pytestmark = pytest.mark.guest


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    """Return a guest that is paused at its start, with three snapshots in files."""
    guest = lab.guest("records", backing=base, boot="disk")
    start_paused(guest)
    for name in ("one", "two", "three"):
        guest.snapshot(name, kind="external-disk").run(progress=False)
    yield guest
    discard(guest)


def test_a_commit_ends_one_snapshot_and_moves_the_next(guest: Guest) -> None:
    layers = [image.name for image in guest.chain()]
    assert layers == ["RootBase", "records", "records.one", "records.two", "records.three"]
    three = guest.snapshots()["three"].record
    plan = guest.commit(top="records.one", base="records")
    (ended,) = [concern for concern in plan.concerns if concern.name == "state-lost"]
    assert ended.level == "warn"
    assert ended.what.startswith("this merge removes the record of snapshot one of records")
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    left = guest.snapshots()
    assert [(row.name, row.status, row.record.parent) for row in left] == [("two", "ok", None), ("three", "ok", "two")]
    names = [[str(path).rpartition("/")[2] for path in (disk.source, disk.file)] for disk in left["two"].record.disks]
    assert names == [["records.qcow2", "records.two.qcow2"]], "the state of two is in the base now"
    assert left["three"].record == three
    assert [image.name for image in guest.chain()] == ["RootBase", "records", "records.two", "records.three"]


@pytest.mark.parametrize("state", ["off", "paused"])
def test_what_names_a_raw_base_after_a_commit_names_it_as_raw(lab: Lab, folder: Path, state: str) -> None:
    raw = create(folder / "raw.img", size=16 * MIB, format="raw")
    low = create(folder / "low.qcow2", raw, backing_format="raw")
    guest = lab.guest(f"on-raw-{state}", backing=low, boot="disk", protect=False)
    domain = guest.handle.domain

    def drivers(xml: str) -> set[str]:
        disks = [disk for disk in ET.fromstring(xml).iter("disk") if disk.find(f"source[@file='{raw}']") is not None]
        return {disk.find("driver").get("type", "") for disk in disks}  # type: ignore[union-attr]

    try:
        if state == "paused":
            start_paused(guest)
        for name in ("one", "two"):
            assert guest.snapshot(name, kind="external-disk").run(progress=False).as_predicted
        assert guest.commit(top=f"{guest.name}.one", base=str(raw)).run(progress=False).as_predicted
        assert drivers(domain.snapshotLookupByName("two").getXMLDesc()) == {"raw"}
        assert guest.commit(base=str(raw)).run(progress=False).as_predicted
        assert [drivers(domain.XMLDesc(inactive)) for inactive in (0, 2)] == [{"raw"}] * 2
    finally:
        discard(guest)


def test_forgetting_a_record_leaves_the_others_as_they_are(guest: Guest) -> None:
    before = {row.name: row.record for row in guest.snapshots()}
    step = ForgetRecord(guest=GuestRef(guest.name, guest.uuid, guest.host.uri), name="one")
    undo = perform(guest.reconcile(), step)
    after = {row.name: row.record for row in guest.snapshots()}
    assert after == {"two": replace(before["two"], parent=None), "three": before["three"]}
    undo()
    assert {row.name: row.record for row in guest.snapshots()} == before


def test_a_record_that_libvirt_could_not_write_as_the_current_one_is_as_it_was(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {row.name: row.record for row in guest.snapshots()}
    write = libvirt.virDomain.snapshotCreateXML
    written: list[int] = []

    def fails_once(domain: Any, xml: str, flags: int) -> Any:
        written.append(flags)
        if len(written) == 1:
            raise libvirt.libvirtError("no space left on device")
        return write(domain, xml, flags)

    step = MakeCurrent(guest=GuestRef(guest.name, guest.uuid, guest.host.uri), name="one")
    monkeypatch.setattr(libvirt.virDomain, "snapshotCreateXML", fails_once)
    with pytest.raises(VmsnapError):
        perform(guest.reconcile(), step)
    assert len(written) == 2
    assert {row.name: row.record for row in guest.snapshots()} == before


def test_a_merge_of_images_is_refused_where_a_snapshot_of_a_guest_needs_them(lab: Lab, base: Image) -> None:
    guest = lab.guest("recorded", backing=base, boot="disk")
    try:
        for name in ("s1", "s2"):
            assert guest.snapshot(name, kind="external-disk").run(progress=False).as_predicted
        layers = [image.name for image in guest.chain()]
        for plan in (
            lab.survey().commit("recorded.s1", remove=True),
            lab.survey().commit("recorded.s1", "recorded"),
            lab.survey().remove("recorded.s1"),
            lab.survey().pull("recorded.s2", "RootBase", remove=True),
            lab.survey().shorten("recorded.s2", keep=2, remove=True),
        ):
            lost = [concern for concern in plan.concerns if concern.name == "state-lost"]
            assert {concern.level for concern in lost} == {"refuse"}, plan.title
            assert {holder for concern in lost for holder in concern.holders} == {"recorded"}
            assert any("snapshot s" in concern.what for concern in lost)
        # What changes no image that a snapshot needs is not refused: the lower layers stay, and stay as they are.
        assert not [c for c in lab.survey().pull("recorded.s2", "RootBase").concerns if c.name == "state-lost"]
        assert [image.name for image in guest.chain()] == layers
        # By the guest, records and images change together.
        assert guest.delete_snapshot("s1").run(progress=False).as_predicted
        assert {row.status for row in guest.snapshots()} == {"ok"}
    finally:
        discard(guest)


def test_a_merge_of_images_is_refused_where_saved_memory_needs_them(lab: Lab, base: Image) -> None:
    guest = lab.guest("remembers", backing=base, boot="disk")
    try:
        guest.snapshot(kind="external-disk", metadata=False).run(progress=False)
        start_paused(guest)
        assert guest.save().run(progress=False).as_predicted
        plan = lab.survey().commit("remembers", "RootBase")
        assert "state-lost" in {concern.name for concern in plan.concerns if concern.level == "refuse"}
        assert any("the managed save of remembers" in concern.what for concern in plan.concerns)
    finally:
        if guest.handle.domain.hasManagedSaveImage():
            guest.handle.domain.managedSaveRemove()
        discard(guest)
