"""Images that stay when snapshots are deleted, although nothing needs them any more, are named."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.guests import attach, discard

from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.guest


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    """Return a guest with two disks, and a snapshot from which it went on twice."""
    guest = lab.guest("left", backing=base, boot="disk")
    attach(guest, ("vdb", Path(guest.chain().top).parent / "left-b.qcow2", "qcow2", "disk"))
    for name in ("first", "one"):
        guest.snapshot(name, kind="external-disk").run(progress=False)
    guest.revert("first", keep_current=False).run(progress=False)
    guest.snapshot("two", kind="external-disk").run(progress=False)
    yield guest
    discard(guest)


def detach(guest: Guest, target: str) -> None:
    root = ET.fromstring(guest.handle.definition())
    devices = root.find("devices")
    disk = root.find(f"devices/disk/target[@dev='{target}']/..")
    assert devices is not None
    assert disk is not None
    devices.remove(disk)
    guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))


def test_after_the_last_snapshot_nothing_stays_unnamed(lab: Lab, guest: Guest) -> None:
    detach(guest, "vdb")  # the snapshot with several children holds a disk that the guest has no longer
    named: set[str] = set()
    for name in ("first", "one", "two"):
        plan = guest.delete_snapshot(name)
        remarks = [concern for concern in plan.concerns if "that were read needs it any more" in concern.what]
        named |= {path for concern in remarks for path in concern.images}
        report = plan.run(progress=False)
        assert report.as_predicted, report.differences
        for concern in remarks:
            line = concern.remedy.partition(": ")[2]
            if concern.images[0].endswith("left.first.qcow2"):
                subprocess.run(line, shell=True, check=True)
    frame = lab.survey().to_frame()
    left = set(frame[frame.needed_by.isna() & frame.image.str.startswith("left")].index)
    assert left <= named, "all that nothing needs was named when it came to that"
    assert [image.name for image in guest.chain()][-1].startswith("left")
    assert guest.start(wait=False).running
