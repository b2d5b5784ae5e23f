"""The request that finishes an interrupted change of a snapshot inside an image, and its plan."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.checks.folders import room
from vmsnap_nb.plans.checks.interrupted import who
from vmsnap_nb.plans.checks.layers import unreadable
from vmsnap_nb.plans.checks.users import in_use
from vmsnap_nb.plans.concern import Concern, refuse, remark, sorted_concerns
from vmsnap_nb.plans.journal import InsideEntry
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.repair.steps import SettleInside
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.words.message import Message, t

__all__ = ["FinishInsideRequest"]

_OPENED = {"ok", "dirty", "corrupt", "in-use"}


@dataclass(frozen=True, kw_only=True)
class FinishInsideRequest:
    """An image in which a snapshot was being made, removed or applied: it is checked, and repaired if it is damaged."""

    entry: InsideEntry

    def needs(self, _: Forest) -> Needs:
        """Return what must be read beside the forest."""
        return Needs(places=(self.entry.image,), checked=(self.entry.image,))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, entry = reading.forest, self.entry
        image = forest.images.get(entry.image)
        name = os.path.basename(entry.image)
        title = t("finish the internal snapshot {snapshot} in {image}", snapshot=entry.name, image=name)
        if image is None or forest.status(image.path) not in _OPENED:
            concerns = _missed(reading, entry, image)
            return Plan(title=title, before=forest, steps=(), after=forest, concerns=tuple(concerns), way=t("not now"))
        damaged = reading.damaged.get(image.path, "")
        size = (image.allocated or 0) if damaged else 0
        step = SettleInside(entry=entry, damaged=damaged, size=size)
        whole = replace(image, status="ok", problem="", identity=None, dirty=False, corrupt=False) if damaged else image
        return Plan(
            title=title,
            before=forest,
            steps=(step,),
            after=forest.edited(put=[whole]),
            concerns=sorted_concerns(_concerns(reading, entry, image, size)),
            way=Message("{damage}", damage=damaged) if damaged else t("its tables are consistent"),
            space_needed=size,
            subjects=(image.path,),
        )


def _concerns(reading: Reading, entry: InsideEntry, image: Image, size: int) -> Iterator[Concern]:
    """Return what speaks against it, and who has begun the change."""
    yield from in_use(reading.forest, (image.path,))
    yield from room(reading.folders, {os.path.dirname(image.path): size} if size else {})
    fact = next(iter(entry.files), None)
    if fact is None or image.identity != (fact.device, fact.inode):
        yield refuse(
            "disk-changed",
            t(
                "{image} is not the file whose internal snapshot {snapshot} was being changed",
                image=image.path,
                snapshot=entry.name,
            ),
            _or_forget(entry),
            images=(image.path,),
        )
    if entry.began is not None:
        yield remark("active-job", t("the operation was started by {who}", who=who(entry.began)), images=(image.path,))


def _missed(reading: Reading, entry: InsideEntry, image: Image | None) -> Iterator[Concern]:
    """Refuse to finish it in an image that is not there, or cannot be read."""
    if image is not None:
        yield from unreadable(image, reading.forest.status(image.path), remedy=_or_forget(entry))
    yield refuse(
        "missing-base",
        t(
            "an operation on the internal snapshot {snapshot} in {image} was interrupted, and the image cannot be "
            "read now",
            snapshot=entry.name,
            image=entry.image,
        ),
        _or_forget(entry),
        images=(entry.image,),
    )


def _or_forget(entry: InsideEntry) -> Message:
    return t("restore that image. If no operation is pending, remove {entry}", entry=entry.path)
