"""What speaks against deleting snapshots."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.concern import Concern, either, refuse, remark
from vmsnap_nb.plans.merge.steps import RemoveFile
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import counted, listed, t

__all__ = ["left_behind", "lost_snapshots", "other_guests"]


def other_guests(reading: Reading, written: Iterable[str]) -> Iterator[Concern]:
    """Check for other guests that read an image which would be written, though its content stays the same."""
    forest = reading.forest
    for path in dict.fromkeys(written):
        uses = forest.users(path) if path in forest.images else ()
        guests = tuple(dict.fromkeys(use.guest for use in uses if use.guest != reading.owner.domain.name))
        if guests:
            yield refuse(
                "shared-base",
                counted(
                    "{guests} depends on {image}, which this plan would write to",
                    "{guests} depend on {image}, which this plan would write to",
                    len(guests),
                    guests=listed(guests),
                    image=forest[path].name,
                ),
                either(
                    t("give {guest} a separate disk first by pulling everything into it", guest=guests[0]),
                    t("waive this, which is safe because the content of the guest's disk does not change"),
                ),
                images=(path,),
                holders=guests,
                waivable=True,
            )


def left_behind(after: Forest, records: Iterable[SnapshotRecord]) -> Iterator[Concern]:
    """Remark which images of the snapshots that go are needed by nothing any more, and stay anyway."""
    named = (path for record in records for disk in record.held_disks for path in (disk.source, disk.file) if path)
    for path in dict.fromkeys(named):
        image = after.images.get(path)
        if image is None or image.status != "ok" or after.known_users(path) or after.known_children(path):
            continue  # of most images that is all that must be found out
        if not after.needed_by(path):
            yield remark(
                "file-exists",
                t(
                    "{path} will not be removed, although none of the guests, snapshots and overlays that were read "
                    "needs it any more",
                    path=path,
                ),
                t("if you do not need its content, remove the file: {command}", command=shlex.join(("rm", "--", path))),
                images=(path,),
            )


def lost_snapshots(reading: Reading, after: Forest, steps: Iterable[Step]) -> Iterator[Concern]:
    """Check the snapshots that stay once more: none may be lost with those that go."""
    domain = reading.owner.domain
    removed = [step.path for step in steps if isinstance(step, RemoveFile)]
    for row in list_snapshots(domain, after, gone=removed):
        if row.status in ("stale", "missing-file") and row.name in reading.in_order:
            yield refuse(
                "shared-base",
                t("snapshot {name}, which must be kept, would be lost: {why}", name=row.name, why=row.problem),
                t("delete {name} first", name=row.name),
                images=row.record.files,
                holders=(domain.name,),
            )
