"""Records and files that do not agree, and how they are put right."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from support.forests import forest, image
from support.readings import reading
from support.snapshots import WHEN, domain, drifted, world

from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.snapshot.record_xml import moved_xml, record_xml
from vmsnap_nb.plans.snapshot.request import ReconcileRequest

DEFINITION = """<domain type='qemu'><name>demo</name><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
<source file='/i/top.qcow2'/><target dev='vda'/></disk>
</devices></domain>"""


def test_reconcile_forgets_and_adopts_and_touches_no_file() -> None:
    guest, tree = drifted()
    gone = frozenset({"/i/top.d.qcow2", "/i/d.mem"})
    made = ReconcileRequest().plan(reading(tree, guest, gone=gone))
    assert [(step.action, step.name) for step in made.steps] == [  # type: ignore[attr-defined]
        ("remove record", "b"),
        ("remove record", "d"),
        ("write record", "ram"),
        ("write record", "wild"),
    ]
    assert made.creates == made.writes == made.unlinks == ()
    after = list_snapshots(guest, made.after, gone=gone)
    assert {s.status for s in after} == {"ok"}
    assert after["c"].record.parent == "a"
    assert after.current is not None
    assert after.current.name == "c"
    assert [c.level for c in made.concerns] == ["warn"]
    again = ReconcileRequest().plan(reading(made.after, guest, gone=gone))
    assert again.steps == ()
    adopted = ET.fromstring(record_xml(next(one for one in made.after.records if one.name == "wild"), DEFINITION))
    assert adopted.findtext("creationTime") == str(int(WHEN.timestamp()))
    # The record names the image that the snapshot is inside of.
    source = adopted.find("domain/devices/disk/source")
    assert source is not None
    assert source.get("file") == "/i/top.c.qcow2"


def test_the_record_of_a_deletion_that_was_interrupted_between_two_disks_is_kept() -> None:
    """Nothing else says that the layers of the other disk are those of a snapshot, and that it is to be deleted."""
    guest = Domain("demo", "u", disks=(Disk("vda", "/i/a.s", "qcow2"), Disk("vdb", "/i/b.s", "qcow2")))
    disks = tuple(SnapshotDisk(f"vd{name}", "external", f"/i/{name}", f"/i/{name}.s") for name in "ab")
    one, two = image("b", "/i/base"), image("b.s", "/i/base")  # of vdb all was pulled, and its lower layer may be gone
    for rest in ((one, two), (two,)):
        tree = forest(image("base"), image("a", "base"), image("a.s", "a"), *rest, uses=guest.uses)
        tree = tree.edited(records=[SnapshotRecord("demo", "s", disks=disks)])
        plan = ReconcileRequest().plan(reading(tree, guest, gone=frozenset({"/i/b"} - tree.images.keys())))
        assert plan.steps == ()
        [concern] = plan.concerns
        assert (concern.name, concern.level) == ("state-lost", "note")
        assert "vda" in concern.what
        assert concern.remedy == "to delete it completely, run guest.delete_snapshot('s')"
    over = tree.edited(put=[image("a.s", "/i/base")])
    assert [step.action for step in ReconcileRequest().plan(reading(over, guest)).steps] == ["remove record"]


def test_a_name_that_libvirt_cannot_have_is_not_adopted() -> None:
    guest = domain()
    made = ReconcileRequest().plan(reading(world(guest, tags=("a/b",)), guest))
    assert made.steps == ()
    assert [(c.name, c.level) for c in made.concerns] == [("not-supported", "note")]


def test_a_record_names_an_image_in_its_format() -> None:
    def disk(target: str, path: str, *inside: str) -> str:
        return f"<disk type='file'><source file='{path}'/><target dev='{target}'/>{''.join(inside)}</disk>"

    def driver(format: str) -> str:
        return f"<driver name='qemu' type='{format}' cache='none'/>"

    below = "<backingStore type='file'><format type='qcow2'/><source file='/i/low'/></backingStore>"
    disks = disk("vda", "/i/top", driver("qcow2"), below) + disk("vdb", "/i/other", driver("qcow2"), below)
    alone = disk("vda", "/i/top")  # without a driver it is raw
    domain = f"<domain><devices>{disks}</devices></domain>"
    later = f"<inactiveDomain><devices>{alone}</devices></inactiveDomain>"
    for format in ("raw", "qcow2"):
        record = ET.fromstring(
            moved_xml(f"<domainsnapshot>{domain}{later}</domainsnapshot>", "/i/top", "/i/low", format=format)
        )
        named = [
            (disk.find("source").get("file"), disk.find("driver").attrib, disk.find("backingStore") is not None)  # type: ignore[union-attr]
            for disk in record.iter("disk")
        ]
        assert named == [
            ("/i/low", {"name": "qemu", "type": format, "cache": "none"}, False),
            ("/i/other", {"name": "qemu", "type": "qcow2", "cache": "none"}, True),
            ("/i/low", {"type": format}, False),
        ]
