"""Exercises on snapshots and on guests."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.lab.alpine import copy_checked, find_alpine
from vmsnap_nb.lab.exercises.aims import (
    disk_of,
    protected,
    recorded,
    runs,
    runs_on,
    source,
    stands_on,
    unchanged,
    writes_above,
)
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage
from vmsnap_nb.words.message import N_, joined, t

__all__ = ["SNAPSHOTS"]

_HELD = {
    "no": N_("{disk} is not included"),
    "internal": N_("the snapshot of {disk} is internal"),
    "external": N_("the snapshot of {disk} is external"),
}


def _one_disk(stage: Stage) -> None:
    stage.images(("System", ""), ("Data", ""))
    stage.define("accounts", "System", "Data")
    stage.note("System", "Data")


def _one_disk_aims(seen: Seen) -> Iterator[Aim]:
    aim, found = recorded(seen, "accounts", "before-update")
    yield aim
    held = {disk.target: disk.held for disk in found.record.disks} if found else {}
    for target, wanted, what in (
        ("vda", "external", t("before-update has an external snapshot of {disk}", disk="vda")),
        ("vdb", "no", t("before-update does not include {disk}", disk="vdb")),
    ):
        saw = t(_HELD[held[target]], disk=target) if target in held else t("there is no such record")
        yield Aim(what, held.get(target) == wanted, saw)
    yield writes_above(seen, "accounts", "vda", "System")
    yield source(seen, "accounts", "vdb", "Data")
    yield from unchanged(seen, "System", "Data")


def _inside_and_outside(stage: Stage) -> None:
    stage.images(("Ledger", ""))
    stage.define("ledger", "Ledger")
    stage.note("Ledger")


def _inside_and_outside_aims(seen: Seen) -> Iterator[Aim]:
    for name, kind in (("inside", "internal-disk"), ("outside", "external-disk")):
        aim, found = recorded(seen, "ledger", name)
        yield aim
        saw = t("its kind is {kind}", kind=found.kind) if found else t("there is no such record")
        what = t("the kind of {name} is {kind}", name=name, kind=kind)
        yield Aim(what, found is not None and found.kind == kind, saw)
    image = seen.image("Ledger")
    names = [inside.name for inside in image.snapshots] if image else []
    contained = t("Ledger contains no internal snapshots")
    if names:
        contained = t("Ledger contains these internal snapshots: {names}", names=joined(names))
    yield Aim(t("Ledger contains the internal snapshot 'inside'"), "inside" in names, contained)
    yield writes_above(seen, "ledger", "vda", "Ledger")
    yield from unchanged(seen, "Ledger")


def _stale_records(stage: Stage) -> None:
    stage.images(("Archive", ""))
    guest = stage.define("archive", "Archive")
    for day in ("monday", "tuesday", "wednesday"):
        overlay = {"vda": stage.path(day)}
        guest.snapshot(day, kind="external-disk", disks=overlay).run(progress=False)
    stage.run("qemu-img", "snapshot", "-c", "by-hand", stage.path("wednesday"))
    # The work with qemu-img alone: monday's overlay is merged down, and its file removed.
    stage.run("qemu-img", "commit", "-q", "-d", stage.path("monday"))
    stage.repoint("tuesday", "Archive")
    stage.run("rm", stage.path("monday"))
    stage.note("Archive", "wednesday")


def _stale_records_aims(seen: Seen) -> Iterator[Aim]:
    rows = seen.snapshots.get("archive") or ()
    wrong = [row for row in rows if row.status in ("stale", "missing-file")]
    found = t("{count} of {total} snapshots do not", count=len(wrong), total=len(rows))
    yield Aim(t("every record matches the files"), not wrong, found)
    aim, _ = recorded(seen, "archive", "by-hand")
    yield aim
    kept, _ = recorded(seen, "archive", "wednesday")
    yield Aim(kept.what, kept.met, kept.seen, kept=True)
    image = seen.image("wednesday")
    inside = image is not None and "by-hand" in [snapshot.name for snapshot in image.snapshots]
    gone = t("wednesday no longer contains it")
    yield Aim(t("wednesday still contains the internal snapshot 'by-hand'"), inside, gone, kept=True)
    yield source(seen, "archive", "vda", "wednesday")
    yield from unchanged(seen, "Archive", "wednesday")


def _wrote_to_base(stage: Stage) -> None:
    stage.images(("Golden", ""), ("Shop", "Golden"), ("Blog", "Golden"))
    for name, image in (("shop", "Shop"), ("blog", "Blog"), ("tester", "Golden")):
        stage.define(name, image)
    stage.note("Golden", "Shop", "Blog")


def _wrote_to_base_aims(seen: Seen) -> Iterator[Aim]:
    writers = [use.guest for use in seen.forest.known_writers(seen.path("Golden"))]
    found = t("these guests would write to Golden: {guests}", guests=joined(writers))
    yield Aim(t("no guest has Golden as its disk"), not writers, found)
    yield writes_above(seen, "tester", "vda", "Golden")
    disk = disk_of(seen, "tester", "vda")
    shared = [use.guest for use in seen.forest.known_writers(disk.source)] if disk and disk.source else []
    users = t("its image is the disk of: {guests}", guests=joined(shared)) if shared else t("it has no image")
    yield Aim(t("no other guest uses the image of tester"), shared == ["tester"], users, True)
    yield protected(seen, "Golden")
    for guest, image in (("shop", "Shop"), ("blog", "Blog")):
        yield source(seen, guest, "vda", image)
        yield stands_on(seen, image, "Golden", kept=True)
    yield from unchanged(seen, "Golden", "Shop", "Blog")


def _second_guest(stage: Stage) -> None:
    stage.folder.mkdir(parents=True)
    copy_checked(find_alpine().disk, stage.folder / "RootBase.qcow2")
    for name, base in (("Overlay-1", "RootBase"), ("Overlay-1A", "Overlay-1")):
        stage.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", stage.path(base), stage.path(name))
    stage.define("reader", "Overlay-1A", boots=True)
    stage.define("writer", "Overlay-1", boots=True).start(wait=False, force=True)


def _second_guest_aims(seen: Seen) -> Iterator[Aim]:
    yield runs(seen, "reader")
    yield runs_on(seen, "writer")
    for guest in ("reader", "writer"):
        aim = writes_above(seen, guest, "vda", "Overlay-1")
        yield Aim(aim.what, aim.met, aim.seen, kept=guest == "reader")


SNAPSHOTS = (
    Exercise(
        name="one-disk",
        title=N_("A snapshot of one disk"),
        topic="snapshots",
        level="medium",
        task=N_(
            "The guest `accounts` is shut off. It has two disks, and its system disk vda will be updated. Create an "
            "external snapshot `before-update` of vda, so that further writes go to a new file. The snapshot must not "
            "include vdb."
        ),
        build=_one_disk,
        aims=_one_disk_aims,
        guests=("accounts",),
    ),
    Exercise(
        name="inside-and-outside",
        title=N_("Internal and external"),
        topic="snapshots",
        level="medium",
        task=N_(
            "The guest `ledger` is shut off. Keep the current state of its disk in two ways. Create "
            "an internal snapshot `inside` in the file Ledger.qcow2, and an external snapshot "
            "`outside`. Afterwards, nothing may be written to Ledger.qcow2."
        ),
        build=_inside_and_outside,
        aims=_inside_and_outside_aims,
        guests=("ledger",),
    ),
    Exercise(
        name="stale-records",
        title=N_("Stale records"),
        topic="snapshots",
        level="hard",
        task=N_(
            "The guest `archive` is shut off. Its images were changed with qemu-img alone, so that libvirt's "
            "snapshot records no longer match the files. Correct the records: each must match the files, every "
            "snapshot in the files must have a record, and no image must change."
        ),
        build=_stale_records,
        aims=_stale_records_aims,
        guests=("archive",),
    ),
    Exercise(
        name="wrote-to-base",
        title=N_("A guest that would write to the base"),
        topic="snapshots",
        level="hard",
        task=N_(
            "The disks of the guests `shop` and `blog` are based on Golden.qcow2. The disk of a third guest, "
            "`tester`, is Golden.qcow2 itself; `tester` is still shut off. Change `tester` so that it starts with the "
            "same content but never writes to Golden. Write-protect Golden, and leave `shop` and `blog` as they are."
        ),
        build=_wrote_to_base,
        aims=_wrote_to_base_aims,
        guests=("blog", "shop", "tester"),
    ),
    Exercise(
        name="second-guest",
        title=N_("Two guests on one overlay"),
        topic="snapshots",
        level="hard",
        task=N_(
            "The guest `writer` is running and writes to Overlay-1.qcow2. The guest `reader`, whose image "
            "Overlay-1A.qcow2 is based on it, does not start. Make both run at the same time. Do not shut `writer` "
            "down, and let `reader` see what `writer` has written so far."
        ),
        build=_second_guest,
        aims=_second_guest_aims,
        guests=("reader", "writer"),
    ),
)
