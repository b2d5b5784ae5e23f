"""The last exercise: a host with forty images after a bad week, and a queue of tickets.

Nothing has to boot. The check looks at the final state of all images, records and definitions together.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from vmsnap_nb.lab.exercises.aims import (
    answered,
    protected,
    reads_as_before,
    says_format,
    source,
    stands_on,
    unchanged,
)
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage, layers_on
from vmsnap_nb.words.message import N_, joined, t

__all__ = ["CAPSTONE"]

_WEB = ("web-1", "web-2", "web-3")
_DAYS = tuple(f"wiki-{day}" for day in range(1, 9))
_CLASS = tuple(f"class-{number}" for number in range(1, 9))
_COPIES = ("backup/copy-1", "backup/copy-2", "backup/copy-3")
_UNUSED = ("old-1", "old-2")
_REPORT_WORDS = ("report-1", "report-2", "report-3", "report-base")
_MOST = 3
"""Images that the chain of the wiki may have."""


def _build(stage: Stage) -> None:
    web = (("web-base", ""), *((name, "web-base") for name in _WEB))
    stage.images(*web, *((f"mail-{number}", f"mail-{number - 1}" * (number > 0)) for number in range(3)), mebibytes=8)
    stage.images(("db-0", ""), *layers_on("db-0", "db-1", "db-2", "db-3"), mebibytes=5)
    stage.images(("wiki-0", ""), *layers_on("wiki-0", *_DAYS), mebibytes=10)
    stage.images(("golden", ""), *((name, "golden") for name in _CLASS), mebibytes=10)
    stage.images(("crm", ""), ("shop-base", ""), ("shop", "shop-base"), *((name, "") for name in _UNUSED), mebibytes=6)
    stage.images(("report-base", ""), *layers_on("report-base", "report-1", "report-2", "report-3"), mebibytes=5)
    guest = stage.define("crm", "crm")
    guest.snapshot("friday", kind="external-disk", disks={"vda": stage.path("crm-friday")}).run(progress=False)
    for name, image in (("mailer", "mail-2"), ("wiki", "wiki-8"), ("shop-guest", "shop")):
        stage.define(name, image)
    stage.note("mail-2", *_WEB, "db-3", "wiki-8", "shop", "report-3", "crm", "class-7")
    _break(stage)
    stage.expect(*_REPORT_WORDS)


def _break(stage: Stage) -> None:
    """Do what went wrong in that week."""
    stage.forget_backing_format("mail-1")
    stage.move("web-base", "templates/web-base")
    stage.repoint("db-1", "db-3")
    digest = hashlib.sha256(Path(stage.path("shop-base")).read_bytes()).hexdigest()
    (stage.folder / "SHA256SUMS").write_text(f"{digest}  shop-base.qcow2\n", encoding="utf-8")
    stage.move("shop-base", "backup/copy-2")
    for copy, other in (("backup/copy-1", "golden"), ("backup/copy-3", "old-1")):
        shutil.copy(stage.path(other), stage.path(copy))
    # The work with qemu-img alone: the layer of friday is merged down, and the definition changed by hand.
    stage.run("qemu-img", "commit", "-q", "-d", stage.path("crm-friday"))
    stage.run("rm", stage.path("crm-friday"))
    crm = stage.lab.guest("crm")
    stage.lab.connection.defineXML(crm.xml().replace("/crm-friday.qcow2", "/crm.qcow2"))


def _aims(seen: Seen) -> Iterator[Aim]:
    yield says_format(seen, "mail-1")  # ticket 1
    for name in _WEB:  # ticket 2
        yield stands_on(seen, name, "templates/web-base")
    around = [seen.call(path) for loop in seen.forest.loops for path in loop]  # ticket 3
    found = t("these images form a loop: {names}", names=joined(around))
    yield Aim(t("no chain has a loop"), seen.image("db-3") is not None and not around, found)
    yield stands_on(seen, "db-1", "db-0")
    yield reads_as_before(seen, "shop", kept=False)  # ticket 4
    yield _short(seen)  # ticket 5
    yield protected(seen, "golden")  # ticket 6
    rows = [row.name for row in seen.snapshots.get("crm") or ()]  # ticket 7
    there = "crm" in seen.domains
    found = t("libvirt has these snapshots of {guest}: {names}", guest="crm", names=joined(rows))
    if not there:
        found = t("the guest {guest} no longer exists", guest="crm")
    yield Aim(t("every record matches the files"), there and not rows, found)
    left = [name for name in _UNUSED if seen.image(name)]  # ticket 8
    gone = not left and seen.image("golden") is not None
    yield Aim(t("unneeded images are removed"), gone, t("these still exist: {names}", names=joined(left)))
    yield answered(seen, t("the answer names exactly the files that report-3 consists of"))  # ticket 9
    yield from _kept(seen)


def _short(seen: Seen) -> Aim:
    lineage = seen.forest.known_lineage(seen.path("wiki-8")) if seen.image("wiki-8") else ()
    found = t("it has {count}: {chain}", count=len(lineage), chain=seen.row(seen.path("wiki-8")))
    if not lineage:
        found = t("{image}.qcow2 no longer exists", image="wiki-8")
    return Aim(t("the chain of wiki-8 has at most {count} images", count=_MOST), 0 < len(lineage) <= _MOST, found)


def _kept(seen: Seen) -> Iterator[Aim]:
    """Return what must not be damaged by any of it."""
    yield from unchanged(seen, "wiki-8", "report-3", "crm", "class-7")
    lost = [name for name in (*_COPIES, *_CLASS) if seen.image(name) is None]
    yield Aim(
        t("no backup and no disk of the class is lost"), not lost, t("missing: {names}", names=joined(lost)), True
    )
    for guest, image in (("mailer", "mail-2"), ("wiki", "wiki-8"), ("shop-guest", "shop"), ("crm", "crm")):
        yield source(seen, guest, "vda", image)
    # These were broken, so that nothing could be read; from when they can be read, it must be the right data.
    for name in ("mail-2", *_WEB, "db-3"):
        aim = reads_as_before(seen, name)
        wrong = not aim.met and aim.seen == t("{image} does not read the same data as at the start", image=name)
        yield Aim(aim.what, not wrong, aim.seen, kept=True)


CAPSTONE = (
    Exercise(
        name="broken-host",
        title=N_("A broken host"),
        topic="repair",
        level="hard",
        task=N_(
            "A host with forty images after a bad week; no guest is running. Work through the tickets. 1: mailer "
            "does not start: the format of a backing image was not specified. 2: web-1, web-2 and web-3 have lost "
            "their base, which was moved into the folder templates and must stay there. 3: db-3 cannot be opened "
            "because of a loop; its chain was db-0 <- db-1 <- db-2 <- db-3. 4: shop-guest has lost its base "
            "shop-base; one of the three images in the folder backup is an exact copy, and SHA256SUMS contains the "
            "checksum of the lost file. 5: the chain of wiki-8 has nine images; at most three are allowed, with "
            "wiki-8 at its top. 6: golden is the base of a whole class and can be written to. 7: libvirt lists a "
            "snapshot of crm whose file no longer exists. 8: the owners of old-1 and old-2 no longer need them: "
            "remove them. 9: which files must a backup contain so that report-3 can be read from it? Give their "
            "names with lab.answer. Every guest must read the same data as before, and no backup may be lost."
        ),
        build=_build,
        aims=_aims,
        guests=("crm", "mailer", "shop-guest", "wiki"),
    ),
)
