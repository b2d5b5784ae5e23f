"""What QEMU's tools may open: while a plan runs the images of its steps, and what these are based on in the plan."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmsnap_nb.model.address import options_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.step import Step
from vmsnap_nb.system.confine import FileOf
from vmsnap_nb.system.files.owner import owner_of
from vmsnap_nb.system.other_formats import extents_of

__all__ = ["files_of", "files_of_chain", "parts_of"]


def files_of(plan: Plan) -> tuple[FileOf, ...] | None:
    """Return the files that the tools need for a plan; None where one of them is not on this machine."""
    forest = plan.before
    own = {path for step in plan.steps for path in (*step.creates, *step.replaces)}
    written = own.union(*map(_written, plan.steps))
    based = {path for step in plan.steps for path in step.based_again}.intersection(forest.images)
    written.update(overlay for path in based for overlay in forest.children(path))
    tops = (*written, *(path for step in plan.steps for path in step.relies), *plan.about)
    read = dict.fromkeys(layer for path in tops for layer in (path, *forest.known_lineage(path)))
    if not all(path.startswith("/") for path in read):
        return None
    return tuple(file for path in read for file in _files(forest, path, new=path in own, write=path in written))


def files_of_chain(forest: Forest, path: str) -> tuple[FileOf, ...]:
    """Return the files that the tools need to read an image through its chain."""
    return tuple(file for layer in (path, *forest.known_lineage(path)) for file in _files(forest, layer))


def _files(forest: Forest, path: str, *, new: bool = False, write: bool = False) -> Iterator[FileOf]:
    """Yield the files of one image; the one that was read, unless a plan makes it anew."""
    image = forest.images.get(path)
    yield FileOf(path=path, identity=None if image is None or new else image.identity, write=write)
    if image is not None:
        yield from parts_of(image, write=write)
        yield from _hidden_below(image)


def _written(step: Step) -> tuple[str, ...]:
    """Return what a step opens for writing; qemu-img opens the top of what it commits so, too."""
    return (*step.opens, *(step.relies if step.performer == "qemu-img" and step.writes else ()))


def _hidden_below(image: Image) -> Iterator[FileOf]:
    """Yield the files that a reference with options names, of which no other image says that it is based on them."""
    if image.backing is not None and not image.backing.is_plain:
        names = (options_of(image.backing.written.removeprefix("json:")) or {}).items()
        yield from (
            FileOf(path=name)
            for key, name in names
            if key.endswith("filename") and isinstance(name, str) and "/" in name
        )


def parts_of(image: Image, *, write: bool = False) -> Iterator[FileOf]:
    """Yield the other files that hold the data of an image."""
    if image.data_file is not None and image.data_file.path is not None and image.data_status == "ok":
        yield FileOf(path=_real(image.data_file.path), write=write)
    if image.format == "vmdk":
        yield from (FileOf(path=path, write=write) for path in extents_of(image.path))


def _real(path: str) -> str:
    """Return where a path leads, if nobody else has put a link there."""
    try:
        owner = owner_of(os.lstat(path))
    except OSError:
        return path
    return os.path.realpath(path) if owner in (0, os.geteuid()) else path
