"""Exercises on the states of a guest: revert, delete, export, checkpoints and saved memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vmsnap_nb.lab.alpine import copy_checked, find_alpine
from vmsnap_nb.lab.exercises.aims import (
    alone,
    disk_of,
    reads_as_noted,
    recorded,
    runs_on,
    source,
    there,
    unchanged,
    writes_above,
)
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage
from vmsnap_nb.views.labels import state_text
from vmsnap_nb.words.message import N_, joined, t

__all__ = ["STATES"]


def _revert_internal(stage: Stage) -> None:
    stage.images(("Notes", ""))
    stage.note("Notes")
    stage.define("notes", "Notes").snapshot("good", kind="internal-disk").run(progress=False)
    stage.write("Notes", 1, at=0)  # what must be undone


def _revert_internal_aims(seen: Seen) -> Iterator[Aim]:
    yield reads_as_noted(seen, "Notes", t("Notes reads the data of the snapshot 'good'"))
    kept, _ = recorded(seen, "notes", "good")
    yield Aim(kept.what, kept.met, kept.seen, kept=True)
    yield source(seen, "notes", "vda", "Notes")


def _revert_external(stage: Stage) -> None:
    stage.images(("Shop", ""))
    guest = stage.define("shop2", "Shop")
    guest.snapshot("clean", kind="external-disk", disks={"vda": stage.path("Later")}).run(progress=False)
    stage.write("Later", 1, at=3)
    stage.note("Shop", "Later")


def _revert_external_aims(seen: Seen) -> Iterator[Aim]:
    disk = disk_of(seen, "shop2", "vda")
    lineage = seen.forest.known_lineage(disk.source) if disk and disk.source else ()
    found = t("its chain is {chain}", chain=seen.row(lineage[0])) if lineage else t("it has no chain")
    on_it = len(lineage) == 2 and lineage[1] == seen.path("Shop")
    what = t("the guest writes to a new overlay that is based directly on Shop")
    yield Aim(what, on_it and lineage[0] != seen.path("Later"), found)
    yield from unchanged(seen, "Shop", "Later")


def _delete_external(stage: Stage) -> None:
    stage.images(("Mail", ""))
    guest = stage.define("mail2", "Mail")
    for name in ("old", "new"):
        guest.snapshot(name, kind="external-disk", disks={"vda": stage.path(f"Mail-{name}")}).run(progress=False)
        stage.write(f"Mail-{name}", 1, at=3)
    stage.note("Mail-new")


def _delete_external_aims(seen: Seen) -> Iterator[Aim]:
    rows = [row.name for row in seen.snapshots.get("mail2") or () if row.status != "untracked"]
    disk = disk_of(seen, "mail2", "vda")
    lineage = seen.forest.known_lineage(disk.source) if disk and disk.source else ()
    gone = t("libvirt has these snapshots of {guest}: {names}", guest="mail2", names=joined(rows))
    if disk is None:
        gone = t("the guest {guest} no longer exists", guest="mail2")
    yield Aim(t("libvirt has no record of the snapshot 'old'"), disk is not None and "old" not in rows, gone)
    chain = t("its chain is {chain}", chain=seen.row(lineage[0])) if lineage else t("it has no chain")
    yield Aim(t("the chain of mail2 has two images"), len(lineage) == 2, chain)
    kept, row = recorded(seen, "mail2", "new")
    yield Aim(kept.what, kept.met, kept.seen, kept=True)
    agrees = t("the record of the snapshot '{name}' matches the files", name="new")
    yield Aim(agrees, row is not None and row.status == "ok", row.problem if row else kept.seen, kept=True)
    yield source(seen, "mail2", "vda", "Mail-new")
    yield from unchanged(seen, "Mail-new")


def _export_internal(stage: Stage) -> None:
    stage.images(("Archive-1", ""))
    stage.note_as("monday", "Archive-1")
    stage.run("qemu-img", "snapshot", "-c", "monday", stage.path("Archive-1"))
    stage.write("Archive-1", 1, at=0)
    stage.note("Archive-1")


def _export_internal_aims(seen: Seen) -> Iterator[Aim]:
    yield there(seen, "monday")
    yield reads_as_noted(seen, "monday", t("monday reads the data of the snapshot 'monday'"))
    yield alone(seen, "monday")
    first = seen.image("Archive-1")
    names = [inside.name for inside in first.snapshots] if first else []
    lost = t("Archive-1 no longer contains the snapshot 'monday'")
    yield Aim(t("Archive-1 still contains the snapshot 'monday'"), "monday" in names, lost, kept=True)
    yield from unchanged(seen, "Archive-1")


def _checkpoint(stage: Stage) -> None:
    stage.images(("Solver", ""))
    stage.note("Solver")
    stage.define("solver", "Solver").start()


def _checkpoint_aims(seen: Seen) -> Iterator[Aim]:
    aim, found = recorded(seen, "solver", "ready")
    yield aim
    saw = t("its kind is {kind}", kind=found.kind) if found else t("there is no such record")
    what = t("it includes the memory and an external snapshot of the disk")
    yield Aim(what, found is not None and found.kind == "external-checkpoint", saw)
    yield writes_above(seen, "solver", "vda", "Solver")
    yield runs_on(seen, "solver")
    yield from unchanged(seen, "Solver") if found else ()


def _saved_state(stage: Stage) -> None:
    stage.images(("Sleeper", ""))
    stage.define("sleeper", "Sleeper").start()


def _saved_state_aims(seen: Seen) -> Iterator[Aim]:
    domain = seen.domains.get("sleeper")
    found = t("the guest {guest} no longer exists", guest="sleeper")
    if domain is not None:
        found = t("the state of {guest} is: {state}", guest="sleeper", state=state_text(domain.state))
    saved = domain is not None and domain.state == "saved"
    yield Aim(t("sleeper is off, and will resume from its saved memory at the next start"), saved, found)
    yield source(seen, "sleeper", "vda", "Sleeper")


def _one_moment(stage: Stage) -> None:
    stage.images(("Tables", ""), ("Log", ""))
    stage.define("database", "Tables", "Log").start()


def _one_moment_aims(seen: Seen) -> Iterator[Aim]:
    aim, found = recorded(seen, "database", "moment")
    yield aim
    held = {disk.target: disk.held for disk in found.record.disks} if found else {}
    for target in ("vda", "vdb"):
        what = t("the snapshot 'moment' includes an external snapshot of {disk}", disk=target)
        saw = t("{disk} is not included", disk=target) if found else t("there is no such record")
        yield Aim(what, held.get(target) == "external", saw)
    for target, image in (("vda", "Tables"), ("vdb", "Log")):
        yield writes_above(seen, "database", target, image)
    yield runs_on(seen, "database")


def _quiesced(stage: Stage) -> None:
    stage.folder.mkdir(parents=True)
    base, top = stage.path("RootBase"), stage.path("Bank")
    copy_checked(find_alpine().disk, Path(base))
    stage.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
    stage.define("bank", "Bank", boots=True).start(wait=False)


def _quiesced_aims(seen: Seen) -> Iterator[Aim]:
    aim, _ = recorded(seen, "bank", "safe")
    yield aim
    above = writes_above(seen, "bank", "vda", "Bank")
    yield above
    image, clean = seen.image("Bank"), False
    saw = t("the guest still writes to Bank")
    if image is not None and above.met and seen.begins is not None:
        clean = _is_clean(seen.begins(image))
        saw = t("the file system in Bank must be recovered when it is mounted")
    yield Aim(t("the file system in Bank was frozen when the snapshot was created"), clean, saw)
    yield runs_on(seen, "bank")


# The superblock of ext4: https://docs.kernel.org/filesystems/ext4/globals.html
_MAGIC, _FEATURES, _TO_RECOVER = 1024 + 0x38, 1024 + 0x60, 0x4


def _is_clean(begin: bytes) -> bool:
    """Return whether a disk that begins so has an ext4 that needs no recovery: freezing it empties its journal."""
    magic = begin[_MAGIC : _MAGIC + 2] == b"\x53\xef"
    return magic and not int.from_bytes(begin[_FEATURES : _FEATURES + 4], "little") & _TO_RECOVER


STATES = (
    Exercise(
        name="revert-internal",
        title=N_("Revert and discard"),
        topic="snapshots",
        level="easy",
        task=N_(
            "The guest `notes` is shut off. After the internal snapshot `good` was created, the disk was "
            "overwritten by mistake. Revert to `good`; data written since then is not needed. The snapshot "
            "must still exist afterwards."
        ),
        build=_revert_internal,
        aims=_revert_internal_aims,
        guests=("notes",),
    ),
    Exercise(
        name="revert-external",
        title=N_("Revert and keep the current state"),
        topic="snapshots",
        level="medium",
        task=N_(
            "The guest `shop2` is shut off, and has written to Later.qcow2 since its external snapshot `clean`. "
            "Revert to `clean`, but lose nothing: neither Shop.qcow2 nor Later.qcow2 may change."
        ),
        build=_revert_external,
        aims=_revert_external_aims,
        guests=("shop2",),
    ),
    Exercise(
        name="delete-external",
        title=N_("Delete an external snapshot"),
        topic="snapshots",
        level="medium",
        task=N_(
            "The guest `mail2` is shut off. Delete its external snapshot `old`, so that its chain has two images. The "
            "guest must read the same data, write to the same file Mail-new.qcow2, and keep the snapshot `new`."
        ),
        build=_delete_external,
        aims=_delete_external_aims,
        guests=("mail2",),
    ),
    Exercise(
        name="export-internal",
        title=N_("Export an internal snapshot"),
        topic="snapshots",
        level="medium",
        task=N_(
            "Archive-1.qcow2 contains the internal snapshot `monday`. Create monday.qcow2 with the disk "
            "content of that snapshot. monday.qcow2 must not depend on any other file, and Archive-1 must not "
            "change."
        ),
        build=_export_internal,
        aims=_export_internal_aims,
    ),
    Exercise(
        name="checkpoint",
        title=N_("A checkpoint with memory"),
        topic="snapshots",
        level="medium",
        task=N_(
            "The guest `solver` is running. Create a snapshot `ready` that includes its memory, after which nothing "
            "is written to Solver.qcow2. The guest must keep running."
        ),
        build=_checkpoint,
        aims=_checkpoint_aims,
        guests=("solver",),
    ),
    Exercise(
        name="saved-state",
        title=N_("Save a guest before the host restarts"),
        topic="snapshots",
        level="easy",
        task=N_(
            "The host must restart. Save the running guest `sleeper`, so that it is off now and, at its "
            "next start, continues where it left off."
        ),
        build=_saved_state,
        aims=_saved_state_aims,
        guests=("sleeper",),
    ),
    Exercise(
        name="one-moment",
        title=N_("Two disks, one moment"),
        topic="snapshots",
        level="medium",
        task=N_(
            "The guest `database` is running. Its tables are on vda and their log on vdb. Create one external "
            "snapshot `moment` that holds the state of both disks at the same moment. The guest must keep running."
        ),
        build=_one_moment,
        aims=_one_moment_aims,
        guests=("database",),
    ),
    Exercise(
        name="quiesced",
        title=N_("A snapshot that needs no recovery"),
        topic="snapshots",
        level="medium",
        task=N_(
            "The guest `bank` is running and writes to Bank.qcow2. Create an external snapshot `safe` of its disk. "
            "The file system in it must need no recovery when it is mounted: have the guest freeze it during the "
            "snapshot. The guest must keep running. Its agent responds once the guest has booted."
        ),
        build=_quiesced,
        aims=_quiesced_aims,
        guests=("bank",),
    ),
)
