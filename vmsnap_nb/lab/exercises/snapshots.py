"""Exercises on snapshots and on guests."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.lab.alpine import copy_checked, find_alpine
from vmsnap_nb.lab.exercises.aims import disk_of, protected, runs, runs_on, stands_on, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage
from vmsnap_nb.model.snapshot import Snapshot

__all__ = ["SNAPSHOTS"]


def _recorded(seen: Seen, guest: str, name: str) -> tuple[Aim, Snapshot | None]:
    """Give the aim that libvirt has a record of a snapshot, and the snapshot if so."""
    rows = seen.snapshots.get(guest) or ()
    found = next((row for row in rows if row.name == name and row.status != "untracked"), None)
    names = ", ".join(row.name for row in rows if row.status != "untracked")
    missing = f"libvirt's records of {guest} are: {names}" if names else f"libvirt has no record of {guest}"
    return Aim(f"libvirt has a record of the snapshot {name}", found is not None, missing), found


def _source(seen: Seen, guest: str, target: str, image: str, *, kept: bool = True) -> Aim:
    """Give the aim that a disk of a guest writes to an image."""
    disk = disk_of(seen, guest, target)
    where = seen.call(disk.source) if disk and disk.source else "nothing"
    return Aim(f"{guest} writes {target} to {image}", where == image, f"it writes to {where}", kept)


def _writes_above(seen: Seen, guest: str, target: str, image: str) -> Aim:
    """Give the aim that a disk of a guest writes to an overlay somewhere above an image."""
    disk = disk_of(seen, guest, target)
    lineage = seen.forest.lineage(disk.source) if disk and disk.source else ()
    found = f"its chain is {seen.row(lineage[0])}" if lineage else f"there is no disk {target} of {guest}"
    return Aim(f"{guest} writes {target} to an overlay above {image}", seen.path(image) in lineage[1:], found)


def _one_disk(stage: Stage) -> None:
    stage.images(("System", ""), ("Data", ""))
    stage.define("accounts", "System", "Data")
    stage.note("System", "Data")


def _one_disk_aims(seen: Seen) -> Iterator[Aim]:
    aim, found = _recorded(seen, "accounts", "before-update")
    yield aim
    held = {disk.target: disk.held for disk in found.record.disks} if found else {}
    for target, wanted in (("vda", "external"), ("vdb", "no")):
        words = "leaves vdb out" if wanted == "no" else f"holds {target} outside of its image"
        got = {"no": "left out", "internal": "held inside of its image", "external": "held outside of its image"}
        saw = f"{target} is {got[held[target]]}" if target in held else "there is no such record"
        yield Aim(f"before-update {words}", held.get(target) == wanted, saw)
    yield _writes_above(seen, "accounts", "vda", "System")
    yield _source(seen, "accounts", "vdb", "Data")
    yield from unchanged(seen, "System", "Data")


def _inside_and_outside(stage: Stage) -> None:
    stage.images(("Ledger", ""))
    stage.define("ledger", "Ledger")
    stage.note("Ledger")


def _inside_and_outside_aims(seen: Seen) -> Iterator[Aim]:
    for name, kind in (("inside", "internal-disk"), ("outside", "external-disk")):
        aim, found = _recorded(seen, "ledger", name)
        yield aim
        saw = f"it is an {found.kind} snapshot" if found else "there is no such record"
        yield Aim(f"{name} is an {kind} snapshot", found is not None and found.kind == kind, saw)
    image = seen.image("Ledger")
    names = [inside.name for inside in image.snapshots] if image else []
    yield Aim(
        "inside is inside of Ledger", "inside" in names, f"inside of Ledger there is: {', '.join(names) or 'none'}"
    )
    yield _writes_above(seen, "ledger", "vda", "Ledger")
    yield from unchanged(seen, "Ledger")


def _stale_records(stage: Stage) -> None:
    stage.images(("Archive", ""))
    guest = stage.define("archive", "Archive")
    for day in ("monday", "tuesday", "wednesday"):
        overlay = {"vda": stage.path(day)}
        guest.snapshot(day, kind="external-disk", disks=overlay).run(progress=False)
    stage.run("qemu-img", "snapshot", "-c", "by-hand", stage.path("wednesday"))
    # What somebody did with qemu-img alone: monday's overlay is merged down, and its file removed.
    stage.run("qemu-img", "commit", "-q", "-d", stage.path("monday"))
    stage.repoint("tuesday", "Archive")
    stage.run("rm", stage.path("monday"))
    stage.note("Archive", "wednesday")


def _stale_records_aims(seen: Seen) -> Iterator[Aim]:
    rows = seen.snapshots.get("archive") or ()
    wrong = [row for row in rows if row.status in ("stale", "missing-file")]
    yield Aim("every record agrees with the files", not wrong, f"{len(wrong)} of {len(rows)} snapshots do not")
    aim, _ = _recorded(seen, "archive", "by-hand")
    yield aim
    kept, _ = _recorded(seen, "archive", "wednesday")
    yield Aim(kept.what, kept.met, kept.seen, kept=True)
    image = seen.image("wednesday")
    inside = image is not None and "by-hand" in [one.name for one in image.snapshots]
    yield Aim("by-hand is still inside of wednesday", inside, "there is no such snapshot inside any more", kept=True)
    yield _source(seen, "archive", "vda", "wednesday")
    yield from unchanged(seen, "Archive", "wednesday")


def _wrote_to_base(stage: Stage) -> None:
    stage.images(("Golden", ""), ("Shop", "Golden"), ("Blog", "Golden"))
    for name, image in (("shop", "Shop"), ("blog", "Blog"), ("tester", "Golden")):
        stage.define(name, image)
    stage.note("Golden", "Shop", "Blog")


def _wrote_to_base_aims(seen: Seen) -> Iterator[Aim]:
    writers = [use.guest for use in seen.forest.writers(seen.path("Golden"))]
    yield Aim("no guest has Golden as its disk", not writers, f"{', '.join(writers)} would write to Golden")
    yield _writes_above(seen, "tester", "vda", "Golden")
    disk = disk_of(seen, "tester", "vda")
    shared = [use.guest for use in seen.forest.writers(disk.source)] if disk and disk.source else []
    yield Aim(
        "tester has its image alone", shared == ["tester"], f"it belongs to: {', '.join(shared) or 'nobody'}", True
    )
    yield protected(seen, "Golden")
    for guest, image in (("shop", "Shop"), ("blog", "Blog")):
        yield _source(seen, guest, "vda", image)
        yield stands_on(seen, image, "Golden", kept=True)
    yield from unchanged(seen, "Golden", "Shop", "Blog")


def _second_guest(stage: Stage) -> None:
    stage.folder.mkdir(parents=True)
    copy_checked(find_alpine().disk, stage.folder / "RootBase.qcow2")
    for name, base in (("Overlay-1", "RootBase"), ("Overlay-1A", "Overlay-1")):
        stage.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", stage.path(base), stage.path(name))
    stage.define("reader", "Overlay-1A", boots=True)
    stage.define("writer", "Overlay-1", boots=True).start(wait=False)


def _second_guest_aims(seen: Seen) -> Iterator[Aim]:
    yield runs(seen, "reader")
    yield runs_on(seen, "writer")
    for guest in ("reader", "writer"):
        aim = _writes_above(seen, guest, "vda", "Overlay-1")
        yield Aim(aim.what, aim.met, aim.seen, kept=guest == "reader")


SNAPSHOTS = (
    Exercise(
        "one-disk",
        "A snapshot of one disk",
        "snapshots",
        "medium",
        "The guest accounts has two disks, and is off. Its system, vda, will be updated. Take a snapshot called "
        "before-update which keeps vda outside of its image: what is written from now on goes to a new file. vdb is to "
        "have no part in it.",
        _one_disk,
        _one_disk_aims,
        guests=("accounts",),
    ),
    Exercise(
        "inside-and-outside",
        "Inside and outside",
        "snapshots",
        "medium",
        "The guest ledger is off. Keep its disk as it is now in two ways: a snapshot called inside, within the file "
        "Ledger.qcow2, and one called outside, after which Ledger.qcow2 is not written to any more.",
        _inside_and_outside,
        _inside_and_outside_aims,
        guests=("ledger",),
    ),
    Exercise(
        "stale-records",
        "Records that no longer fit",
        "snapshots",
        "hard",
        "The guest archive is off. Somebody has worked on its images with qemu-img alone, so that libvirt's records of "
        "its snapshots no longer say what the files hold. Put the records right: each is to agree with the files, "
        "every snapshot that the files hold is to have one, and no image is to change.",
        _stale_records,
        _stale_records_aims,
        guests=("archive",),
    ),
    Exercise(
        "wrote-to-base",
        "The guest that writes to the base",
        "snapshots",
        "hard",
        "The guests shop and blog stand on Golden.qcow2. A third one, tester, was set up with Golden.qcow2 itself as "
        "its disk; luckily it is off still. See to it that tester begins with the same content and nothing is ever "
        "written to Golden, which is to be protected; shop and blog stay as they are.",
        _wrote_to_base,
        _wrote_to_base_aims,
        guests=("blog", "shop", "tester"),
    ),
    Exercise(
        "second-guest",
        "Two guests on one overlay",
        "snapshots",
        "hard",
        "The guest writer runs, and writes to Overlay-1.qcow2. The guest reader, whose image Overlay-1A.qcow2 stands "
        "on that, does not start. Both are to run at the same time; writer must not be shut off for it, and reader is "
        "to see what writer has written so far.",
        _second_guest,
        _second_guest_aims,
        guests=("reader", "writer"),
    ),
)
