"""What a snapshot, and memory alone, ask to be read."""

from __future__ import annotations

from support.forests import forest, image
from support.snapshots import UUID, VDA, domain

from vmsnap_nb.model.guest import Disk, Use
from vmsnap_nb.plans.save.request import RestoreRequest, SaveRequest
from vmsnap_nb.plans.snapshot.request import SnapshotRequest
from vmsnap_nb.plans.step import GuestRef


def test_what_must_be_read_are_folders_and_files_that_are_named() -> None:
    guest = domain("running", VDA, Disk("vdb", "/j/data.img", "raw"), Disk("vdc", "nbd://h/x", "raw"))
    other = (Use("other", "vda", "/o/other.qcow2"),)
    before = forest(image("top.qcow2"), uses=(*guest.uses, *other))
    request = SnapshotRequest(
        guest=GuestRef("demo", UUID, ""), disks={"vda": "/k/a.qcow2", "vdb": "b"}, memory_file="/m/a.mem", quiesce=True
    )
    needs = request.needs(before)
    assert needs.places == request.files == ("/k/a.qcow2", "/m/a.mem")
    assert needs.listed == ("/i", "/j", "/k", "/m")
    assert needs.agent
    assert RestoreRequest(path="/i/f").needs(before).saved == "/i/f"
    assert SaveRequest(path="/i/f").needs(before).places == ("/i/f",)
