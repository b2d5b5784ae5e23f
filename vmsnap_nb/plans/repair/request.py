"""The request for a repaired copy of an image, and its plan; the image itself is never written to."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.checks.folders import free_name, room
from vmsnap_nb.plans.checks.layers import unreadable
from vmsnap_nb.plans.checks.users import in_use
from vmsnap_nb.plans.concern import Concern, refuse, sorted_concerns, warn
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.repair.steps import CopyImage, RepairCopy
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.words.message import Message, t

__all__ = ["RepairRequest"]

_REPAIRED = {"ok", "dirty", "corrupt"}


@dataclass(frozen=True, kw_only=True)
class RepairRequest:
    """A copy of an image, under a new path, in which QEMU repairs what it can."""

    image: str
    path: str

    def needs(self, _: Forest) -> Needs:
        """Return what must be read beside the forest."""
        return Needs(places=(self.path,))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest = reading.forest
        image = forest[forest.find(self.image)]
        size = image.allocated
        copy = replace(
            image,
            path=self.path,
            status="ok",
            problem="",
            identity=None,
            allocated=None,
            file_size=None,
            mtime_ns=None,
            writable=True,
            held="",
            dirty=False,
            corrupt=False,
        )
        return Plan(
            title=t("repair a copy of {image}", image=image.name),
            before=forest,
            steps=(
                CopyImage(source=image.path, path=self.path, identity=image.identity, size=size),
                RepairCopy(path=self.path),
            ),
            after=forest.edited(put=[copy]),
            concerns=sorted_concerns(self._concerns(reading, image)),
            way=t("qemu-img check -r all, on a copy: {image} itself is only read", image=image.name),
            space_needed=size or 0,
            subjects=(image.path, self.path),
        )

    def _concerns(self, reading: Reading, image: Image) -> Iterator[Concern]:
        """Return what speaks against it."""
        forest, path = reading.forest, image.path
        if forest.status(path) not in _REPAIRED | {"in-use"}:
            yield from unreadable(image, forest.status(path), remedy=t("restore it from a backup"))
        if why := _not_repaired(image):
            what = t("cannot repair a copy of {path}: {why}", path=path, why=why)
            yield refuse("not-supported", what, images=(path,))
        if image.backing is not None and image.backing.kind == "relative" and not _beside(path, self.path):
            yield refuse(
                "missing-base",
                t(
                    "{image} names its backing file relative to its own folder, so a copy in another folder would "
                    "not find it",
                    image=image.name,
                ),
                t("create the copy in {folder}", folder=os.path.dirname(path)),
                images=(path,),
            )
        yield from in_use(forest, (), (path,))
        yield from free_name(forest, reading.folders, self.path)
        yield from room(reading.folders, {os.path.dirname(self.path): image.allocated or 0})
        yield warn(
            "damaged-image",
            t(
                "QEMU makes the tables consistent, but cannot restore lost entries, so the copy may lack data or "
                "contain old data"
            ),
            t("check the copy, and compare it with a backup, before you replace {image} with it", image=image.name),
            images=(path,),
        )


def _not_repaired(image: Image) -> Message | None:
    if image.format is None:
        return t("its format is unknown, and only qcow2 can be repaired")
    if image.format != "qcow2":
        return t("it is {format}, and only qcow2 can be repaired", format=image.format)
    if image.encryption:
        return t(
            "it is encrypted ({encryption}), and qemu-img cannot open the image without the key",
            encryption=image.encryption,
        )
    if image.data_file is not None:
        return t("its data is in an external data file, which would not be copied")
    return None


def _beside(path: str, other: str) -> bool:
    return os.path.dirname(path) == os.path.dirname(other)
