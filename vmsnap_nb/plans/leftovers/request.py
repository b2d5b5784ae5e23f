"""To move or to remove what nothing needs: refused wherever something may need it."""

from __future__ import annotations

import os.path
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NO_FILE, Image
from vmsnap_nb.model.leftovers import Leftover
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.plans.checks.folders import free_name
from vmsnap_nb.plans.checks.needed import needed
from vmsnap_nb.plans.checks.notes import merging, pulling, strangers
from vmsnap_nb.plans.checks.readers import moved_into
from vmsnap_nb.plans.checks.users import in_use
from vmsnap_nb.plans.concern import Concern, refuse, remark, sorted_concerns, warn
from vmsnap_nb.plans.leftovers.find import find_leftovers, leftovers_needs, unseen
from vmsnap_nb.plans.leftovers.steps import MoveFile
from vmsnap_nb.plans.merge.checks import other_names
from vmsnap_nb.plans.merge.steps import RemoveFile, RemoveLeftover
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import Message, counted, joined, listed, t

__all__ = ["LeftoversRequest"]


@dataclass(frozen=True, kw_only=True)
class LeftoversRequest:
    """Move files to a folder, or remove them where none is given; `uri` says which libvirt was asked for guests."""

    paths: tuple[str, ...]
    folder: str | None = None
    uri: str = ""

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read beside the forest."""
        permits = () if self.folder is None else (*self.paths, self.folder)
        return replace(leftovers_needs(forest), places=self._targets, permits=permits)

    @property
    def _targets(self) -> tuple[str, ...]:
        return () if self.folder is None else tuple(map(self._target, self.paths))

    def _target(self, path: str) -> str:
        return os.path.join(self.folder or "", os.path.basename(path))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest = reading.forest
        if not self.paths:
            raise InvalidRequestError(
                t("move or remove unneeded files"),
                why=t(NO_FILE),
                next_step=t("no action is needed"),
            )
        found = {one.path: one for one in find_leftovers(reading, self.uri).files}
        order = [path for path in found if path in self.paths]
        going = [*order, *(path for path in self.paths if path not in found)]
        steps = tuple(self._step(reading, path) for path in going)
        images = [path for path in going if path in forest.images]
        taken = {self._target(path): found[path].allocated for path in order if self.folder is not None}
        return Plan(
            title=_title(len(going), self.folder),
            before=forest,
            steps=steps,
            after=self._after(forest, images),
            concerns=sorted_concerns(self._concerns(reading, found, going)),
            way=t("the files are removed. This cannot be undone")
            if self.folder is None
            else t("the files are moved to {folder}. Their content does not change", folder=self.folder),
            subjects=tuple(images),
            growth={path: size for path, size in taken.items() if size is not None},
        )

    def _after(self, forest: Forest, going: list[str]) -> Forest:
        """Return the forest afterwards: what is moved is in it where its folder is read, too."""
        after = forest.edited(drop=going)
        moved = [_moved(forest[path], self._target(path)) for path in going if self.folder is not None]
        moved = [image for image in moved if any(_is_below(image.path, folder) for folder in forest.folders)]
        after = after.edited(put=moved)
        named = (image.backing.path for image in moved if image.backing is not None)
        gone = (path for path in named if path is not None and path not in after.images)
        return after.edited(put=[Image(path, status="missing", problem=t(NO_FILE)) for path in gone])

    def _step(self, reading: Reading, path: str) -> Step:
        image = reading.forest.images.get(path)
        identity = image.identity if image is not None else reading.leftovers.get(path)
        if self.folder is not None:
            return MoveFile(path=path, to=self._target(path), identity=identity)
        if path in reading.leftovers:
            return RemoveLeftover(path=path, identity=reading.leftovers[path])
        return RemoveFile(path=path, identity=identity)

    def _concerns(self, reading: Reading, found: dict[str, Leftover], going: list[str]) -> Iterator[Concern]:
        forest = reading.forest
        images = tuple(path for path in going if path in forest.images)
        yield from needed(forest, lost=images)
        yield from in_use(forest, images)
        yield from merging(reading, images)
        yield from pulling(reading, images, lower=True)
        yield from strangers(reading)
        yield from self._about_each(forest, found, going)
        yield from other_names(forest, images)
        yield from self._about_the_unknown(forest, images)
        if self.folder is not None:
            yield from moved_into(reading.permits, going, self.folder)
        for target in self._targets:
            back = set(going).issuperset(forest.known_children(target))  # they name it, and are moved back with it
            shared = remark if back else refuse
            yield from free_name(forest, reading.folders, target, t("choose another folder"), shared=shared)
        if self.folder is not None and len(set(self._targets)) < len(self._targets):
            what = t(
                "several of the files have the same name, so they cannot all be moved to {folder}", folder=self.folder
            )
            yield refuse("file-exists", what, t("move the files of each source folder to a separate folder"))
        if self.folder is not None and (why := next(filter(None, map(reading.folders.of, self._targets)), "")):
            what = t("cannot create a file in {folder}: {why}", folder=self.folder, why=why)
            yield refuse("no-permission", what, t("choose another folder"))

    def _about_each(self, forest: Forest, found: dict[str, Leftover], going: list[str]) -> Iterator[Concern]:
        for path in going:
            one = found.get(path)
            if one is None:
                yield refuse("state-lost", *_needed_or_unknown(forest, path), images=(path,))
            elif one.doubt:
                concern = warn if self.folder is not None and one.kind != "memory" and self.uri else refuse
                what = t("{path} may still be needed: {why}", path=path, why=one.doubt)
                if self.folder is None:
                    remedy = t(
                        "if you are not certain, move the file to another folder instead of removing it. "
                        "Otherwise, waive this"
                    )
                elif concern is warn:
                    remedy = t("first check which guests use the file")
                else:
                    remedy = t("check which guests use the file, then waive this concern")
                yield concern("unknown-image", what, remedy, images=(path,), waivable=True)
            children = forest.known_children(path) if path in forest.images else ()
            staying = tuple(child for child in children if child not in going and forest.status(child) != "invalid")
            if staying:
                yield refuse(
                    "shared-base",
                    t(
                        "{overlays} would lose the backing file {image}",
                        overlays=listed(forest[child].name for child in staying),
                        image=forest[path].name,
                    ),
                    counted(
                        "include it in the plan if it is not needed either",
                        "include them in the plan if they are not needed either",
                        len(staying),
                    ),
                    images=(path, *staying),
                )

    def _about_the_unknown(self, forest: Forest, images: tuple[str, ...]) -> Iterator[Concern]:
        hidden = unseen(forest)
        if hidden and images:
            yield refuse(
                "unknown-image",
                t(
                    "{paths} could not be read, and may be based on one of the files in this plan",
                    paths=listed(hidden),
                ),
                counted(
                    "use an account that can read it, or pass its folder. Waive this if you know what it is",
                    "use an account that can read them, or pass their folders. Waive this if you know what they are",
                    len(hidden),
                ),
                images=hidden,
                waivable=True,
            )
        yield remark(
            "unknown-image",
            t(
                "only these folders were read: {folders}. A guest of another libvirt or machine, or an "
                "image in another folder, may still need the files",
                folders=joined(forest.folders),
            )
            if forest.folders
            else t(
                "only storage pools and the images of guests were read. A guest of another libvirt or "
                "machine, or an image in another folder, may still need the files"
            ),
            t("ask the owners of the files. Move the files to another folder first, and remove them later"),
            images=images,
        )


def _title(count: int, folder: str | None) -> Message:
    if folder is None:
        return counted("remove {count} unneeded file", "remove {count} unneeded files", count)
    return counted(
        "move {count} unneeded file to {folder}",
        "move {count} unneeded files to {folder}",
        count,
        folder=folder,
    )


def _moved(image: Image, to: str) -> Image:
    backing, folder = image.backing, os.path.dirname(to)
    if backing is not None:
        backing = parse_reference(backing.written, folder=folder, format=backing.format)
    return replace(image, path=to, backing=backing, identity=None)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _needed_or_unknown(forest: Forest, path: str) -> tuple[Message, Message]:
    if path in forest.images and (needs := forest.needed_by(path)):
        what = t("{path} is needed by {needs}", path=path, needs=listed(dict.fromkeys(need.text for need in needs)))
        return what, t("leave the file in place")
    return t("{path} is not among the unneeded files", path=path), t("choose from the files that leftovers() lists")
